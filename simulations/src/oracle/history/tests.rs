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
    history.new_life();
    let since = history.now();
    assert!(history.observe(since, |state| !has_tag("x")(state)).is_ok());
    let since = history.now();
    assert!(history.observe(since, has_tag("x")).is_err());
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
