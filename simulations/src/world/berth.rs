//! Where a node lives: its machine, its present life, and how that will end.

mod life;
mod lying;
mod membership;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use peerglass::{Node, Settings, Surroundings, assemble};
use peerglass_catalog::Timestamp;
use peerglass_transfer::{PackId, Usage, Workers};

pub(super) use self::life::Ended;
use self::life::Life;
use super::{EPOCH_S, locked};
use crate::dice::Dice;
use crate::disk::{CrashKind, DiskImage, Machine};
use crate::invariants::honest_end;
use crate::network::{Lan, SimListener, Weather, host};
use crate::scenarios::Plan;
use crate::workload::Scene;

/// How often the node's usage is read.
const USAGE_INTERVAL: Duration = Duration::from_millis(100);

/// How a node says that its peers saw more of its disk than is there.
const AMNESIA: &str = "older than what other nodes saw";

/// A node's place in the world. Clones share it.
#[derive(Clone)]
pub(super) struct Berth(Arc<Shared>);

struct Shared {
    node: usize,
    name: String,
    plan: Plan,
    scene: Scene,
    weather: Weather,
    lan: Lan,
    machine: Mutex<Machine>,
    life: Mutex<Life>,
    /// How many seconds its wall clock is ahead.
    clock_ahead_s: Arc<AtomicI64>,
    /// Its node tells the truth from now on.
    honest: Arc<AtomicBool>,
    /// Bits have flipped on its disk.
    rotten: AtomicBool,
}

impl Berth {
    pub(super) fn new(
        node: usize,
        plan: Plan,
        machine: Machine,
        scene: Scene,
        (weather, lan): (Weather, Lan),
    ) -> Self {
        let dice = Dice::new(scene.seed, &format!("fate of node {node}"));
        let moves = Dice::new(scene.seed, &format!("moves of node {node}"));
        Self(Arc::new(Shared {
            node,
            name: host(node),
            plan,
            scene,
            weather,
            lan,
            machine: Mutex::new(machine),
            life: Mutex::new(Life::before_the_first(dice, moves, node > 0)),
            clock_ahead_s: Arc::default(),
            honest: Arc::default(),
            rotten: AtomicBool::default(),
        }))
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        locked(&self.0.machine)
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        locked(&self.0.life)
    }

    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.0.scene.chronicle.note(&self.0.name, event);
    }

    fn count(&self, what: &'static str) {
        self.0.scene.chronicle.count(what);
    }

    /// One life of the node, from power on until the world takes it down.
    pub(super) async fn live(self) -> turmoil::Result {
        let surroundings = self.begin().await?;
        let settings = self.settings();
        self.become_member(&settings, &surroundings).await;
        let ended = match assemble(&settings, surroundings).await {
            Err(error) => Ended::Failed(format!("did not start: {error}")),
            Ok(node) => self.serve(node).await,
        };
        self.note(format_args!("{ended:?}"));
        self.life().end(ended);
        std::future::pending().await
    }

    /// From ready until the end.
    async fn serve(&self, node: Node) -> Ended {
        self.note(format_args!("ready"));
        self.life().ready = true;
        let number = self.life().number;
        self.begin_lying(node.transfer(), number);
        self.watch_bytes(node.transfer());
        self.observe(node.consensus().clone());
        let until_asked_to_stop = async {
            while !self.life().must_stop {
                self.life().usage = Some(node.transfer().usage());
                self.mind_bytes();
                tokio::time::sleep(USAGE_INTERVAL).await;
            }
        };
        let failure = tokio::select! {
            biased;
            failure = node.failed() => Some(failure),
            () = until_asked_to_stop => None,
        };
        match failure {
            Some(failure) => Ended::Failed(format!("gave up: {failure}")),
            None => {
                self.life().observer = None;
                node.stop().await;
                self.count("F-P5 node stopped in order");
                Ended::Stopped
            }
        }
    }

    async fn begin(&self) -> turmoil::Result<Surroundings<SimListener>> {
        let api_listener = SimListener::bind().await?;
        let number = self.life().begin_next();
        self.note(format_args!("life {number} begins"));
        if self.0.plan.nodes == 1 {
            self.0.scene.oracle().settle();
        }
        let mut dice = Dice::new(self.0.scene.seed, &format!("life {number} of node {}", self.0.node));
        let seed = dice.number();
        let peers = if self.0.plan.nodes > 1 { Some(self.peer_port(&mut dice).await?) } else { None };
        let disk = self.machine().start();
        self.draw_fate(turmoil::sim_elapsed().unwrap_or_default());
        let ahead = Arc::clone(&self.0.clock_ahead_s);
        Ok(Surroundings {
            discovery: self.discovery(&mut dice),
            wall_clock: Arc::new(move || wall_clock(ahead.load(Ordering::Relaxed))),
            seed,
            api_listener,
            key: self.key(),
            peers,
            disk,
            workers: Workers::Inline,
            lock: None,
        })
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.storage.reclaim_interval_s = self.0.plan.reclaim_interval_s;
        settings.storage.uploads_max = self.0.plan.uploads_max;
        settings.storage.cache_max_mib = self.0.plan.cache_max_mib;
        settings.storage.part_kib = self.0.plan.part_kib;
        settings.storage.checkpoint_kib = self.0.plan.checkpoint_kib;
        settings.storage.resume_within_s = 5;
        settings.cluster.out_after_s = self.0.plan.out_after_s;
        settings.raft.snapshot_entries = self.0.plan.snapshot_entries;
        settings.raft.log_entries_kept = self.0.plan.log_entries_kept;
        settings.api.body_idle_timeout_s = 5;
        settings.api.drain_timeout_s = 2;
        if self.0.plan.nodes > 1 {
            self.cluster_settings(&mut settings);
        }
        settings
    }

    /// Whether the life has to end now, and how. Reports a node that ended without a reason.
    pub(super) fn is_over(&self, now: Duration) -> Option<CrashKind> {
        let mut life = self.life();
        if std::mem::take(&mut life.retired) {
            return Some(CrashKind::PowerCut);
        }
        if let Some(ended) = life.ended.take() {
            let Ended::Failed(why) = ended else { return Some(CrashKind::Kill) };
            let amnesia = why.contains(AMNESIA);
            if amnesia && life.swapped {
                // Its operator does as it says.
                self.count("F-D11 node noticed that its disk was old");
                life.must_get = Some(None);
            } else if !self.machine().power().is_faulted() {
                self.0.scene.chronicle.violate(honest_end::unprovoked(&self.0.name, life.number, &why));
            } else {
                self.count("node gave up after a disk fault");
            }
            return Some(CrashKind::PowerCut);
        }
        let by_clock = life.until.is_some_and(|until| now >= until);
        let cut = !self.machine().power().is_on();
        if !by_clock && !cut {
            return None;
        }
        life.crashes_left = life.crashes_left.saturating_sub(1);
        if cut {
            self.count("crash at a drawn disk operation");
        }
        Some(life.kind)
    }

    /// End the life as far as the disks are concerned. Answers with whether the machine got other ones.
    pub(super) fn crash(&self, kind: CrashKind) -> bool {
        let mut life = self.life();
        life.observer = None;
        let mut machine = self.machine();
        let operations = machine.power().operations();
        self.note(format_args!("{kind:?} after {operations} disk operations"));
        if !life.ready && life.number > 0 {
            self.count("F-P2 crash during recovery");
        }
        if self.0.scene.oracle().uploads_in_flight() > 0 {
            self.count("crash while an upload was going on");
        }
        machine.crash(kind);
        let must_get = life.must_get.take();
        let replaced = must_get.is_some();
        if self.0.plan.moves && life.moves.chance(300) {
            life.port_moves += 1;
        }
        match must_get {
            None => {}
            Some(None) => {
                self.note(format_args!("gets empty disks"));
                self.count("F-D11 empty disk");
                machine.replace_disks(DiskImage::default());
                (life.must_join, life.token, life.swapped) = (true, None, false);
            }
            Some(Some(image)) => {
                self.note(format_args!("gets its old disks"));
                self.count("F-D11 old disk");
                machine.replace_disks(image);
                life.swapped = true;
            }
        }
        replaced
    }

    /// With the next crash, which must follow, its machine gets other disks: empty ones, or those of
    /// some time ago.
    pub(super) fn replace_disks(&self, with: Option<DiskImage>) {
        self.life().must_get = Some(with);
    }

    /// Ask the node to stop in order, as soon as it looks.
    pub(super) fn ask_to_stop(&self) {
        self.life().must_stop = true;
    }

    /// Its wall clock jumps.
    pub(super) fn shift_clock(&self, seconds: i64) {
        self.0.clock_ahead_s.fetch_add(seconds, Ordering::Relaxed);
        self.count("F-T1 wall clock jumped");
    }

    /// Whether its present life came to the end of its start.
    pub(super) fn is_ready(&self) -> bool {
        self.life().ready
    }

    /// An operator has to remove its node and wipe its machine.
    pub(super) fn call_for_removal(&self) {
        self.life().removal = true;
    }

    /// Whether it goes on with a disk that is not the one it had.
    pub(super) fn is_swapped(&self) -> bool {
        self.life().swapped
    }

    /// Nothing ends a life any more, but what its node does itself.
    pub(super) fn end_fates(&self) {
        let mut life = self.life();
        (life.crashes_left, life.until) = (0, None);
        self.machine().power().spare();
    }

    /// How long the machine stays off.
    pub(super) fn downtime(&self) -> Duration {
        Duration::from_millis(self.life().dice.magnitude(9))
    }

    /// Stop every fault: the life goes on undisturbed, and so do those after it.
    pub(super) fn heal(&self) {
        self.end_fates();
        self.end_lying();
        let machine = self.machine();
        machine.faults.arm(false);
        machine.faults.limit_packs(u64::MAX);
    }

    /// What the node says it stores, not older than [`USAGE_INTERVAL`].
    pub(super) fn usage(&self) -> Option<Usage> {
        self.life().usage
    }

    /// A bit of a pack on its disk changes (F-D6): from now on it may hold anything.
    pub(super) fn rot(&self) -> Option<(PackId, u64)> {
        self.0.rotten.store(true, Ordering::Relaxed);
        self.machine().rot()
    }

    /// What is on its disk.
    pub(super) fn list_packs(&self) -> Vec<(PackId, u64)> {
        self.machine().list_packs()
    }
}

fn wall_clock(ahead_s: i64) -> Timestamp {
    let since_1970 = Duration::from_secs(EPOCH_S) + turmoil::sim_elapsed().unwrap_or_default();
    let micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    Timestamp(micros.saturating_add(ahead_s.saturating_mul(1_000_000)))
}
