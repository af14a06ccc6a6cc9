//! Everything that may be true of one image, given what its clients were told.
//!
//! A request whose outcome is unknown may have happened, or may happen later, as long as any node
//! may still carry it out. So a [`History`] holds every [`Hypothesis`] that the answers so far allow: a
//! state, and the requests that have not happened yet in it. An answer strikes out those that
//! contradict it; when none is left, the node broke a promise. This is the search of a
//! linearizability checker, done as the run goes, one image at a time (I-M1).

use std::collections::{BTreeMap, BTreeSet};

use super::state::{Op, State};

/// Hypotheses beyond which a history is given up as too vague to check. Rare: it takes many unknown
/// outcomes on one image between two settlements.
const HYPOTHESES_MAX: usize = 4_000;

/// What an upload is told while another one holds the image.
const IN_PROGRESS: u16 = 409;

/// One request, within its image's history.
pub(crate) type OpId = u64;

/// One thing that may be true now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hypothesis {
    state: State,
    /// Requests that may still happen.
    left: BTreeSet<OpId>,
}

struct Pending {
    op: Op,
    /// Whether its client still waits.
    in_flight: bool,
    /// Status codes that some moment since it was sent would refuse it with.
    refusals: BTreeSet<u16>,
}

/// What was possible between two events.
struct Moment {
    states: BTreeSet<State>,
    /// Uploads that may be going on.
    uploads: usize,
}

/// Where in a history a request or a read began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(usize);

/// What may be true of one image.
pub(crate) struct History {
    hypotheses: BTreeSet<Hypothesis>,
    pending: BTreeMap<OpId, Pending>,
    moments: Vec<Moment>,
    next: OpId,
    vague: bool,
}

/// An answer that no hypothesis allows. What was possible instead.
#[derive(Debug)]
pub(crate) struct Impossible(pub(crate) String);

impl History {
    /// An image that certainly is in `state`.
    pub(crate) fn certain(state: State) -> Self {
        let start = Hypothesis { state, left: BTreeSet::new() };
        let mut history = Self {
            hypotheses: BTreeSet::from([start]),
            pending: BTreeMap::new(),
            moments: Vec::new(),
            next: 0,
            vague: false,
        };
        history.close();
        history
    }

    /// Now, as the beginning of a read.
    pub(crate) fn now(&self) -> Since {
        Since(self.moments.len() - 1)
    }

    /// A request is sent.
    pub(crate) fn begin(&mut self, op: Op) -> OpId {
        let id = self.next;
        self.next += 1;
        self.pending.insert(id, Pending { op, in_flight: true, refusals: BTreeSet::new() });
        self.edit(|hypothesis| {
            hypothesis.left.insert(id);
        });
        self.close();
        id
    }

    /// It was acknowledged.
    pub(crate) fn done(&mut self, id: OpId) -> Result<(), Impossible> {
        let possible = self.describe();
        self.hypotheses.retain(|hypothesis| !hypothesis.left.contains(&id));
        self.forget(id);
        self.checked(possible)
    }

    /// It was refused with `status`: it did not happen and never will.
    pub(crate) fn refused(&mut self, id: OpId, status: u16) -> Result<(), Impossible> {
        let Some(pending) = self.pending.get(&id) else { return Ok(()) };
        if !self.vague && !pending.refusals.contains(&status) {
            return Err(Impossible(self.describe()));
        }
        self.never(id)
    }

    /// It certainly did not happen and never will, whatever the reason.
    pub(crate) fn never(&mut self, id: OpId) -> Result<(), Impossible> {
        let possible = self.describe();
        self.hypotheses.retain(|hypothesis| hypothesis.left.contains(&id));
        self.forget(id);
        self.checked(possible)
    }

    /// Its client gave up waiting.
    pub(crate) fn unknown(&mut self, id: OpId) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.in_flight = false;
        }
    }

    /// What was asked before and nobody waits for either happened by now or never will.
    pub(crate) fn settle(&mut self) {
        let over: Vec<OpId> =
            self.pending.iter().filter(|(_, op)| !op.in_flight).map(|(id, _)| *id).collect();
        for id in over {
            self.forget(id);
        }
        self.close();
    }

    /// A read that began at `since` saw something that `fits` some states.
    pub(crate) fn observe(&mut self, since: Since, fits: impl Fn(&State) -> bool) -> Result<(), Impossible> {
        if self.vague {
            return Ok(());
        }
        if !self.window(since).any(|moment| moment.states.iter().any(&fits)) {
            return Err(Impossible(self.describe_since(since)));
        }
        if since.0 == self.moments.len() - 1 {
            // Nothing else was told or asked meanwhile, so it narrows down what is true now.
            self.hypotheses.retain(|hypothesis| fits(&hypothesis.state));
            self.close();
        }
        Ok(())
    }

    /// Every state that was possible at some time since.
    pub(crate) fn possible_since(&self, since: Since) -> impl Iterator<Item = &State> {
        self.window(since).flat_map(|moment| &moment.states)
    }

    /// Whether an upload may have been going on since.
    pub(crate) fn uploading_since(&self, since: Since) -> bool {
        self.window(since).any(|moment| moment.uploads > 0)
    }

    /// Uploads whose clients still wait.
    pub(crate) fn uploads_in_flight(&self) -> usize {
        self.pending.values().filter(|pending| pending.in_flight && pending.op.is_upload()).count()
    }

    /// Every state that is possible now.
    pub(crate) fn possible(&self) -> &BTreeSet<State> {
        &self.last().states
    }

    /// Whether nothing can be checked any more.
    pub(crate) fn is_vague(&self) -> bool {
        self.vague
    }

    fn last(&self) -> &Moment {
        self.moments.last().expect("a history begins with a moment")
    }

    fn window(&self, since: Since) -> impl Iterator<Item = &Moment> {
        self.moments[since.0..].iter()
    }

    fn forget(&mut self, id: OpId) {
        self.pending.remove(&id);
        self.edit(|hypothesis| {
            hypothesis.left.remove(&id);
        });
    }

    fn edit(&mut self, edit: impl Fn(&mut Hypothesis)) {
        let edited = std::mem::take(&mut self.hypotheses).into_iter().map(|mut hypothesis| {
            edit(&mut hypothesis);
            hypothesis
        });
        self.hypotheses = edited.collect();
    }

    fn checked(&mut self, possible: String) -> Result<(), Impossible> {
        if self.hypotheses.is_empty() && !self.vague {
            return Err(Impossible(possible));
        }
        self.close();
        Ok(())
    }

    /// Add everything that can happen from here, and remember the moment.
    fn close(&mut self) {
        let mut new: Vec<Hypothesis> = self.hypotheses.iter().cloned().collect();
        while let Some(hypothesis) = new.pop() {
            for id in &hypothesis.left {
                let Some(pending) = self.pending.get(id) else { continue };
                let Ok(state) = pending.op.apply(&hypothesis.state) else { continue };
                let mut next = Hypothesis { state, left: hypothesis.left.clone() };
                next.left.remove(id);
                if self.hypotheses.insert(next.clone()) {
                    new.push(next);
                }
            }
            if self.hypotheses.len() > HYPOTHESES_MAX {
                self.vague = true;
                new.clear();
            }
        }
        let states = self.hypotheses.iter().map(|hypothesis| hypothesis.state.clone()).collect();
        let uploads = self.pending.values().filter(|pending| pending.op.is_upload()).count();
        self.moments.push(Moment { states, uploads });
        for (id, pending) in &mut self.pending {
            // Its own effect is no reason to refuse it, so only where it has not happened yet.
            for hypothesis in self.hypotheses.iter().filter(|hypothesis| hypothesis.left.contains(id)) {
                pending.refusals.extend(pending.op.apply(&hypothesis.state).err().unwrap_or_default());
            }
            if pending.op.is_upload() && uploads > 1 {
                pending.refusals.insert(IN_PROGRESS);
            }
        }
    }

    fn describe(&self) -> String {
        describe(self.last().states.iter())
    }

    fn describe_since(&self, since: Since) -> String {
        describe(self.possible_since(since).collect::<BTreeSet<_>>().into_iter())
    }
}

fn describe<'a>(states: impl Iterator<Item = &'a State>) -> String {
    let mut states: Vec<String> = states.map(|state| format!("{state:?}")).collect();
    let more = states.len().saturating_sub(4);
    states.truncate(4);
    let tail = if more > 0 { format!(" or {more} others") } else { String::new() };
    states.join("\n            or ") + &tail
}

#[cfg(test)]
mod tests;
