//! One effect for each request, however often it is proposed (I-M14).
//!
//! The node that takes a request gives it a [`ProposalKey`] and proposes it again under the same key
//! when the answer was lost. Applying remembers the reply under the key, and a second entry with the
//! key gets the remembered reply and changes nothing. Each proposal also says which of its node's
//! requests are over, so that no more replies are kept than requests are in flight.
//!
//! This is part of the replicated state: it is written in the batch of its entry and travels in
//! snapshots. What a node proposed before it restarted and was applied only afterwards is dropped: it
//! gave those requests up.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use peerglass_catalog::keyspace::{Batch, Direction, KeyRange, Read};
use peerglass_catalog::{Fault, NodeId};
use serde::{Deserialize, Serialize};

use crate::log::{decode, encode};
use crate::raft::Reply;

const FLOORS: &[u8] = b"#f";
const REPLIES: &[u8] = b"#r";

/// Names one request of one start of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProposalKey {
    /// The node that took the request.
    pub(crate) node: NodeId,
    /// Its boot epoch.
    pub(crate) epoch: u64,
    /// Counted by that node from 1.
    pub(crate) sequence: u64,
}

/// What is remembered of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    epoch: u64,
    /// Every request below is over.
    settled: u64,
    replies: BTreeMap<u64, Reply>,
}

/// What to do with an entry.
pub(crate) enum Verdict {
    /// Carry it out.
    New,
    /// It was carried out before, with this reply.
    Known(Reply),
    /// Nobody waits for it any more, and nothing says whether it was carried out before.
    Over,
}

/// The sessions of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sessions(BTreeMap<NodeId, Session>);

impl Sessions {
    /// What `read` holds.
    pub(crate) fn load(read: &dyn Read) -> Result<Self, Fault> {
        let mut sessions = BTreeMap::<NodeId, Session>::new();
        for found in read.scan(KeyRange::prefix(FLOORS), Direction::Ascending) {
            let (key, value) = found?;
            let (epoch, settled) = decode("session", &key, &value)?;
            let node = number_at(&key, FLOORS.len())?;
            sessions.insert(NodeId(node), Session { epoch, settled, replies: BTreeMap::new() });
        }
        for found in read.scan(KeyRange::prefix(REPLIES), Direction::Ascending) {
            let (key, value) = found?;
            let node = NodeId(number_at(&key, REPLIES.len())?);
            let sequence = number_at(&key, REPLIES.len() + 8)?;
            let session = sessions.get_mut(&node);
            let session = session.ok_or_else(|| Fault::Damaged { what: "session", key: key.clone() })?;
            session.replies.insert(sequence, decode("reply", &key, &value)?);
        }
        Ok(Self(sessions))
    }

    /// Write all of them, into a state without any.
    pub(crate) fn store(&self, batch: &mut Batch) {
        for (node, session) in &self.0 {
            batch.put(floor_key(*node), encode(&(session.epoch, session.settled)));
            for (sequence, reply) in &session.replies {
                batch.put(reply_key(*node, *sequence), encode(reply));
            }
        }
    }

    /// Whether the entry under `key` is new. `settled` is what its node says is over.
    pub(crate) fn judge(&mut self, key: ProposalKey, settled: u64, changes: &mut Changes) -> Verdict {
        let session = self.0.entry(key.node).or_default();
        if key.epoch < session.epoch {
            return Verdict::Over;
        }
        let known = (key.epoch == session.epoch).then(|| session.replies.get(&key.sequence).cloned());
        if let Some(Some(reply)) = known {
            return Verdict::Known(reply);
        }
        if key.epoch == session.epoch && key.sequence < session.settled {
            return Verdict::Over;
        }
        let starts_over = key.epoch > session.epoch;
        let floor = if starts_over { u64::MAX } else { settled.max(session.settled) };
        let kept = session.replies.split_off(&floor);
        for sequence in std::mem::replace(&mut session.replies, kept).into_keys() {
            changes.remove(reply_key(key.node, sequence));
        }
        if starts_over || settled > session.settled {
            (session.epoch, session.settled) = (key.epoch, settled);
            changes.0.insert(floor_key(key.node), Row::Over(encode(&(session.epoch, session.settled))));
        }
        Verdict::New
    }

    /// The entry under `key` came to `reply`.
    pub(crate) fn remember(&mut self, key: ProposalKey, reply: &Reply, changes: &mut Changes) {
        if let Some(session) = self.0.get_mut(&key.node) {
            session.replies.insert(key.sequence, reply.clone());
            changes.add(reply_key(key.node, key.sequence), encode(reply));
        }
    }
}

/// What becomes of each row of the sessions. The last word on a row counts, so that entries applied in
/// one group leave the same rows as the same entries applied one by one.
#[derive(Default)]
pub(crate) struct Changes(BTreeMap<Vec<u8>, Row>);

/// What becomes of one row.
enum Row {
    /// It is new: if it goes before it was written, there is nothing to remove.
    New(Vec<u8>),
    /// It is put over whatever is there.
    Over(Vec<u8>),
    /// It goes.
    Gone,
}

impl Changes {
    /// Put a row that only an earlier one of these changes may have touched: a reply is remembered once.
    fn add(&mut self, key: Vec<u8>, value: Vec<u8>) {
        match self.0.entry(key) {
            Entry::Vacant(row) => _ = row.insert(Row::New(value)),
            Entry::Occupied(mut row) => _ = row.insert(Row::Over(value)),
        }
    }

    fn remove(&mut self, key: Vec<u8>) {
        match self.0.entry(key) {
            Entry::Occupied(row) if matches!(row.get(), Row::New(_)) => _ = row.remove(),
            Entry::Occupied(mut row) => _ = row.insert(Row::Gone),
            Entry::Vacant(row) => _ = row.insert(Row::Gone),
        }
    }

    /// Add them to the batch of the entries they belong to.
    pub(crate) fn write(self, batch: &mut Batch) {
        batch.changes.extend(self.0.into_iter().map(|(key, row)| match row {
            Row::New(value) | Row::Over(value) => (key, Some(value)),
            Row::Gone => (key, None),
        }));
    }
}

fn floor_key(node: NodeId) -> Vec<u8> {
    [FLOORS, &node.0.to_be_bytes()].concat()
}

fn reply_key(node: NodeId, sequence: u64) -> Vec<u8> {
    [REPLIES, &node.0.to_be_bytes(), &sequence.to_be_bytes()].concat()
}

fn number_at(key: &[u8], at: usize) -> Result<u64, Fault> {
    let bytes = key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| Fault::Damaged { what: "session", key: key.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(epoch: u64, sequence: u64) -> ProposalKey {
        ProposalKey { node: NodeId(7), epoch, sequence }
    }

    /// Apply an entry and say whether it was carried out.
    fn apply(sessions: &mut Sessions, key: ProposalKey, settled: u64, batch: &mut Batch) -> bool {
        let mut changes = Changes::default();
        let new = matches!(sessions.judge(key, settled, &mut changes), Verdict::New);
        if new {
            sessions.remember(key, &Reply::Nothing, &mut changes);
        }
        changes.write(batch);
        new
    }

    /// A lost answer, a second proposal, and both in the log.
    #[test]
    fn the_same_key_is_carried_out_once_and_answered_twice() {
        let (mut sessions, mut batch) = (Sessions::default(), Batch::default());
        assert!(apply(&mut sessions, key(1, 1), 1, &mut batch));
        assert!(!apply(&mut sessions, key(1, 1), 1, &mut batch));
        let verdict = sessions.judge(key(1, 1), 1, &mut Changes::default());
        assert!(matches!(verdict, Verdict::Known(Reply::Nothing)));
    }

    #[test]
    fn what_is_over_is_forgotten_and_never_carried_out() {
        let (mut sessions, mut batch) = (Sessions::default(), Batch::default());
        for sequence in 1..=5 {
            assert!(apply(&mut sessions, key(1, sequence), 1, &mut batch));
        }
        assert!(apply(&mut sessions, key(1, 6), 6, &mut batch));
        assert!(!apply(&mut sessions, key(1, 3), 1, &mut batch), "settled, so it is dropped");
        assert!(apply(&mut sessions, key(2, 1), 1, &mut batch), "a restart counts from 1 again");
        assert!(!apply(&mut sessions, key(1, 9), 9, &mut batch), "and what was before it is over");
        let replies = batch.changes.iter().filter(|(key, value)| key.starts_with(REPLIES) && value.is_some());
        assert_eq!(replies.count(), 1);
    }

    /// I-M6: how entries are grouped is up to each replica, and must not show.
    #[test]
    fn a_group_leaves_the_rows_of_its_entries_one_by_one() {
        // The second has rows of an older start, under the numbers of the newer one, when its last group begins.
        let settling = [(1, 1, 1), (1, 2, 2), (1, 3, 2), (1, 4, 4), (2, 1, 1), (2, 2, 2)];
        let restarting = [(1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 2)];
        let rows = |entries: &[(u64, u64, u64)], group: usize| {
            let (mut sessions, mut map) = (Sessions::default(), BTreeMap::new());
            for group in entries.chunks(group) {
                let mut changes = Changes::default();
                for (epoch, sequence, settled) in group {
                    sessions.judge(key(*epoch, *sequence), *settled, &mut changes);
                    sessions.remember(key(*epoch, *sequence), &Reply::Nothing, &mut changes);
                }
                let mut batch = Batch::default();
                changes.write(&mut batch);
                peerglass_catalog::apply_batch(&mut map, batch);
            }
            map
        };
        for entries in [&settling[..], &restarting] {
            assert!((2..=6).all(|group| rows(entries, group) == rows(entries, 1)));
        }
    }

    /// I-M7: what is written is what is read back.
    #[test]
    fn sessions_survive_a_restart() {
        let (mut sessions, mut batch) = (Sessions::default(), Batch::default());
        for (epoch, sequence, settled) in [(1, 1, 1), (1, 2, 1), (1, 3, 2), (2, 1, 1), (2, 5, 1)] {
            apply(&mut sessions, key(epoch, sequence), settled, &mut batch);
        }
        let mut map = BTreeMap::new();
        peerglass_catalog::apply_batch(&mut map, batch);
        assert_eq!(Sessions::load(&map).unwrap(), sessions);
        let mut whole = Batch::default();
        sessions.store(&mut whole);
        let mut other = BTreeMap::new();
        peerglass_catalog::apply_batch(&mut other, whole);
        assert_eq!(map, other);
    }
}
