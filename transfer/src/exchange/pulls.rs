//! The pulls that go on: one for each manifest at a time, however many wait for it.
//!
//! # What it promises
//!
//! * A pull is a task of the node's own set. It goes on when whoever began it is gone, and ends with
//!   [`Transfer::stop`](crate::Transfer::stop).
//! * While it goes on its manifest is guarded, so reclaim leaves what it has brought alone.
//! * At most [`PULLS_MAX`] receive at once and [`PULLS_WAITING_MAX`] wait; one more is refused.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peerglass_catalog::ManifestRoot;
use peerglass_catalog::manifest::Root;
use tokio::sync::{Semaphore, watch};

use super::pull;
use super::sources::Sources;
use super::wire::HoldRefusal;
use crate::gather::Progress;
use crate::ledger::RootGuard;
use crate::transfer::Inner;

/// Pulls that receive at once. Each has up to 8 MiB in flight, and together they open no more streams
/// to one peer than it answers at once.
const PULLS_MAX: usize = 6;
/// Pulls that wait for their turn: each is a task and little more.
const PULLS_WAITING_MAX: usize = 256;

/// How far a pull is.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// Once it is known.
    pub(crate) root: Option<Arc<Root>>,
    /// The page whose chunks are being written.
    pub(crate) page: usize,
    /// Bytes received.
    pub(crate) received: u64,
    /// Set last.
    pub(crate) ended: Option<Result<(), HoldRefusal>>,
}

/// A pull as its followers see it.
pub(crate) struct Pull {
    pub(crate) sources: Arc<Sources>,
    pub(crate) progress: Arc<Progress>,
    view: watch::Receiver<View>,
}

impl Pull {
    /// What it is doing now and from now on.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Wait for its end.
    pub(crate) async fn ended(&self) -> Result<(), HoldRefusal> {
        let mut view = self.view();
        let ended = view.wait_for(|view| view.ended.is_some()).await;
        // Without a last word the task has panicked, which is reported where tasks are reaped.
        ended.ok().and_then(|view| view.ended).unwrap_or(Err(HoldRefusal::Failed))
    }
}

/// See the module.
pub(crate) struct Pulls {
    going: Mutex<BTreeMap<ManifestRoot, Arc<Pull>>>,
    pub(super) slots: Semaphore,
}

impl Default for Pulls {
    fn default() -> Self {
        Self { going: Mutex::default(), slots: Semaphore::new(PULLS_MAX) }
    }
}

impl Pulls {
    // Each critical section is one step on the map.
    fn going(&self) -> MutexGuard<'_, BTreeMap<ManifestRoot, Arc<Pull>>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the pull of `root`, if there is one, has received.
    pub(super) fn received(&self, root: &ManifestRoot) -> u64 {
        let pull = self.going().get(root).map(|pull| pull.view());
        pull.map_or(0, |view| view.borrow().received)
    }

    /// How many go on or wait.
    pub(crate) fn count(&self) -> usize {
        self.going().len()
    }
}

/// Follow the pull of `root`, which begins now, at the byte `from` of the image, unless it goes on.
pub(crate) fn follow(transfer: &Arc<Inner>, root: ManifestRoot, from: u64) -> Result<Arc<Pull>, HoldRefusal> {
    let peers = transfer.peers.clone().ok_or(HoldRefusal::NoSource)?;
    if *transfer.stopping.borrow() {
        return Err(HoldRefusal::Stopping);
    }
    let mut going = transfer.pulls.going();
    let count = going.len();
    let vacant = match going.entry(root) {
        Entry::Occupied(pull) => return Ok(Arc::clone(pull.get())),
        Entry::Vacant(_) if count >= PULLS_MAX + PULLS_WAITING_MAX => return Err(HoldRefusal::Busy),
        Entry::Vacant(vacant) => vacant,
    };
    let (says, view) = watch::channel(View::default());
    let pull = Arc::new(Pull {
        sources: Arc::new(Sources::new(peers, transfer.workers, root)),
        progress: Arc::new(Progress::new(transfer.store.clone())),
        view,
    });
    vacant.insert(Arc::clone(&pull));
    drop(going);
    let going = Going {
        guard: Some(RootGuard::new(Arc::clone(&transfer.store.ledger), root)),
        transfer: Arc::clone(transfer),
        root,
    };
    let task = carry_out(Arc::clone(transfer), root, from, Arc::clone(&pull), says, going);
    transfer.spawn(task);
    Ok(pull)
}

async fn carry_out(
    transfer: Arc<Inner>,
    root: ManifestRoot,
    from: u64,
    pull: Arc<Pull>,
    says: watch::Sender<View>,
    going: Going,
) {
    let mut stopping = transfer.stopping.subscribe();
    let outcome = tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => Err(pull::PullError::Stopped),
        outcome = pull::run(&transfer, root, from, &pull, &says) => outcome,
    };
    let ended = outcome.map_err(|error| {
        tracing::warn!(manifest = %root.0, %error, "a manifest was not pulled");
        error.refusal()
    });
    drop(pull);
    // Whoever comes now begins anew, or finds the manifest held.
    drop(going);
    says.send_modify(|view| view.ended = Some(ended));
}

/// That a pull goes on.
struct Going {
    transfer: Arc<Inner>,
    root: ManifestRoot,
    guard: Option<RootGuard>,
}

impl Drop for Going {
    fn drop(&mut self) {
        self.transfer.pulls.going().remove(&self.root);
        // After that: nobody may find the pull who is not protected by it.
        drop(self.guard.take());
    }
}
