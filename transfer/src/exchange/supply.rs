//! What one download reads and this node does not have, or not soundly.
//!
//! The first lack begins a pull of the whole manifest, or joins the one that goes on; readers follow it.
//! The pull brings first what readers wait for. What it does not bring is fetched for this reader alone: when it
//! waits for its own turn, or has failed, or a blob was damaged here after the pull had relied on it.

use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::manifest::Root;
use peerglass_catalog::{Digest, ManifestRoot};
use tokio::sync::oneshot;

use super::ask::Want;
use super::pulls::{Waiting, follow};
use super::sources::Sources;
use super::wire::HoldRefusal;
use crate::error::DownloadError;
use crate::gather::Progress;
use crate::transfer::Inner;

/// Pulls that one download begins at most: one finds all that is known to be damaged, and reading on may
/// find more.
const PULLS_BEGUN_MAX: usize = 8;

/// See the module.
pub(crate) struct Supply {
    transfer: Arc<Inner>,
    root: ManifestRoot,
    /// The manifest was not held when the download began.
    cold: bool,
    pull: Option<Waiting>,
    pulls_begun: usize,
    /// For when the pull's sources have all failed: peers may have come back.
    own: Option<Arc<Sources>>,
}

/// What was done about a lack.
pub(crate) enum Supplied {
    /// The pull has gone on: look again.
    Look,
    /// The blobs, verified.
    Blobs(Vec<(Digest, Bytes)>),
}

impl Supply {
    /// For a download of a manifest that is held.
    pub(crate) fn new(transfer: Arc<Inner>, root: ManifestRoot) -> Self {
        Self { transfer, root, cold: false, pull: None, pulls_begun: 0, own: None }
    }

    /// For a download of a manifest that is not held, or whose root does not read back: begin to pull it,
    /// from the byte `from` on. `lack` is why.
    pub(crate) async fn cold(
        transfer: Arc<Inner>,
        root: ManifestRoot,
        from: u64,
        lack: DownloadError,
    ) -> Result<(Self, Root), DownloadError> {
        let pull = match follow(&transfer, root, from) {
            Ok(pull) => pull,
            Err(HoldRefusal::Stopping) => return Err(DownloadError::Stopped),
            Err(_) => return Err(lack),
        };
        let mut view = pull.view();
        let known = view.wait_for(|view| view.root.is_some() || view.ended.is_some()).await;
        let decoded = known.ok().and_then(|view| view.root.clone());
        let Some(decoded) = decoded else {
            return Err(if *transfer.ending.borrow() { DownloadError::Stopped } else { lack });
        };
        let supply =
            Self { transfer, root, cold: true, pull: Some(Waiting::new(pull)), pulls_begun: 1, own: None };
        Ok((supply, (*decoded).clone()))
    }

    /// Where the pull, if there is one, writes what it brings.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.pull.as_ref().map(|waiting| Arc::clone(&waiting.pull.progress))
    }

    /// Do something about `wants`, the first of which begins at the byte `at`. After `lack` if nothing can be
    /// done.
    pub(crate) async fn obtain(
        &mut self,
        wants: &[Want],
        at: u64,
        lack: DownloadError,
    ) -> Result<Supplied, DownloadError> {
        let mut ending = self.transfer.ending.subscribe();
        let cold = self.cold.then_some(DownloadError::Missing(self.root));
        tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => Err(DownloadError::Stopped),
            supplied = self.supply(wants, at) => supplied.ok_or(cold.unwrap_or(lack)),
        }
    }

    async fn supply(&mut self, wants: &[Want], at: u64) -> Option<Supplied> {
        let peers = self.transfer.peers.clone()?;
        let done = self.pull.as_mut().is_none_or(|waiting| waiting.look_is_done());
        if done && self.pulls_begun < PULLS_BEGUN_MAX {
            self.pulls_begun += 1;
            self.pull = follow(&self.transfer, self.root, at).ok().map(Waiting::new);
            if self.pull.is_some() {
                return Some(Supplied::Look);
            }
        }
        if let Some(waiting) = &mut self.pull
            && waiting.goes_on()
            && waiting.wait_at(at).await
        {
            return Some(Supplied::Look);
        }
        let new = || Arc::new(Sources::new(peers, self.transfer.workers, self.root));
        let sources = Arc::clone(self.own.get_or_insert_with(new));
        let blobs = self.fetch(sources, wants.to_vec()).await?;
        Some(Supplied::Blobs(wants.iter().map(|want| want.digest).zip(blobs).collect()))
    }

    /// Fetch in a task of its own: a client that stops reading would otherwise leave an answer half read, and
    /// enough of those take the whole window of a connection that pulls need as well.
    async fn fetch(&self, sources: Arc<Sources>, wants: Vec<Want>) -> Option<Vec<Bytes>> {
        let mut ending = self.transfer.ending.subscribe();
        let (mut tell, told) = oneshot::channel();
        self.transfer.spawn(async move {
            let fetched = tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => return,
                () = tell.closed() => return,
                fetched = sources.fetch(&wants) => fetched,
            };
            // If nobody waits any more, nobody needs it.
            drop(tell.send(fetched));
        });
        told.await.ok()?.ok()
    }
}
