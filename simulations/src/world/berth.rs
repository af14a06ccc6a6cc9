//! Where the node lives: its machine, its present life, and how that will end.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use peerglass::{Settings, Surroundings, assemble};
use peerglass_catalog::Timestamp;
use peerglass_transfer::{PackId, Usage, Workers};

use super::{EPOCH_S, locked};
use crate::dice::Dice;
use crate::disk::{CrashKind, Machine};
use crate::invariants::honest_end;
use crate::network::SimListener;
use crate::scenarios::{Fate, Plan};
use crate::workload::Scene;

/// How often the node's usage is read.
const USAGE_INTERVAL: Duration = Duration::from_millis(100);

/// The node's place in the world. Clones share it.
#[derive(Clone)]
pub(super) struct Berth(Arc<Shared>);

struct Shared {
    plan: Plan,
    seed: u64,
    scene: Scene,
    machine: Mutex<Machine>,
    life: Mutex<Life>,
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
    /// Why the node gave up by itself.
    ended: Option<String>,
    usage: Option<Usage>,
}

impl Berth {
    pub(super) fn new(seed: u64, plan: Plan, machine: Machine, scene: Scene) -> Self {
        let life = Life {
            number: 0,
            dice: Dice::new(seed, "fate"),
            crashes_left: plan.crashes,
            kind: CrashKind::PowerCut,
            until: None,
            ready: false,
            ended: None,
            usage: None,
        };
        Self(Arc::new(Shared { plan, seed, scene, machine: Mutex::new(machine), life: Mutex::new(life) }))
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        locked(&self.0.machine)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        locked(&self.0.life)
    }

    fn note(&self, event: std::fmt::Arguments<'_>) {
        self.0.scene.chronicle.note("node", event);
    }

    /// One life of the node, from power on until the world takes it down.
    pub(super) async fn live(self) -> turmoil::Result {
        let surroundings = self.begin().await?;
        let ended = match assemble(&self.settings(), surroundings).await {
            Err(error) => format!("did not start: {error}"),
            Ok(node) => {
                self.note(format_args!("ready"));
                self.life().ready = true;
                let publish = async {
                    loop {
                        self.life().usage = Some(node.transfer().usage());
                        tokio::time::sleep(USAGE_INTERVAL).await;
                    }
                };
                tokio::select! {
                    biased;
                    failure = node.failed() => format!("gave up: {failure}"),
                    () = publish => unreachable!("it never ends"),
                }
            }
        };
        self.note(format_args!("{ended}"));
        self.life().ended = Some(ended);
        std::future::pending().await
    }

    async fn begin(&self) -> turmoil::Result<Surroundings<SimListener>> {
        let api_listener = SimListener::bind().await?;
        let born = turmoil::sim_elapsed().unwrap_or_default();
        let mut life = self.life();
        life.number += 1;
        (life.ready, life.ended, life.usage, life.until) = (false, None, None, None);
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
        self.0.scene.oracle().new_life();
        let seed = Dice::new(self.0.seed, &format!("life {}", life.number)).number();
        Ok(Surroundings {
            wall_clock: Arc::new(wall_clock),
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
        settings
    }

    /// Whether the life has to end now, and how. Reports a node that ended without a reason.
    pub(super) fn is_over(&self, now: Duration) -> Option<CrashKind> {
        let mut life = self.life();
        let machine = self.machine();
        if let Some(why) = life.ended.take() {
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

fn wall_clock() -> Timestamp {
    let since_1970 = Duration::from_secs(EPOCH_S) + turmoil::sim_elapsed().unwrap_or_default();
    Timestamp(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}
