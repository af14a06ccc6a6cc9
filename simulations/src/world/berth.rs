//! Where a node lives: its machine, its present life, and how that will end.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use peerglass::{Node, Settings, Surroundings, assemble};
use peerglass_catalog::Timestamp;
use peerglass_transfer::{PackId, Usage, Workers};

use super::{EPOCH_S, locked};
use crate::dice::Dice;
use crate::disk::{CrashKind, Machine};
use crate::invariants::honest_end;
use crate::network::{SimListener, Weather, host};
use crate::scenarios::{Fate, Plan};
use crate::workload::Scene;

/// How often the node's usage is read.
const USAGE_INTERVAL: Duration = Duration::from_millis(100);

/// A node's place in the world. Clones share it.
#[derive(Clone)]
pub(super) struct Berth(Arc<Shared>);

struct Shared {
    node: usize,
    name: String,
    plan: Plan,
    scene: Scene,
    weather: Weather,
    machine: Mutex<Machine>,
    life: Mutex<Life>,
    /// How many seconds its wall clock is ahead.
    clock_ahead_s: Arc<AtomicI64>,
}

/// Why a node ended by itself.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to.
    Stopped,
    /// It did not start, or gave up; the text says why.
    Failed(String),
}

/// The present life of the node.
struct Life {
    /// Counted from 1; 0 before the first.
    number: u64,
    dice: Dice,
    crashes_left: u64,
    kind: CrashKind,
    /// When it ends by the clock.
    until: Option<Duration>,
    ready: bool,
    /// Somebody asked it to stop in order.
    must_stop: bool,
    ended: Option<Ended>,
    usage: Option<Usage>,
}

impl Berth {
    pub(super) fn new(node: usize, plan: Plan, machine: Machine, scene: Scene, weather: Weather) -> Self {
        let life = Life {
            number: 0,
            dice: Dice::new(scene.seed, &format!("fate of node {node}")),
            crashes_left: plan.crashes_of(node),
            kind: CrashKind::PowerCut,
            until: None,
            ready: false,
            must_stop: false,
            ended: None,
            usage: None,
        };
        Self(Arc::new(Shared {
            node,
            name: host(node),
            plan,
            scene,
            weather,
            machine: Mutex::new(machine),
            life: Mutex::new(life),
            clock_ahead_s: Arc::default(),
        }))
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        locked(&self.0.machine)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        locked(&self.0.life)
    }

    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.0.scene.chronicle.note(&self.0.name, event);
    }

    /// One life of the node, from power on until the world takes it down.
    pub(super) async fn live(self) -> turmoil::Result {
        let surroundings = self.begin().await?;
        let ended = match assemble(&self.settings(), surroundings).await {
            Err(error) => Ended::Failed(format!("did not start: {error}")),
            Ok(node) => self.serve(node).await,
        };
        self.note(format_args!("{ended:?}"));
        let mut life = self.life();
        (life.ready, life.ended) = (false, Some(ended));
        drop(life);
        std::future::pending().await
    }

    /// From ready until the end.
    async fn serve(&self, node: Node) -> Ended {
        self.note(format_args!("ready"));
        self.life().ready = true;
        let until_asked_to_stop = async {
            while !self.life().must_stop {
                self.life().usage = Some(node.transfer().usage());
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
                node.stop().await;
                self.0.scene.chronicle.count("F-P5 node stopped in order");
                Ended::Stopped
            }
        }
    }

    async fn begin(&self) -> turmoil::Result<Surroundings<SimListener>> {
        let api_listener = SimListener::bind().await?;
        let born = turmoil::sim_elapsed().unwrap_or_default();
        let mut life = self.life();
        life.number += 1;
        (life.ready, life.must_stop, life.ended, life.usage, life.until) = (false, false, None, None, None);
        let mut off_at = None;
        if life.crashes_left > 0 {
            let fate = self.0.plan.fate(&mut life.dice);
            self.note(format_args!("life {} begins, fate {fate:?}", life.number));
            match fate {
                Fate::AtOperation(operation, kind) => (off_at, life.kind) = (Some(operation), kind),
                Fate::After(time, kind) => (life.until, life.kind) = (Some(born + time), kind),
            }
        } else {
            life.kind = CrashKind::PowerCut;
            self.note(format_args!("life {} begins", life.number));
        }
        if self.0.plan.nodes == 1 {
            self.0.scene.oracle().settle();
        }
        let seed =
            Dice::new(self.0.scene.seed, &format!("life {} of node {}", life.number, self.0.node)).number();
        let ahead = Arc::clone(&self.0.clock_ahead_s);
        Ok(Surroundings {
            wall_clock: Arc::new(move || wall_clock(ahead.load(Ordering::Relaxed))),
            seed,
            api_listener,
            disk: self.machine().start(off_at),
            workers: Workers::Inline,
            lock: None,
        })
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.storage.reclaim_interval_s = self.0.plan.reclaim_interval_s;
        settings.storage.uploads_max = self.0.plan.uploads_max;
        settings.raft.snapshot_entries = self.0.plan.snapshot_entries;
        settings.raft.log_entries_kept = self.0.plan.log_entries_kept;
        settings.api.body_idle_timeout_s = 5;
        settings.api.drain_timeout_s = 2;
        settings
    }

    /// Whether the life has to end now, and how. Reports a node that ended without a reason.
    pub(super) fn is_over(&self, now: Duration) -> Option<CrashKind> {
        let mut life = self.life();
        let machine = self.machine();
        if let Some(ended) = life.ended.take() {
            let Ended::Failed(why) = ended else { return Some(CrashKind::Kill) };
            if !machine.power().is_faulted() {
                self.0.scene.chronicle.violate(honest_end::unprovoked(life.number, &why));
            }
            self.0.scene.chronicle.count("node gave up after a disk fault");
            return Some(CrashKind::PowerCut);
        }
        let by_clock = life.until.is_some_and(|until| now >= until);
        let cut = !machine.power().is_on();
        if !by_clock && !cut {
            return None;
        }
        life.crashes_left = life.crashes_left.saturating_sub(1);
        if cut {
            self.0.scene.chronicle.count("crash at a drawn disk operation");
        }
        Some(life.kind)
    }

    /// End the life as far as the disks are concerned.
    pub(super) fn crash(&self, kind: CrashKind) {
        let life = self.life();
        let mut machine = self.machine();
        let operations = machine.power().operations();
        self.note(format_args!("{kind:?} after {operations} disk operations"));
        if !life.ready && life.number > 0 {
            self.0.scene.chronicle.count("F-P2 crash during recovery");
        }
        if self.0.scene.oracle().uploads_in_flight() > 0 {
            self.0.scene.chronicle.count("crash while an upload was going on");
        }
        machine.crash(kind);
    }

    /// Ask the node to stop in order, as soon as it looks.
    pub(super) fn ask_to_stop(&self) {
        self.life().must_stop = true;
    }

    /// Its wall clock jumps.
    pub(super) fn shift_clock(&self, seconds: i64) {
        self.0.clock_ahead_s.fetch_add(seconds, Ordering::Relaxed);
        self.0.scene.chronicle.count("F-T1 wall clock jumped");
    }

    /// Whether it says that it leads the cluster.
    pub(super) fn leads(&self) -> bool {
        false
    }

    /// Whether its present life came to the end of its start.
    pub(super) fn is_ready(&self) -> bool {
        self.life().ready
    }

    /// How long the machine stays off.
    pub(super) fn downtime(&self) -> Duration {
        Duration::from_millis(self.life().dice.magnitude(9))
    }

    /// Stop every fault: the life goes on undisturbed, and so do those after it.
    pub(super) fn heal(&self) {
        let mut life = self.life();
        life.crashes_left = 0;
        life.until = None;
        let machine = self.machine();
        machine.power().spare();
        machine.faults.arm(false);
        machine.faults.limit_packs(u64::MAX);
    }

    /// What the node says it stores, not older than [`USAGE_INTERVAL`].
    pub(super) fn usage(&self) -> Option<Usage> {
        self.life().usage
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
