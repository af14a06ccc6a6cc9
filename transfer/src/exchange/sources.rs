//! Where one manifest's blobs can be had, best first, and fetching them from there.
//!
//! # What it promises
//!
//! * A blob is given only if its bytes have the digest it was asked for by.
//! * A peer that breaks the protocol, stalls or is lost is not asked again; what it still owed is asked
//!   of the next. One that lacks a single blob is only passed over for that blob.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{Digest, ManifestRoot, NodeId};
use quinn::Connection;

use super::ask::{AskError, Link, Want, on_a_link};
use super::wire::Breach;
use crate::error::DiskFailure;
use crate::peers::Peers;
use crate::workers::Workers;

/// Peers asked at once whether they hold the manifest: one that is gone must not delay the others.
const ASKED_AT_ONCE: usize = 4;

/// Somebody who may hold the manifest.
#[derive(Clone)]
pub(crate) enum Candidate {
    Node(NodeId),
    /// Whoever is at the other end.
    Asker(Connection),
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {}", node.0),
            Self::Asker(connection) => write!(f, "the node at {}", connection.remote_address()),
        }
    }
}

/// Somebody who says to hold it.
struct Source {
    candidate: Candidate,
    link: Arc<Link>,
    dropped: bool,
}

type Asking = FuturesUnordered<BoxFuture<'static, Option<Source>>>;

/// Why blobs were not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Nobody who can be reached has all of them.
    #[error("no peer has the bytes")]
    NoSource,
    /// A worker was lost.
    #[error(transparent)]
    Disk(DiskFailure),
}

/// See the module.
pub(crate) struct Sources {
    peers: Arc<dyn Peers>,
    workers: Workers,
    root: ManifestRoot,
    candidates: Mutex<VecDeque<Candidate>>,
    found: Mutex<Vec<Source>>,
    /// One search at a time; the others use what it finds.
    asking: tokio::sync::Mutex<Asking>,
}

impl Sources {
    pub(crate) fn new(peers: Arc<dyn Peers>, workers: Workers, root: ManifestRoot) -> Self {
        let candidates = peers.candidates().into_iter().map(Candidate::Node).collect();
        Self {
            peers,
            workers,
            root,
            candidates: Mutex::new(candidates),
            found: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Ask at the other end of `connection` before any candidate not asked yet.
    pub(crate) fn offer(&self, connection: Connection) {
        self.candidates().push_front(Candidate::Asker(connection));
    }

    // Each critical section is one step.
    fn candidates(&self) -> MutexGuard<'_, VecDeque<Candidate>> {
        self.candidates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Vec<Source>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetch and verify every one of `wants`.
    pub(crate) async fn fetch(&self, wants: &[Want]) -> Result<Vec<Bytes>, FetchError> {
        let mut got: Vec<Option<Bytes>> = vec![None; wants.len()];
        let mut from = 0;
        loop {
            let missing: Vec<usize> = (0..wants.len()).filter(|at| got[*at].is_none()).collect();
            if missing.is_empty() {
                return Ok(got.into_iter().flatten().collect());
            }
            let (source, link) = self.source(from).await.ok_or(FetchError::NoSource)?;
            from = source + 1;
            let asked: Vec<Want> = missing.iter().map(|at| wants[*at]).collect();
            let mut received = vec![None; asked.len()];
            let mut outcome = link.blobs(&asked, &mut received).await;
            let (received, sound) = self.verify(asked, received).await?;
            if !sound {
                outcome = Err(Breach::WrongBytes.into());
            }
            for (at, bytes) in missing.into_iter().zip(received) {
                got[at] = bytes;
            }
            if let Err(error) = outcome {
                self.drop_source(source, &error);
            }
        }
    }

    /// Take out what has another digest than it was asked for by. Answers with whether nothing had.
    async fn verify(
        &self,
        asked: Vec<Want>,
        mut received: Vec<Option<Bytes>>,
    ) -> Result<(Vec<Option<Bytes>>, bool), FetchError> {
        let check = move || {
            let mut sound = true;
            for (want, place) in asked.iter().zip(&mut received) {
                if place.as_ref().is_some_and(|bytes| Digest::of(bytes) != want.digest) {
                    *place = None;
                    sound = false;
                }
            }
            (received, sound)
        };
        self.workers.run(check).await.map_err(FetchError::Disk)
    }

    /// The first source from number `from` on that was not dropped.
    async fn source(&self, from: usize) -> Option<(usize, Arc<Link>)> {
        loop {
            if let Some(found) = self.known(from) {
                return Some(found);
            }
            let mut asking = self.asking.lock().await;
            // Another search may have ended while this one waited for its turn.
            if let Some(found) = self.known(from) {
                return Some(found);
            }
            while asking.len() < ASKED_AT_ONCE
                && let Some(candidate) = self.candidates().pop_front()
            {
                asking.push(Box::pin(look(Arc::clone(&self.peers), candidate, self.root)));
            }
            if let Some(source) = asking.next().await? {
                self.found().push(source);
            }
        }
    }

    fn known(&self, from: usize) -> Option<(usize, Arc<Link>)> {
        let found = self.found();
        let mut sources = found.iter().enumerate().skip(from).filter(|(_, source)| !source.dropped);
        sources.next().map(|(at, source)| (at, Arc::clone(&source.link)))
    }

    fn drop_source(&self, at: usize, error: &AskError) {
        let mut found = self.found();
        let Some(source) = found.get_mut(at).filter(|source| !source.dropped) else { return };
        source.dropped = true;
        tracing::warn!(peer = %source.candidate, manifest = %self.root.0, %error, "a peer is not asked again");
    }
}

/// Ask one candidate whether it is a source.
async fn look(peers: Arc<dyn Peers>, candidate: Candidate, root: ManifestRoot) -> Option<Source> {
    let asked = match &candidate {
        Candidate::Asker(connection) => {
            let link = Arc::new(Link::new(connection.clone()));
            link.holds(root).await.map(|holds| (link, holds))
        }
        Candidate::Node(node) => {
            let ask = |link: Arc<Link>| async move { link.holds(root).await.map(|holds| (link, holds)) };
            on_a_link(&*peers, *node, ask).await
        }
    };
    match asked {
        Ok((link, true)) => Some(Source { candidate, link, dropped: false }),
        Ok((_, false)) => None,
        Err(error) => {
            tracing::debug!(peer = %candidate, %error, "a peer does not say what it holds");
            None
        }
    }
}
