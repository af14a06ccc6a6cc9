//! openraft's state machine over the catalog.
//!
//! Entries are applied in groups: each command works on an overlay, and the changes of the whole
//! group are written in one batch together with the index of its last entry. Clients are answered
//! after that write. The state is not synced here: the log is, and a state that a power cut set
//! back is brought forward again by replay.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, SnapshotMeta, entry::RaftEntry};
use peerglass_catalog::keyspace::{self, Batch, Keyspace, Read};
use peerglass_catalog::{Fault, Overlay};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::log::{decode, encode};
use crate::raft::{LogId, Membership, Proposal, Reply, Types};
use crate::snapshot::{self, Builder, RaftSnapshot, SnapshotData};

/// Entries written together, at most. More would only delay the first answer.
const GROUP_MAX: usize = 256;

/// Where the state keeps how far it is. No catalog table begins with `#`.
const APPLIED: &[u8] = b"#applied";

/// How far the state is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// The last entry applied.
    pub(crate) log_id: Option<LogId>,
    /// The last membership applied.
    pub(crate) membership: Membership,
}

impl Applied {
    /// Index of the last entry applied, 0 for none.
    pub(crate) fn index(&self) -> u64 {
        self.log_id.as_ref().map_or(0, |id| id.index)
    }
}

pub(crate) fn read_applied(state: &dyn Read) -> Result<Applied, Fault> {
    match state.get(APPLIED)? {
        Some(value) => decode("applied mark", APPLIED, &value),
        None => Ok(Applied::default()),
    }
}

/// The catalog of this node, and how far it is.
pub(crate) struct Machine {
    state: Arc<dyn Keyspace>,
    applied: Applied,
    announce: watch::Sender<u64>,
}

impl Machine {
    pub(crate) fn open(state: Arc<dyn Keyspace>) -> Result<Self, Fault> {
        let applied = keyspace::look(&*state, read_applied)?;
        let (announce, _) = watch::channel(applied.index());
        Ok(Self { state, applied, announce })
    }

    /// The index of the last applied entry, as it grows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.announce.subscribe()
    }

    /// Apply `group` in one write, then answer whoever waits.
    fn apply_group(&mut self, group: Vec<EntryResponder<Types>>) -> Result<(), Fault> {
        let mut applied = self.applied.clone();
        let mut replies = Vec::with_capacity(group.len());
        let batch = keyspace::look(&*self.state, |read| {
            let mut overlay = Overlay::new(read);
            for (entry, responder) in group {
                applied.log_id = Some(entry.log_id());
                let reply = match entry.payload {
                    EntryPayload::Blank => Reply::Nothing,
                    EntryPayload::Membership(membership) => {
                        applied.membership = Membership::new(applied.log_id, membership);
                        Reply::Nothing
                    }
                    EntryPayload::Normal(Proposal(command)) => {
                        match peerglass_catalog::apply(&mut overlay, command)? {
                            Ok(outcome) => Reply::Done(outcome),
                            Err(refusal) => Reply::Refused(refusal),
                        }
                    }
                };
                replies.push((responder, reply));
            }
            let mut batch = overlay.into_batch();
            put_applied(&mut batch, &applied);
            Ok::<_, Fault>(batch)
        })?;
        self.state.write(batch)?;
        self.applied = applied;
        self.announce.send_replace(self.applied.index());
        for (responder, reply) in replies {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Hold the state that `bytes` encode instead of this one.
    async fn replace(&mut self, bytes: &[u8], applied: Applied) -> io::Result<()> {
        let mut end = Batch::default();
        put_applied(&mut end, &applied);
        snapshot::install(&*self.state, bytes, end).await?;
        self.applied = applied;
        self.announce.send_replace(self.applied.index());
        Ok(())
    }
}

fn put_applied(batch: &mut Batch, applied: &Applied) {
    batch.put(APPLIED.to_vec(), encode(applied));
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok((self.applied.log_id, self.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut groups = entries.ready_chunks(GROUP_MAX);
        while let Some(group) = groups.next().await {
            let group = group.into_iter().collect::<io::Result<Vec<_>>>()?;
            self.apply_group(group).map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { state: Arc::clone(&self.state) }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<openraft::alias::CommittedLeaderIdOf<Types>, u64, openraft::BasicNode>,
        data: SnapshotData,
    ) -> io::Result<()> {
        if data.is_of(&self.state) {
            return Ok(()); // our own state, at an index we have applied
        }
        let applied = Applied { log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        self.replace(&data.encode()?, applied).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(self.applied.log_id.is_some().then(|| snapshot::describe(&self.state, self.applied.clone())))
    }
}

#[cfg(test)]
mod tests;
