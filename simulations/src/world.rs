//! One run: a node, its machine, its clients, and the time they share.
//!
//! The node is the real one: [`peerglass::assemble`] with the surroundings of this world. A run has
//! three parts. Clients work while the disks fail and lives end; then faults stop, power is cut once
//! more, and an [audit](audit) looks at everything; what every answer of the run promised must be
//! there, and nothing else.

mod audit;
mod berth;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use turmoil::Sim;

use self::berth::Berth;
use crate::chronicle::{Chronicle, Coverage, Violation};
use crate::disk::{CrashKind, DiskFaults, Machine, Mutation};
use crate::network::NODE;
use crate::oracle::Oracle;
use crate::scenarios::Plan;
use crate::workload::{Client, Scene};

/// When a run begins, in seconds since 1970: some day in 2026.
pub(crate) const EPOCH_S: u64 = 1_790_000_000;

/// One step of time. Nothing below it is told apart, so it is the resolution of the trace.
const TICK: Duration = Duration::from_millis(1);

/// Virtual time a run may take. A run that needs more hangs.
const RUN_MAX: Duration = Duration::from_secs(900);

/// What a run is asked to do besides its seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A known bug to put back.
    pub mutation: Option<Mutation>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Every event, one a line, in order.
    pub events: Vec<String>,
    /// How often each thing worth counting happened.
    pub coverage: Coverage,
    /// The promise that did not hold, if any.
    pub violation: Option<Violation>,
    /// How long it took, in virtual time.
    pub elapsed: Duration,
}

impl Report {
    /// A digest of every event: equal for equal runs.
    pub fn trace_digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for event in &self.events {
            hash.update(event.as_bytes()).update(b"\n");
        }
        hash.finalize().to_hex().to_string()
    }
}

/// Run the world of `seed` to its end.
///
/// Call it on a thread that did not run one before: libraries below keep state per thread, and a
/// run must not depend on the one before.
///
/// # Panics
///
/// When the node panics, which is a violation in itself (I-S1).
pub fn run(seed: u64, options: Options) -> Report {
    let chronicle = Chronicle::default();
    let plan = Plan::draw(seed);
    chronicle.note("world", format_args!("{plan:?}"));
    let faults = DiskFaults::draw(seed, options.mutation, chronicle.clone());
    let oracle = Arc::new(Mutex::new(Oracle::new(chronicle.clone())));
    let scene = Scene { seed, chronicle: chronicle.clone(), oracle, crashes: Arc::default() };
    let berth = Berth::new(seed, plan.clone(), Machine::new(seed, faults), scene.clone());
    let mut world = World { plan, scene, berth, down_until: None };
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH_S))
        .tick_duration(TICK)
        .simulation_duration(RUN_MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(4))
        .tcp_capacity(1_024)
        .build();
    world.play(&mut sim);
    let elapsed = sim.elapsed();
    drop(sim);
    let (events, coverage, violation) = chronicle.close();
    Report { seed, events, coverage, violation, elapsed }
}

struct World {
    plan: Plan,
    scene: Scene,
    berth: Berth,
    /// While the machine is off: until when.
    down_until: Option<Duration>,
}

impl World {
    fn play(&mut self, sim: &mut Sim<'_>) {
        let berth = self.berth.clone();
        sim.host(NODE, move || berth.clone().live());
        for client in 0..self.plan.clients {
            let name = client_name(client);
            let work = Client::new(&name, self.scene.clone()).work(self.plan.actions_each);
            sim.client(name, async move {
                work.await;
                Ok(())
            });
        }
        self.berth.machine().faults.arm(self.plan.disk_fails);
        self.step_until_done(sim);
        if self.scene.chronicle.is_violated() {
            return;
        }
        self.heal(sim);
        let audit = audit::run(self.scene.clone(), self.berth.clone(), self.plan.rot);
        sim.client("audit", async move {
            audit.await;
            Ok(())
        });
        self.step_until_done(sim);
    }

    /// Step until every client is done or a promise is broken.
    fn step_until_done(&mut self, sim: &mut Sim<'_>) {
        while !self.scene.chronicle.is_violated() {
            self.scene.chronicle.set_time(sim.elapsed());
            match sim.step() {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let why = format!("the run did not come to an end: {error}");
                    self.scene
                        .chronicle
                        .violate(crate::invariants::not_stuck::silent(RUN_MAX.as_secs(), &why));
                }
            }
            self.mind_room(sim.elapsed());
            self.mind_power(sim);
        }
    }

    /// From here on nothing fails any more. The last crash is a power cut, with whatever was
    /// unsynced when the clients went away.
    fn heal(&mut self, sim: &mut Sim<'_>) {
        self.scene.chronicle.note("world", format_args!("faults end"));
        self.berth.heal();
        self.plan.full = None;
        if self.down_until.is_none() {
            self.crash(sim, CrashKind::PowerCut);
        }
    }

    fn mind_room(&self, now: Duration) {
        let max = match self.plan.full {
            Some((from, until, bytes)) if from <= now && now < until => bytes,
            Some(_) | None => u64::MAX,
        };
        self.berth.machine().faults.limit_packs(max);
    }

    /// Take the node down when its power is gone or it ended, and up again some time later.
    fn mind_power(&mut self, sim: &mut Sim<'_>) {
        match self.down_until {
            Some(until) if sim.elapsed() >= until => {
                self.down_until = None;
                sim.bounce(NODE);
            }
            Some(_) => {}
            None => {
                if let Some(kind) = self.berth.is_over(sim.elapsed()) {
                    self.crash(sim, kind);
                }
            }
        }
    }

    fn crash(&mut self, sim: &mut Sim<'_>, kind: CrashKind) {
        // The disks first: what the dying tasks do when they are dropped reaches nothing any more.
        self.berth.crash(kind);
        // Nor do goodbyes reach the clients. A machine that loses power sends none, and the order in
        // which tokio drops tasks depends on how many it ran before in this process.
        let clients: Vec<String> = (0..self.plan.clients).map(client_name).collect();
        clients.iter().for_each(|client| sim.partition(NODE, client.as_str()));
        sim.crash(NODE);
        clients.iter().for_each(|client| sim.repair(NODE, client.as_str()));
        self.scene.crashes.fetch_add(1, Ordering::Relaxed);
        self.down_until = Some(sim.elapsed() + self.berth.downtime());
    }
}

fn client_name(client: u64) -> String {
    format!("client{client}")
}

/// Run `seed` on a thread of its own, and report a panic as what it is.
pub fn run_apart(seed: u64, options: Options) -> Report {
    let name = format!("seed {seed}");
    let thread = std::thread::Builder::new().name(name);
    let run = thread.spawn(move || run(seed, options)).expect("a thread can be started");
    run.join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let violation = Violation {
            invariant: "I-S1 (nothing panics)",
            subject: "the node or its world; the place is printed above".to_owned(),
            expected: "no panic".to_owned(),
            got: text.to_owned(),
        };
        Report {
            seed,
            events: Vec::new(),
            coverage: Coverage::new(),
            violation: Some(violation),
            elapsed: Duration::ZERO,
        }
    })
}

/// Lock what only one thread ever locks.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
