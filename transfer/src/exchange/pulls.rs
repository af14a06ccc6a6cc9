//! The pulls that go on: one for each manifest at a time, however many wait for it; and what uploads offer of
//! themselves (`ahead`), which peers follow like a pull.
//!
//! # What it promises
//!
//! * A pull is a task of the node's own set. It goes on when whoever began it is gone, and ends with
//!   [`Transfer::stop`](crate::Transfer::stop).
//! * While it goes on its manifest is guarded, so reclaim leaves what it has brought alone.
//! * At most [`PULLS_MAX`] receive at once and [`PULLS_WAITING_MAX`] wait; one more is refused. Of those for uploads
//!   elsewhere at most [`AHEAD_MAX`] receive, and none waits.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peerglass_catalog::manifest::Root;
use peerglass_catalog::{ManifestRoot, NodeId};
use tokio::sync::{Notify, Semaphore, watch};

use super::follow::Followed;
use super::having::Having;
use super::pull;
use super::wire::HoldRefusal;
use crate::connection::Connection;
use crate::gather::{KeepError, Progress};
use crate::ledger::RootGuard;
use crate::swarm::Pieces;
use crate::transfer::Inner;

/// Pulls that receive at once. Each has up to 8 MiB in flight, and together they open no more streams
/// to one peer than it answers at once.
const PULLS_MAX: usize = 6;
/// Pulls that wait for their turn: each is a task and little more.
const PULLS_WAITING_MAX: usize = 256;

/// Pulls of parts of uploads that receive at once: they take nothing from those that somebody waits for.
const AHEAD_MAX: usize = 4;

/// What becomes of what a pull brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The manifest is held.
    Hold,
    /// It is kept for a while, for a manifest that nobody knows yet.
    Ahead,
}

/// How far a pull is.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// It has a place among those that receive.
    pub(crate) begun: bool,
    /// Once it is known.
    pub(crate) root: Option<Arc<Root>>,
    /// Bytes received.
    pub(crate) received: u64,
    /// Set last.
    pub(crate) ended: Option<Result<(), HoldRefusal>>,
}

/// A pull as those who wait for it and those who want from it see it.
pub(crate) struct Pull {
    pub(crate) purpose: Purpose,
    pub(crate) progress: Arc<Progress>,
    /// The pieces that can be read.
    pub(crate) having: Having,
    view: watch::Receiver<View>,
    wishes: Mutex<Wishes>,
    /// Wakes the pull when there are wishes.
    pub(super) nudge: Notify,
}

/// What a pull is asked to heed.
#[derive(Default)]
pub(super) struct Wishes {
    /// Where readers are, by their numbers.
    readers: BTreeMap<u64, u64>,
    last_reader: u64,
    /// Peers to follow.
    met: Vec<(NodeId, Option<Connection>)>,
}

/// Peers met and not followed yet that are remembered: more than are followed.
const MET_MAX: usize = 128;
/// Readers that are heeded: those who came first.
const READERS_HEEDED_MAX: usize = 64;

impl Pull {
    fn new(purpose: Purpose, progress: Arc<Progress>, view: watch::Receiver<View>) -> Self {
        let (having, wishes, nudge) = (Having::default(), Mutex::default(), Notify::new());
        Self { purpose, progress, having, view, wishes, nudge }
    }

    /// What it is doing now and from now on.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer that may have some of it.
    pub(super) fn meet(&self, node: NodeId, connection: Option<Connection>) {
        let mut wishes = self.wishes();
        if wishes.met.len() < MET_MAX {
            wishes.met.push((node, connection));
            self.nudge.notify_one();
        }
    }

    /// The peers met since the last call.
    pub(super) fn met(&self) -> Vec<(NodeId, Option<Connection>)> {
        std::mem::take(&mut self.wishes().met)
    }

    /// The bytes of the image that readers wait for.
    pub(super) fn read_at(&self) -> Vec<u64> {
        self.wishes().readers.values().take(READERS_HEEDED_MAX).copied().collect()
    }

    /// Wait for its end.
    pub(crate) async fn ended(&self) -> Result<(), HoldRefusal> {
        let mut view = self.view();
        let ended = view.wait_for(|view| view.ended.is_some()).await;
        // Without a last word the task has panicked, which is reported where tasks are reaped.
        ended.ok().and_then(|view| view.ended).unwrap_or(Err(HoldRefusal::Failed))
    }
}

/// A reader that waits for what a pull brings.
pub(crate) struct Waiting {
    pub(crate) pull: Arc<Pull>,
    number: u64,
    view: watch::Receiver<View>,
}

impl Waiting {
    pub(crate) fn new(pull: Arc<Pull>) -> Self {
        let mut wishes = pull.wishes();
        wishes.last_reader += 1;
        let number = wishes.last_reader;
        drop(wishes);
        let view = pull.view();
        Self { pull, number, view }
    }

    /// Whether the pull has brought all it will.
    pub(crate) fn look_is_done(&self) -> bool {
        self.view.borrow().ended == Some(Ok(()))
    }

    /// Whether the pull has begun to bring and not ended.
    pub(crate) fn goes_on(&self) -> bool {
        let view = self.view.borrow();
        view.root.is_some() && view.ended.is_none()
    }

    /// Wait, for the chunk that begins at the byte `at`, until the pull has gone on since the last look.
    pub(crate) async fn wait_at(&mut self, at: u64) -> bool {
        if self.pull.wishes().readers.insert(self.number, at) != Some(at) {
            self.pull.nudge.notify_one();
        }
        self.view.changed().await.is_ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pull.wishes().readers.remove(&self.number);
    }
}

/// See the module.
pub(crate) struct Pulls {
    going: Mutex<BTreeMap<ManifestRoot, Arc<Pull>>>,
    pub(super) slots: Semaphore,
    /// Those of which nothing is held in the end: apart, so that nobody who wants to hold something joins one.
    ahead: Mutex<BTreeMap<ManifestRoot, Arc<Pull>>>,
    pub(super) ahead_slots: Semaphore,
    /// What uploads offer. Nobody here waits for one: two nodes that offer the same would wait for each other.
    offers: Mutex<BTreeMap<ManifestRoot, Arc<Pull>>>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            going: Mutex::default(),
            slots: Semaphore::new(PULLS_MAX),
            ahead: Mutex::default(),
            ahead_slots: Semaphore::new(AHEAD_MAX),
            offers: Mutex::default(),
        }
    }
}

impl Pulls {
    // Each critical section is one step on the map.
    fn going(&self, purpose: Purpose) -> MutexGuard<'_, BTreeMap<ManifestRoot, Arc<Pull>>> {
        let pulls = match purpose {
            Purpose::Hold => &self.going,
            Purpose::Ahead => &self.ahead,
        };
        pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offers(&self) -> MutexGuard<'_, BTreeMap<ManifestRoot, Arc<Pull>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the pull of `root`, if there is one, has received.
    pub(super) fn received(&self, root: &ManifestRoot) -> u64 {
        let pull = self.of(root).map(|pull| pull.view());
        pull.map_or(0, |view| view.borrow().received)
    }

    /// The pull of `root`, if one goes on.
    pub(super) fn of(&self, root: &ManifestRoot) -> Option<Arc<Pull>> {
        let find = |purpose| self.going(purpose).get(root).map(Arc::clone);
        let offered = || self.offers().get(root).map(Arc::clone);
        find(Purpose::Hold).or_else(offered).or_else(|| find(Purpose::Ahead))
    }

    /// How many go on or wait.
    pub(crate) fn count(&self) -> usize {
        self.going(Purpose::Hold).len()
    }
}

/// Follow the pull of `root`, which begins now, for a reader at the byte `from` of the image, unless it goes on.
pub(crate) fn follow(transfer: &Arc<Inner>, root: ManifestRoot, from: u64) -> Result<Arc<Pull>, HoldRefusal> {
    follow_for(transfer, root, from, Purpose::Hold)
}

/// The same, for either purpose.
pub(super) fn follow_for(
    transfer: &Arc<Inner>,
    root: ManifestRoot,
    from: u64,
    purpose: Purpose,
) -> Result<Arc<Pull>, HoldRefusal> {
    let peers = transfer.peers.clone().ok_or(HoldRefusal::NoSource)?;
    if *transfer.stopping.borrow() {
        return Err(HoldRefusal::Stopping);
    }
    let mut going = transfer.pulls.going(purpose);
    let count = going.len();
    let vacant = match going.entry(root) {
        Entry::Occupied(pull) => return Ok(Arc::clone(pull.get())),
        Entry::Vacant(_) if count >= PULLS_MAX + PULLS_WAITING_MAX => return Err(HoldRefusal::Busy),
        Entry::Vacant(vacant) => vacant,
    };
    let (says, view) = watch::channel(View::default());
    let pull = Arc::new(Pull::new(purpose, Arc::new(Progress::new(transfer.store.clone())), view));
    vacant.insert(Arc::clone(&pull));
    drop(going);
    let going = Going {
        guard: Some(RootGuard::new(Arc::clone(&transfer.store.ledger), root)),
        transfer: Arc::clone(transfer),
        purpose,
        root,
    };
    // The first who waits waits for this.
    pull.wishes().readers.insert(0, from);
    let followed = Followed::new(peers, root);
    let task = carry_out(Arc::clone(transfer), root, followed, Arc::clone(&pull), says, going);
    transfer.spawn(task);
    Ok(pull)
}

async fn carry_out(
    transfer: Arc<Inner>,
    root: ManifestRoot,
    followed: Followed,
    pull: Arc<Pull>,
    says: watch::Sender<View>,
    going: Going,
) {
    let mut stopping = transfer.stopping.subscribe();
    let outcome = tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => Err(pull::PullError::Stopped),
        outcome = pull::run(&transfer, root, followed, &pull, &says) => outcome,
    };
    if pull.purpose == Purpose::Hold {
        transfer.traffic.pulled(outcome.is_ok());
    }
    if matches!(outcome, Err(pull::PullError::Keep(KeepError::Full))) {
        make_room(&transfer);
    }
    let ended = outcome.map_err(|error| {
        match pull.purpose {
            Purpose::Hold => tracing::warn!(manifest = %root.0, %error, "a manifest was not pulled"),
            // An upload that was given up, as a rule.
            Purpose::Ahead => tracing::debug!(%error, "a part of an upload was not pulled"),
        }
        error.refusal()
    });
    drop(pull);
    // Whoever comes now begins anew, or finds the manifest held.
    drop(going);
    says.send_modify(|view| view.ended = Some(ended));
}

/// The disk is full: what nobody may ever take up again must not keep it so.
fn make_room(transfer: &Inner) {
    if let Err(fault) = transfer.store.ledger.expire_checkpoints(Duration::ZERO) {
        tracing::warn!(%fault, "checkpoints could not be given up for room");
    }
}

/// That a pull goes on.
struct Going {
    transfer: Arc<Inner>,
    purpose: Purpose,
    root: ManifestRoot,
    guard: Option<RootGuard>,
}

impl Drop for Going {
    fn drop(&mut self) {
        self.transfer.pulls.going(self.purpose).remove(&self.root);
        // After that: nobody may find the pull who is not protected by it.
        drop(self.guard.take());
    }
}

/// A manifest that peers can have from here while this lives, without it being held.
pub(super) struct Offer {
    transfer: Arc<Inner>,
    name: ManifestRoot,
    says: watch::Sender<View>,
}

/// Offer `root`, of which `progress` has everything, unless it is offered already.
pub(super) fn offer(transfer: &Arc<Inner>, root: Root, progress: Arc<Progress>) -> Option<Offer> {
    let (name, pieces) = (Root::name(&root.encode()), Pieces::new(&root).count());
    let view = View { begun: true, root: Some(Arc::new(root)), ..View::default() };
    let (says, view) = watch::channel(view);
    let pull = Pull::new(Purpose::Ahead, progress, view);
    pull.having.add(0..pieces);
    match transfer.pulls.offers().entry(name) {
        Entry::Occupied(_) => return None,
        Entry::Vacant(vacant) => drop(vacant.insert(Arc::new(pull))),
    }
    Some(Offer { transfer: Arc::clone(transfer), name, says })
}

impl Offer {
    pub(super) fn name(&self) -> ManifestRoot {
        self.name
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.transfer.pulls.offers().remove(&self.name);
        self.says.send_modify(|view| view.ended = Some(Err(HoldRefusal::NoSource)));
    }
}
