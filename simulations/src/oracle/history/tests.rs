//! Which states an image may be in after answers that were seen and answers that were not.

use super::super::state::{Life, Record};
use super::*;
use crate::workload::content::ContentId;

fn queued() -> State {
    let record = Record {
        life: Life::Queued,
        content: None,
        name: "a".into(),
        min_ram: 0,
        tags: BTreeSet::new(),
        properties: BTreeMap::new(),
    };
    State::Here(record)
}

fn has_tag(tag: &'static str) -> impl Fn(&State) -> bool {
    move |state| matches!(state, State::Here(record) if record.tags.contains(tag))
}

fn has_ram(ram: u64) -> impl Fn(&State) -> bool {
    move |state| matches!(state, State::Here(record) if record.min_ram == ram)
}

/// A timeout proves nothing: both a state with the change and one without must stay possible.
#[test]
fn an_unknown_outcome_leaves_both_possible() {
    let mut history = History::certain(queued());
    let id = history.begin(Op::AddTag("x".into()));
    history.unknown(id);
    let since = history.now();
    assert!(history.observe(since, |state| !has_tag("x")(state)).is_ok());
    let since = history.now();
    assert!(history.observe(since, has_tag("x")).is_ok(), "it may happen after a read that missed it");
    let since = history.now();
    assert!(history.observe(since, |state| !has_tag("x")(state)).is_err(), "it does not go away again");
}

/// After a restart an unknown request no longer happens: a read settles it for good.
#[test]
fn a_restart_ends_what_nobody_waits_for() {
    let mut history = History::certain(queued());
    let id = history.begin(Op::AddTag("x".into()));
    history.unknown(id);
    history.settle();
    let since = history.now();
    assert!(history.observe(since, |state| !has_tag("x")(state)).is_ok());
    let since = history.now();
    assert!(history.observe(since, has_tag("x")).is_err());
}

/// I-M1 across nodes: one client saw the change on one node, so no client may miss it later on another,
/// although nobody was ever told that it happened. A follower that answers from its own state alone
/// is found by this.
#[test]
fn a_stale_read_is_found() {
    let mut history = History::certain(queued());
    let id = history.begin(Op::AddTag("x".into()));
    history.unknown(id);
    let since = history.now();
    history.observe(since, has_tag("x")).unwrap();
    let other = history.begin(Op::Patch(vec![super::super::state::Change::MinRam(7)]));
    history.done(other).unwrap();

    let stale = history.observe(history.now(), |state| *state == queued());
    let half_stale = history.observe(history.now(), |state| has_tag("x")(state) && !has_ram(7)(state));

    assert!(stale.is_err() && half_stale.is_err());
}

/// A read that began before a change was acknowledged may miss it, and only such a read.
#[test]
fn a_read_may_be_as_old_as_its_beginning() {
    let mut history = History::certain(queued());
    let id = history.begin(Op::AddTag("x".into()));
    let before = history.now();
    history.done(id).unwrap();
    assert!(history.observe(before, |state| *state == queued()).is_ok());
    assert!(history.observe(history.now(), |state| *state == queued()).is_err());
}

/// In a cluster the crash of one node proves nothing: what it was asked may still happen, also twice
/// removed from the request, and a change that comes late must not look like a phantom.
#[test]
fn an_unknown_change_may_come_late() {
    let mut history = History::certain(queued());
    let late = history.begin(Op::Delete);
    history.unknown(late);
    for ram in 1..5 {
        let id = history.begin(Op::Patch(vec![super::super::state::Change::MinRam(ram)]));
        history.done(id).unwrap();
        history.observe(history.now(), has_ram(ram)).unwrap();
    }
    assert!(history.observe(history.now(), |state| *state == State::Deleted).is_ok());
    assert!(history.observe(history.now(), has_ram(4)).is_err(), "and then it has happened");
}

/// I-M14: a change that was acknowledged once must not happen again over a later one.
#[test]
fn a_change_that_happens_twice_is_found() {
    let mut history = History::certain(queued());
    let add = history.begin(Op::AddTag("x".into()));
    history.done(add).unwrap();
    let remove = history.begin(Op::RemoveTag("x".into()));
    history.done(remove).unwrap();
    assert!(history.observe(history.now(), has_tag("x")).is_err());
}

/// I-M2, the heart of it: an acknowledged change that a later read misses is a violation.
#[test]
fn an_acknowledged_change_must_be_there() {
    let mut history = History::certain(queued());
    let id = history.begin(Op::AddTag("x".into()));
    history.done(id).unwrap();
    let since = history.now();
    assert!(history.observe(since, |state| *state == queued()).is_err());
}

/// Of two uploads at once one wins, and the other is told 409 for a reason.
#[test]
fn two_uploads_cannot_both_win() {
    let mut history = History::certain(queued());
    let first = history.begin(Op::Upload(ContentId(1)));
    let second = history.begin(Op::Upload(ContentId(2)));
    history.done(first).unwrap();
    assert!(history.done(second).is_err());
    assert!(history.refused(first, 409).is_ok(), "a request that is over is not checked again");
}

/// 404 for an image that certainly exists is a lost image, not a refusal.
#[test]
fn a_refusal_needs_a_reason() {
    let mut history = History::certain(queued());
    let id = history.begin(Op::Delete);
    assert!(history.refused(id, 404).is_err());
}
