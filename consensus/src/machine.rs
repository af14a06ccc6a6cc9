//! openraft's state machine over the catalog.
//!
//! Entries are applied in groups: each command works on an overlay, and the changes of the whole
//! group are written in one batch together with the index of its last entry. Clients are answered
//! just before that write: what they wrote is committed, and a read waits for the write. A proposal
//! that was applied before gets the reply it got then (`session`). The state is not synced here: the
//! log is, and a state that a power cut set back is brought forward again by replay.

use std::io;
use std::sync::Arc;
use std::vec;

use futures::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, entry::RaftEntry};
use peerglass_catalog::keyspace::{self, Batch, Keyspace, Read};
use peerglass_catalog::{Fault, Overlay};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::log::{decode, encode};
use crate::mutation::{self, Mutation};
use crate::raft::{LogId, Membership, Meta, Proposal, Reply, Types};
use crate::session::{Changes, Sessions, Verdict};
use crate::snapshot::{self, Builder, RaftSnapshot, SnapshotData, install, spool};

/// Entries written together, at most. More would only delay the first answer.
const GROUP_MAX: usize = 256;
/// Bytes of records that the answers to entries written together hold, at most, but for the last one: each
/// may be a large record, and every one of them is kept until its client has it.
const GROUP_REPLY_BYTES_MAX: usize = 8 << 20;

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

/// What a group of entries came to.
type CarriedOut = (Batch, Applied, Vec<(Option<ApplyResponder<Types>>, Reply)>);

/// The catalog of this node, and how far it is.
pub(crate) struct Machine {
    state: Arc<dyn Keyspace>,
    applied: Applied,
    sessions: Sessions,
    announce: watch::Sender<u64>,
}

impl Machine {
    /// The state as the last run left it. A snapshot whose installation was interrupted is installed.
    pub(crate) async fn open(state: Arc<dyn Keyspace>) -> Result<Self, Fault> {
        install::resume(&state).await?;
        let applied = keyspace::look(&*state, read_applied)?;
        let sessions = keyspace::look(&*state, Sessions::load)?;
        let (announce, _) = watch::channel(applied.index());
        Ok(Self { state, applied, sessions, announce })
    }

    /// How far the state is.
    pub(crate) fn applied(&self) -> &Applied {
        &self.applied
    }

    /// The index of the last applied entry, as it grows.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.announce.subscribe()
    }

    /// Carry out the next entries of `group`, answer whoever waits, and write what they changed.
    async fn apply_some(&mut self, group: &mut vec::IntoIter<EntryResponder<Types>>) -> Result<(), Fault> {
        let (batch, applied, replies) = self.carry_out_some(group)?;
        let mut awaited = false;
        for (responder, reply) in replies {
            if let Some(responder) = responder {
                responder.send(reply);
                awaited = true;
            }
        }
        if awaited {
            // The write takes longer than everything before it; whoever was answered goes on meanwhile.
            tokio::task::yield_now().await;
        }
        self.state.write(batch)?;
        self.applied = applied;
        self.announce.send_replace(self.applied.index());
        Ok(())
    }

    /// What the next entries of `group` change, how far the state is with that, and the answers.
    fn carry_out_some(
        &mut self,
        group: &mut vec::IntoIter<EntryResponder<Types>>,
    ) -> Result<CarriedOut, Fault> {
        let mut applied = self.applied.clone();
        let mut changes = Changes::default();
        let mut replies = Vec::with_capacity(group.len());
        let mut bytes = 0;
        let sessions = &mut self.sessions;
        let batch = keyspace::look(&*self.state, |read| {
            let mut overlay = Overlay::new(read);
            while bytes < GROUP_REPLY_BYTES_MAX
                && let Some((entry, responder)) = group.next()
            {
                applied.log_id = Some(entry.log_id());
                let reply = match entry.payload {
                    EntryPayload::Blank => Reply::Nothing,
                    EntryPayload::Membership(membership) => {
                        applied.membership = Membership::new(applied.log_id, membership);
                        Reply::Nothing
                    }
                    EntryPayload::Normal(proposal) => {
                        carry_out(&mut overlay, sessions, &mut changes, proposal)?
                    }
                };
                bytes += reply.text_bytes();
                replies.push((responder, reply));
            }
            let mut batch = overlay.into_batch();
            changes.write(&mut batch);
            put_applied(&mut batch, &applied);
            Ok::<_, Fault>(batch)
        })?;
        Ok((batch, applied, replies))
    }

    /// Take up the state that was installed.
    fn reload(&mut self) -> Result<(), Fault> {
        self.applied = keyspace::look(&*self.state, read_applied)?;
        self.sessions = keyspace::look(&*self.state, Sessions::load)?;
        self.announce.send_replace(self.applied.index());
        Ok(())
    }
}

/// Carry out a proposal unless it was carried out before.
fn carry_out(
    overlay: &mut Overlay<'_>,
    sessions: &mut Sessions,
    changes: &mut Changes,
    proposal: Proposal,
) -> Result<Reply, Fault> {
    match sessions.judge(proposal.key, proposal.settled, changes) {
        Verdict::Known(reply) if !mutation::is(Mutation::IdempotencyKeyLost) => return Ok(reply),
        Verdict::Over => return Ok(Reply::Nothing),
        Verdict::New | Verdict::Known(_) => {}
    }
    let reply = match peerglass_catalog::apply(overlay, Arc::unwrap_or_clone(proposal.command))? {
        Ok(outcome) => Reply::Done(outcome),
        Err(refusal) => Reply::Refused(refusal),
    };
    sessions.remember(proposal.key, &reply, changes);
    Ok(reply)
}

pub(crate) fn put_applied(batch: &mut Batch, applied: &Applied) {
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
            let mut group = group.into_iter().collect::<io::Result<Vec<_>>>()?.into_iter();
            while group.len() > 0 {
                self.apply_some(&mut group).await.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { state: Arc::clone(&self.state) }
    }

    async fn install_snapshot(&mut self, meta: &Meta, data: SnapshotData) -> io::Result<()> {
        match data {
            SnapshotData::Own { ref state } if Arc::ptr_eq(state, &self.state) => {
                return Ok(()); // at an index we have applied
            }
            SnapshotData::Own { ref state } => {
                let title = spool::copy(state, &*self.state).await.map_err(io::Error::other)?;
                install::check(&self.state, title).await.map_err(io::Error::other)?;
            }
            SnapshotData::Received { ref state, .. } if Arc::ptr_eq(state, &self.state) => {}
            SnapshotData::Received { .. } => {
                return Err(io::Error::other("a snapshot was received into another state"));
            }
        }
        install::install(&self.state).await.map_err(io::Error::other)?;
        // Only now may another one be received.
        drop(data);
        self.reload().map_err(io::Error::other)?;
        if self.applied.log_id != meta.last_log_id {
            return Err(io::Error::other("the received snapshot is not the one that was announced"));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(self.applied.log_id.is_some().then(|| snapshot::describe(&self.state, self.applied.clone())))
    }
}

#[cfg(test)]
mod tests;
