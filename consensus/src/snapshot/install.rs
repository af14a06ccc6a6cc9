//! Replacing the whole state by a received snapshot: all or nothing, whenever the process dies.
//!
//! The spool is checked first: that it is whole, and that this release can read all of it. It is synced.
//! Then a mark says that the state is being replaced, the old state is dropped, the new one written batch by
//! batch, and the last batch puts the applied mark and takes the mark away. A start that finds the mark does
//! it all again from the spool.

use std::io::{self, Read as _};
use std::sync::Arc;

use peerglass_catalog::keyspace::{Batch, KeyRange, Keyspace, Read};
use peerglass_catalog::{Fault, snapshot};

use super::spool::{self, Head, PieceReader, SPOOLS, Title, Way};
use crate::log::{decode, encode};
use crate::machine::put_applied;
use crate::mutation::{self, Mutation};
use crate::raft::LogId;

/// There while the state is being replaced.
const INSTALLING: &[u8] = b"#installing";

/// The last entry of the last snapshot installed here. No part of the state.
const INSTALLED: &[u8] = b"#sl";

/// Up to where the log need not reach back, because an installed snapshot has it.
pub(crate) fn installed(state: &dyn Keyspace) -> Result<Option<LogId>, Fault> {
    state.get(INSTALLED)?.map(|value| decode("snapshot mark", INSTALLED, &value)).transpose()
}

/// Longest head believed: sessions hold as many replies as requests are in flight.
const HEAD_BYTES_MAX: u32 = 256 << 20;

/// Whether the state is being replaced just now, so that it must not be read.
pub(crate) fn is_under_way(state: &dyn Read) -> Result<bool, Fault> {
    Ok(state.get(INSTALLING)?.is_some())
}

/// Why a received spool is not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    /// A piece is missing, or they are not what the title says.
    #[error("a piece is missing or wrong")]
    NotWhole,
    /// Whoever made it is of another release, or made it wrongly.
    #[error("this release cannot read it: {0}")]
    Unreadable(String),
    /// This disk.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Check all of the incoming spool, where that may take long. One that is unfit is dropped.
pub(crate) async fn check(state: &Arc<dyn Keyspace>, title: Title) -> Result<(), Unfit> {
    let (done, checked) = tokio::sync::oneshot::channel();
    let work = move |read: &dyn Read| {
        let _ = done.send(check_in(read, &title)); // whoever waited may have gone
    };
    Arc::clone(state).view_apart(Box::new(work)).await;
    let checked = checked.await.map_err(|_| damaged("it was not checked"))?;
    if let Err(Unfit::NotWhole | Unfit::Unreadable(_)) = &checked {
        spool::drop_spool(&**state, Way::In)?;
    }
    checked
}

fn check_in(read: &dyn Read, title: &Title) -> Result<(), Unfit> {
    if !spool::is_whole(read, title)? {
        return Err(Unfit::NotWhole);
    }
    let mut input = PieceReader::new(read, Way::In, title);
    read_head(&mut input).map_err(|fault| Unfit::Unreadable(fault.to_string()))?;
    snapshot::check(&mut input).map_err(|error| Unfit::Unreadable(error.to_string()))
}

/// Install the incoming spool, which was [checked](check). It stays until the next one comes.
pub(crate) async fn install(state: &Arc<dyn Keyspace>) -> Result<(), Fault> {
    let title = spool::title(&**state, Way::In)?.ok_or_else(|| damaged("nothing was received"))?;
    let mut mark = Batch::default();
    mark.put(INSTALLING.to_vec(), encode(&()));
    state.write(mark)?;
    // The pieces and the mark are durable before the old state goes.
    state.sync().await?;
    replace(state, title).await
}

/// Go on with an installation that the last run did not finish.
pub(crate) async fn resume(state: &Arc<dyn Keyspace>) -> Result<(), Fault> {
    if !is_under_way(&**state)? {
        return Ok(());
    }
    let title = spool::title(&**state, Way::In)?.ok_or_else(|| damaged("its pieces are gone"))?;
    if !spool::is_whole(&**state, &title)? {
        return Err(damaged("a piece is missing or wrong"));
    }
    tracing::info!("finishing the installation of a snapshot that was interrupted");
    replace(state, title).await
}

/// Replace the state where that may take long.
async fn replace(state: &Arc<dyn Keyspace>, title: Title) -> Result<(), Fault> {
    let target = Arc::clone(state);
    let (done, replaced) = tokio::sync::oneshot::channel();
    let work = move |read: &dyn Read| {
        // Whoever waits for it is openraft's own task, which ends only with the process.
        let _ = done.send(replace_from(read, &*target, &title));
    };
    Arc::clone(state).view_apart(Box::new(work)).await;
    replaced.await.map_err(|_| damaged("its installation was given up"))??;
    state.sync().await
}

/// Write the spool that `read` holds over `state`.
fn replace_from(read: &dyn Read, state: &dyn Keyspace, title: &Title) -> Result<(), Fault> {
    let mut everything = Batch::default();
    everything.clear(KeyRange { from: Vec::new(), to: Some(INSTALLING.to_vec()) });
    everything.clear(KeyRange { from: [INSTALLING, b"\0"].concat(), to: Some(SPOOLS.to_vec()) });
    everything.clear(KeyRange { from: KeyRange::prefix(SPOOLS).to.unwrap_or_default(), to: None });
    state.write(everything)?;
    let mut input = PieceReader::new(read, Way::In, title);
    let head = read_head(&mut input)?;
    let restored = snapshot::restore(&mut input, &mut |batch| state.write(batch));
    restored.map_err(|error| Fault::Io(io::Error::other(error)))?;
    let mut end = Batch::default();
    head.sessions.store(&mut end);
    if let Some(last) = &title.meta.last_log_id {
        end.put(INSTALLED.to_vec(), encode(last));
    }
    if !mutation::is(Mutation::SnapshotWithoutIndex) {
        put_applied(&mut end, &head.applied);
    }
    end.remove(INSTALLING.to_vec());
    state.write(end)
}

fn read_head<R: Read + ?Sized>(input: &mut PieceReader<'_, R>) -> Result<Head, Fault> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > HEAD_BYTES_MAX {
        return Err(damaged("its head is too long"));
    }
    let mut head = vec![0; length as usize];
    input.read_exact(&mut head)?;
    decode("snapshot head", SPOOLS, &head)
}

fn damaged(why: &'static str) -> Fault {
    Fault::Io(io::Error::new(io::ErrorKind::InvalidData, format!("the received snapshot is damaged: {why}")))
}
