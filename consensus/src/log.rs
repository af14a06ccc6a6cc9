//! The Raft log on disk.
//!
//! Entries, the vote and the commit mark live in one [`Keyspace`]. `append` makes entries readable
//! and returns; the [flush task](flush) syncs once for everything that queued meanwhile and only
//! then reports them durable, so many writers share one fsync. Acknowledging before that sync is
//! the bug this module exists to prevent. The [last entries](recent) are kept in memory as well.
//!
//! ```text
//! e index:u64be   one entry          p   last purged log id
//! v               vote               c   committed log id
//! (other letters)  who this node is, see `identity`
//! ```

mod flush;
mod recent;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, entry::RaftEntry};
use peerglass_catalog::keyspace::{self, Batch, Direction, KeyRange, Keyspace, Read};
use peerglass_catalog::{Fault, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::mutation::{self, Mutation};
use crate::raft::{Entry, LogId, Types, Vote};
use crate::recover::{Survey, membership_of};
pub(crate) use flush::Flusher;
use recent::Recent;

const ENTRIES: u8 = b'e';
const VOTE: &[u8] = b"v";
const COMMITTED: &[u8] = b"c";
const PURGED: &[u8] = b"p";
const VERSION: u8 = 1;
/// Most entries fit, so that they are allocated once.
const USUAL_VALUE_BYTES: usize = 1_024;

/// The log of one node.
#[derive(Clone)]
pub(crate) struct LogStore {
    disk: Arc<dyn Keyspace>,
    flusher: Flusher,
    /// Shared by all who read this log. Never ahead of the disk, and behind it no longer than until an append has
    /// returned: nobody reads what was not reported to be appended.
    recent: Arc<Mutex<Recent>>,
}

impl LogStore {
    pub(crate) fn new(disk: Arc<dyn Keyspace>, flusher: Flusher) -> Self {
        Self { disk, flusher, recent: Arc::default() }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there never was an entry.
    pub(crate) fn is_empty(disk: &dyn Keyspace) -> Result<bool, Fault> {
        keyspace::look(disk, |read| Ok(last_log_id(read)?.is_none()))
    }

    /// Index of the last entry, purged or not; 0 for none.
    pub(crate) fn last_index(disk: &dyn Keyspace) -> Result<u64, Fault> {
        keyspace::look(disk, |read| Ok(last_log_id(read)?.map_or(0, |id| id.index)))
    }

    /// Index of the last entry that was purged; 0 for none.
    pub(crate) fn purged_index(disk: &dyn Keyspace) -> Result<u64, Fault> {
        Ok(get::<LogId>(disk, "purge mark", PURGED)?.map_or(0, |id| id.index))
    }

    /// If the log ends before `installed`, it goes on behind it: an installed snapshot holds all of it.
    pub(crate) async fn begin_after(disk: &dyn Keyspace, installed: LogId) -> Result<(), Fault> {
        if Self::last_index(disk)? >= installed.index {
            return Ok(());
        }
        disk.write(purged_up_to(installed))?;
        disk.sync().await
    }

    async fn write_synced(&self, batch: Batch) -> io::Result<()> {
        self.disk.write(batch).map_err(io::Error::other)?;
        self.flusher.sync().await
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        if let Some(entries) = self.recent().range(from, to) {
            return Ok(entries);
        }
        let range = KeyRange { from: entry_key(from), to: Some(entry_key(to)) };
        keyspace::look(&*self.disk, |read| read_entries(read, range)).map_err(io::Error::other)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        get(&*self.disk, "vote", VOTE).map_err(io::Error::other)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        keyspace::look(&*self.disk, |read| {
            Ok(LogState {
                last_purged_log_id: get(read, "purge mark", PURGED)?,
                last_log_id: last_log_id(read)?,
            })
        })
        .map_err(|fault: Fault| io::Error::other(fault))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let mut batch = Batch::default();
        put_vote(&mut batch, vote);
        self.write_synced(batch).await
    }

    /// Not synced: it only spares replay the wait for a leader, and an older mark is still true.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut batch = Batch::default();
        match committed {
            Some(id) => batch.put(COMMITTED.to_vec(), encode(&id)),
            None => batch.remove(COMMITTED.to_vec()),
        }
        self.disk.write(batch).map_err(io::Error::other)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        get(&*self.disk, "commit mark", COMMITTED).map_err(io::Error::other)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::default();
        let mut appended = Vec::new();
        for entry in entries {
            let entry = in_one_step(entry);
            let bytes = put_entry(&mut batch, &entry);
            appended.push((entry, bytes));
        }
        self.disk.write(batch).map_err(io::Error::other)?;
        self.recent().extend(appended);
        self.flusher.sync_then(callback).await
    }

    /// Synced, because a later append reuses the indexes and must not meet the old entries again.
    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index.saturating_add(1));
        self.recent().forget(); // also if the write fails: it may have been done
        let mut batch = Batch::default();
        batch.clear(KeyRange { from: entry_key(from), to: Some(vec![ENTRIES + 1]) });
        self.write_synced(batch).await
    }

    async fn purge(&mut self, up_to: LogId) -> io::Result<()> {
        self.recent().forget_up_to(up_to.index);
        self.disk.write(purged_up_to(up_to)).map_err(io::Error::other)
    }
}

fn purged_up_to(up_to: LogId) -> Batch {
    let mut batch = Batch::default();
    batch.clear(KeyRange { from: entry_key(0), to: Some(entry_key(up_to.index.saturating_add(1))) });
    batch.put(PURGED.to_vec(), encode(&up_to));
    batch
}

/// What the log holds, and the last membership in it behind entry `applied`.
pub(crate) fn survey(disk: &dyn Keyspace, applied: u64) -> Result<Survey, Fault> {
    keyspace::look(disk, |read| {
        let behind = KeyRange { from: entry_key(applied.saturating_add(1)), to: Some(vec![ENTRIES + 1]) };
        let mut membership = None;
        for found in read.scan(behind, Direction::Ascending) {
            let (key, value) = found?;
            membership = membership_of(&decode("log entry", &key, &value)?).or(membership);
        }
        Ok(Survey {
            last: last_log_id(read)?,
            committed: get(read, "commit mark", COMMITTED)?,
            vote: get(read, "vote", VOTE)?,
            membership,
        })
    })
}

/// How many bytes it takes.
pub(crate) fn put_entry(batch: &mut Batch, entry: &Entry) -> usize {
    let encoded = encode(entry);
    let bytes = encoded.len();
    batch.put(entry_key(entry.index()), encoded);
    bytes
}

/// The entry itself; with a known bug put back, without the old voters of a change.
fn in_one_step(mut entry: Entry) -> Entry {
    if !mutation::is(Mutation::MembershipInOneStep) {
        return entry;
    }
    if let EntryPayload::Membership(joint) = &entry.payload {
        let voters = joint.get_joint_config().last().cloned().into_iter().collect();
        let nodes: BTreeMap<_, _> = joint.nodes().map(|(node, entry)| (*node, entry.clone())).collect();
        let alone = openraft::Membership::new(voters, nodes).expect("its voters were members before");
        entry.payload = EntryPayload::Membership(alone);
    }
    entry
}

/// Let a node that led when it ended start as a follower; the caller syncs.
///
/// openraft would have it lead its old term on at once. But the commit mark is not synced, so such a
/// leader may take less for committed than it acknowledged, and answer a read from before that. A leader
/// that is elected commits an entry of its own first.
pub(crate) fn step_down(disk: &dyn Keyspace, node: NodeId) -> Result<(), Fault> {
    let led = |vote: &Vote| vote.committed && vote.leader_id.voted_for == node.0;
    if let Some(vote) = get::<Vote>(disk, "vote", VOTE)?.filter(led) {
        let mut batch = Batch::default();
        put_vote(&mut batch, &Vote { committed: false, ..vote });
        disk.write(batch)?;
    }
    Ok(())
}

pub(crate) fn put_vote(batch: &mut Batch, vote: &Vote) {
    batch.put(VOTE.to_vec(), encode(vote));
}

fn entry_key(index: u64) -> Vec<u8> {
    [&[ENTRIES][..], &index.to_be_bytes()].concat()
}

/// The entries of `range`. A gap between them is damage: Raft would take it for "not written yet".
fn read_entries(read: &dyn Read, range: KeyRange) -> Result<Vec<Entry>, Fault> {
    let mut entries: Vec<Entry> = Vec::new();
    for found in read.scan(range, Direction::Ascending) {
        let (key, value) = found?;
        let entry: Entry = decode("log entry", &key, &value)?;
        let follows =
            entries.last().is_none_or(|before| before.index().checked_add(1) == Some(entry.index()));
        if !follows || key != entry_key(entry.index()) {
            return Err(Fault::Damaged { what: "log entry", key });
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn last_log_id(read: &dyn Read) -> Result<Option<LogId>, Fault> {
    match read.scan(KeyRange::prefix(&[ENTRIES]), Direction::Descending).next().transpose()? {
        Some((key, value)) => Ok(Some(decode::<Entry>("log entry", &key, &value)?.log_id())),
        None => get(read, "purge mark", PURGED),
    }
}

pub(crate) fn get<T: DeserializeOwned>(
    read: &(impl Read + ?Sized),
    what: &'static str,
    key: &[u8],
) -> Result<Option<T>, Fault> {
    read.get(key)?.map(|value| decode(what, key, &value)).transpose()
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut begun = Vec::with_capacity(USUAL_VALUE_BYTES);
    begun.push(VERSION);
    postcard::to_extend(value, begun).expect("writing to a vector cannot fail")
}

pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, key: &[u8], bytes: &[u8]) -> Result<T, Fault> {
    let damaged = || Fault::Damaged { what, key: key.to_vec() };
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body).map_err(|_| damaged()),
        Some(_) | None => Err(damaged()),
    }
}

#[cfg(test)]
mod tests;
