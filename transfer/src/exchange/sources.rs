//! Where one manifest's blobs can be had, best first, and fetching them from there.
//!
//! # What it promises
//!
//! * A blob is given only if its plain bytes have the digest it was asked for by. To open one takes no more memory
//!   than it was said to be long by whoever asked.
//! * A peer that breaks the protocol is not asked again. One that stalls or is lost is asked again only
//!   when nobody else is left, after a pause, and so often only as it brings something: it may have been
//!   restarted. What it owed is asked of the next.
//! * One that lacks a single blob is only passed over for that blob.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use peerglass_catalog::keyspace::BoxFuture;
use peerglass_catalog::{Digest, ManifestRoot, NodeId};
use tokio::time::sleep;

use super::ask::{AskError, Link, Want, on_a_link};
use super::wire::Breach;
use crate::error::DiskFailure;
use crate::form::Parcel;
use crate::peers::Peers;
use crate::workers::Workers;

/// Peers asked at once whether they hold the manifest: one that is gone must not delay the others.
const ASKED_AT_ONCE: usize = 4;

/// Rounds over all candidates, after the first, in which nobody gave anything.
const ROUNDS_MAX: usize = 3;
/// Pause before each: about as long as a node takes to come back.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Somebody who says to hold it.
struct Source {
    peer: NodeId,
    link: Arc<Link>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Good,
    /// Until the next round.
    Lost,
    Banned,
}

#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    /// Rounds since somebody gave something.
    rounds: usize,
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
    candidates: Mutex<VecDeque<NodeId>>,
    found: Mutex<Found>,
    /// One search at a time; the others use what it finds.
    asking: tokio::sync::Mutex<Asking>,
}

impl Sources {
    pub(crate) fn new(peers: Arc<dyn Peers>, workers: Workers, root: ManifestRoot) -> Self {
        let candidates = peers.candidates().into();
        Self {
            peers,
            workers,
            root,
            candidates: Mutex::new(candidates),
            found: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    // Each critical section is one step.
    fn candidates(&self) -> MutexGuard<'_, VecDeque<NodeId>> {
        self.candidates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetch and verify every one of `wants`. Answers with their plain bytes.
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
            let mut outcome = link.blobs(self.root, &asked, true, &mut received).await;
            let plain = |parcel: Parcel, plain: &[u8]| {
                if parcel.form.is_zstd() { Bytes::copy_from_slice(plain) } else { parcel.bytes }
            };
            let verified = verify(self.workers, asked, received, plain).await;
            let (received, sound) = verified.map_err(FetchError::Disk)?;
            if !sound {
                outcome = Err(Breach::WrongBytes.into());
            }
            if received.iter().any(Option::is_some) {
                self.found().rounds = 0;
            }
            for (at, bytes) in missing.into_iter().zip(received) {
                got[at] = bytes;
            }
            if let Err(error) = outcome {
                self.drop_source(source, &error);
            }
        }
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
            match asking.next().await {
                Some(Some(source)) => self.found().sources.push(source),
                Some(None) => {}
                None if self.begin_round() => sleep(ROUND_PAUSE).await,
                None => return None,
            }
        }
    }

    /// Whether those who were lost are worth another try.
    fn begin_round(&self) -> bool {
        let mut found = self.found();
        let lost = found.sources.iter().any(|source| source.state == State::Lost);
        if !lost || found.rounds >= ROUNDS_MAX {
            return false;
        }
        found.rounds += 1;
        let not_again = found.sources.iter().filter(|source| source.state != State::Lost);
        let not_again: Vec<NodeId> = not_again.map(|source| source.peer).collect();
        let again = self.peers.candidates().into_iter().filter(|node| !not_again.contains(node));
        *self.candidates() = again.collect();
        true
    }

    fn known(&self, from: usize) -> Option<(usize, Arc<Link>)> {
        let found = self.found();
        let sources = found.sources.iter().enumerate().skip(from);
        let mut sources = sources.filter(|(_, source)| source.state == State::Good);
        sources.next().map(|(at, source)| (at, Arc::clone(&source.link)))
    }

    fn drop_source(&self, at: usize, error: &AskError) {
        let mut found = self.found();
        let Some(source) = found.sources.get_mut(at).filter(|source| source.state == State::Good) else {
            return;
        };
        source.state = match error {
            AskError::Breach(_) => State::Banned,
            AskError::Unreachable(_) | AskError::Silent | AskError::Busy | AskError::Lost(_) => State::Lost,
        };
        let (peer, state) = (source.peer.0, source.state);
        tracing::warn!(peer, ?state, manifest = %self.root.0, %error, "a peer is not asked on");
    }
}

/// Open what was received, and take out what is not what it was asked for. `keep` makes something of a parcel and its
/// plain bytes. Answers also with whether nothing was taken out.
pub(super) async fn verify<T: Send + 'static>(
    workers: Workers,
    asked: Vec<Want>,
    received: Vec<Option<Parcel>>,
    keep: impl Fn(Parcel, &[u8]) -> T + Send + 'static,
) -> Result<(Vec<Option<T>>, bool), DiskFailure> {
    let check = move || {
        let mut opened = Vec::new();
        let mut sound = true;
        let mut check = |want: &Want, parcel: Parcel| {
            let bytes = parcel.bytes.clone();
            let plain =
                parcel.form.open(&bytes, &mut opened).filter(|plain| Digest::of(plain) == want.digest);
            sound &= plain.is_some();
            plain.map(|plain| keep(parcel, plain))
        };
        let each = asked.iter().zip(received);
        let verified = each.map(|(want, parcel)| parcel.and_then(|parcel| check(want, parcel))).collect();
        (verified, sound)
    };
    workers.run(check).await
}

/// Ask one candidate whether it is a source.
async fn look(peers: Arc<dyn Peers>, peer: NodeId, root: ManifestRoot) -> Option<Source> {
    let ask = |link: Arc<Link>| async move { link.holds(root).await.map(|holds| (link, holds)) };
    match on_a_link(&*peers, peer, ask).await {
        Ok((link, true)) => Some(Source { peer, link, state: State::Good }),
        Ok((_, false)) => None,
        Err(error) => {
            tracing::debug!(peer = peer.0, %error, "a peer does not say what it holds");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::ask::WantLen;
    use crate::form;

    fn parcel(plain: &[u8]) -> Parcel {
        let mut stored = Vec::new();
        let form = form::append(plain, &mut stored);
        Parcel { form, bytes: stored.into() }
    }

    #[tokio::test]
    async fn what_is_not_what_was_asked_for_is_taken_out_in_either_form() {
        let (zeros, ones, short) = (vec![0; 5000], vec![1; 5000], vec![1; 10]);
        let want =
            |plain: &[u8]| Want { digest: Digest::of(plain), len: WantLen::Exactly(plain.len() as u32) };
        let asked = vec![want(&zeros), want(&zeros), want(&short), want(&short), want(&ones), want(&ones)];
        let mut rotten = parcel(&ones).bytes.to_vec();
        rotten.pop();
        let rotten = Parcel { form: parcel(&ones).form, bytes: rotten.into() };
        let wrong = parcel(&short[1..]);
        let received = [
            Some(parcel(&zeros)),
            Some(parcel(&ones)),
            Some(parcel(&short)),
            Some(wrong),
            Some(rotten),
            None,
        ];
        let plain = |_: Parcel, plain: &[u8]| plain.to_vec();
        let verified = verify(Workers::Inline, asked.clone(), received.to_vec(), plain).await.unwrap();
        assert_eq!(verified, (vec![Some(zeros), None, Some(short), None, None, None], false));
        let sound = received[..1].to_vec();
        let (kept, all) = verify(Workers::Inline, asked, sound, |parcel, _| parcel).await.unwrap();
        assert!(all && kept[0].as_ref().unwrap().form.is_zstd(), "it stays as it came");
    }
}
