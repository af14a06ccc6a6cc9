//! One run: nodes, their machines, their clients, and the time they share.
//!
//! The nodes are real ones: [`peerglass::assemble`] with the surroundings of this world. A run has
//! three parts. Clients work while disks fail, lives end and the network breaks; then faults stop,
//! power is cut once more, and an [audit](audit) looks at everything; what every answer of the run
//! promised must be there, and nothing else.

mod audit;
mod berth;
mod operator;
mod power;
mod storm;
mod swap;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::task::JoinSet;
use turmoil::Sim;

use self::berth::Berth;
use self::operator::Operator;
use self::storm::{Deed, Storm};
use self::swap::Copied;
use self::watch::Watch;
use crate::chronicle::{Chronicle, Coverage, Violation};
use crate::dice::Dice;
use crate::disk::{DiskFaults, Machine};
use crate::mutation::Mutation;
use crate::network::{CLIENTS, Crashes, FOUNDERS, Lan, Links, Weather, host, tls};
use crate::oracle::Oracle;
use crate::scenarios::Plan;
use crate::workload::{Client, Scene};

/// When a run begins, in seconds since 1970: some day in 2026.
pub(crate) const EPOCH_S: u64 = 1_790_000_000;

/// One step of time. Nothing below it is told apart, so it is the resolution of the trace.
const TICK: Duration = Duration::from_millis(1);

/// Virtual time a run may take. A run that needs more hangs.
const RUN_MAX: Duration = Duration::from_secs(600);

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
/// When a node panics, which is a violation in itself (I-S1).
pub fn run(seed: u64, options: Options) -> Report {
    crate::mutation::put_back(options.mutation);
    tls::begin(seed);
    let chronicle = Chronicle::default();
    let plan = Plan::draw(seed);
    chronicle.note("world", format_args!("{plan:?}"));
    let oracle = Arc::new(Mutex::new(Oracle::new(chronicle.clone())));
    let crashes = Crashes::none(plan.nodes);
    let scene = Scene { seed, chronicle: chronicle.clone(), oracle, nodes: plan.nodes, crashes };
    let mut world = World::new(plan, scene, options);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH_S))
        .tick_duration(TICK)
        .simulation_duration(RUN_MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(4))
        .tcp_capacity(1_024)
        // Queues are modelled before turmoil, where they can be counted.
        .udp_capacity(4_096)
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
    berths: Vec<Berth>,
    links: Links,
    weather: Weather,
    storm: Storm,
    watch: Watch,
    copied: Copied,
    /// Draws what happens to leaders while voters change.
    changing: Dice,
    /// Which machines are off, and until when.
    down_until: Vec<Option<Duration>>,
    /// Hosts that talk to nodes and are none.
    listeners: Vec<&'static str>,
}

impl World {
    fn new(plan: Plan, scene: Scene, options: Options) -> Self {
        let (seed, nodes) = (scene.seed, plan.nodes);
        let (weather, lan, states) = (Weather::default(), Lan::default(), Arc::default());
        let berth = |node| {
            let (states, chronicle) = (Arc::clone(&states), scene.chronicle.clone());
            let faults = DiskFaults::draw(seed, node, options.mutation, states, chronicle);
            let machine = Machine::new(seed, &host(node), faults);
            Berth::new(node, plan.clone(), machine, scene.clone(), (weather.clone(), lan.clone()))
        };
        Self {
            berths: (0..nodes).map(berth).collect(),
            links: Links::whole(nodes, lan.clone()),
            storm: Storm::none(&plan),
            weather,
            watch: Watch::new(nodes, scene.chronicle.clone()),
            copied: Copied::default(),
            changing: Dice::new(seed, "cuts in changes of voters"),
            down_until: vec![None; nodes],
            listeners: Vec::new(),
            plan,
            scene,
        }
    }

    fn play(&mut self, sim: &mut Sim<'_>) {
        for (node, berth) in self.berths.iter().enumerate() {
            let berth = berth.clone();
            sim.host(host(node), move || berth.clone().live());
        }
        self.lay_links(sim);
        if self.plan.nodes > 1 {
            let founders = self.operator("founder").form(self.plan.voters);
            self.step_through(sim, FOUNDERS, founders);
        }
        self.begin_faults(sim.elapsed());
        let door = self.operator("doorkeeper").mind_the_door();
        let meddlers = (0..).zip(&self.plan.changes);
        let meddlers =
            meddlers.map(|(number, changes)| self.operator(&format!("operator{number}")).meddle(*changes));
        let clients = clients(&self.scene, &self.plan).into_iter().map(|it| it.work(self.plan.actions_each));
        let work: Vec<LocalBoxFuture<'static, ()>> =
            clients.map(FutureExt::boxed_local).chain(meddlers.map(FutureExt::boxed_local)).collect();
        let clients = all(work);
        self.step_through(sim, CLIENTS, beside(clients, door));
        if self.scene.chronicle.is_violated() {
            return;
        }
        self.heal(sim);
        let door = self.operator("doorkeeper again").mind_the_door();
        let audit = audit::run(self.scene.clone(), self.berths.clone(), self.plan.clone());
        self.step_through(sim, audit::HOST, beside(audit, door));
        self.scene.chronicle.count_many("terms with a leader", self.watch.terms());
    }

    fn operator(&self, name: &str) -> Operator {
        let may_demote = self.plan.swap.is_none();
        Operator::new(name, self.scene.clone(), self.berths.clone(), may_demote)
    }

    /// Some links are longer than others. Each has one length: turmoil draws a delay for each
    /// datagram, and with a choice it would put all of them out of order.
    fn lay_links(&self, sim: &Sim<'_>) {
        let mut dice = Dice::new(self.scene.seed, "links");
        for one in 0..self.plan.nodes {
            for other in one + 1..self.plan.nodes {
                let delay = Duration::from_millis(dice.between(1, 6));
                sim.set_link_latency(host(one), host(other), delay);
            }
        }
    }

    fn begin_faults(&mut self, now: Duration) {
        self.scene.chronicle.note("world", format_args!("faults begin"));
        self.weather.set(self.plan.weather);
        self.storm = Storm::new(self.scene.seed, &self.plan, now);
        self.berths.iter().for_each(|berth| berth.begin_fates(now));
        for &node in &self.plan.failing {
            self.berths[node].machine().faults.arm(self.plan.disk_fails);
        }
    }

    /// Do `work` on a host of its own, until it is done or a promise is broken.
    fn step_through(
        &mut self,
        sim: &mut Sim<'_>,
        host: &'static str,
        work: impl Future<Output = ()> + 'static,
    ) {
        if self.scene.chronicle.is_violated() {
            return;
        }
        sim.client(host, async move {
            work.await;
            Ok(())
        });
        self.listeners.push(host);
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
            self.mind_watch();
            self.mind_memory(sim.elapsed());
            self.mind_change(sim);
            self.mind_storm(sim);
            self.mind_power(sim);
        }
    }

    /// From here on nothing fails any more. The last crash is a power cut, with whatever was
    /// unsynced when the clients went away.
    fn heal(&mut self, sim: &mut Sim<'_>) {
        self.scene.chronicle.note("world", format_args!("faults end"));
        self.berths.iter().for_each(Berth::heal);
        self.plan.full = None;
        self.plan.change_cuts = 0;
        self.storm = Storm::none(&self.plan);
        self.weather.set(Default::default());
        self.links.set(sim, Default::default());
        if self.plan.ends_in_blackout {
            self.black_out(sim);
        }
    }

    fn mind_room(&self, now: Duration) {
        let max = match self.plan.full {
            Some((from, until, bytes)) if from <= now && now < until => bytes,
            Some(_) | None => u64::MAX,
        };
        for &node in &self.plan.failing {
            self.berths[node].machine().faults.limit_packs(max);
        }
    }

    fn mind_watch(&mut self) {
        for (node, berth) in self.berths.iter().enumerate() {
            match berth.standing() {
                Some((life, standing)) => self.watch.look(node, life, standing),
                None => self.watch.gone(node),
            }
        }
    }

    fn mind_storm(&mut self, sim: &mut Sim<'_>) {
        for deed in self.storm.deeds(sim.elapsed(), self.watch.leader()) {
            self.scene.chronicle.note("world", format_args!("{deed:?}"));
            self.carry_out(sim, deed);
        }
    }

    fn carry_out(&mut self, sim: &mut Sim<'_>, deed: Deed) {
        match deed {
            Deed::Cut(what, cut) => {
                if !cut.is_empty() {
                    self.scene.chronicle.count(what);
                }
                self.links.set(sim, cut);
            }
            Deed::Switch((from, to), _) if from == to => {}
            Deed::Switch(way, down) => {
                self.scene.chronicle.count("F-N5 link switched");
                self.links.switch(sim, way, down);
            }
            Deed::Weather(conditions) => self.weather.set(conditions),
            Deed::Crash(node, kind) => self.crash(sim, node, kind),
            Deed::Blackout => self.black_out(sim),
            Deed::Restart(node) => self.berths[node].ask_to_stop(),
            Deed::ShiftClock(node, seconds) => self.berths[node].shift_clock(seconds),
            Deed::Calm(_) => {
                self.links.set(sim, Default::default());
                self.weather.set(Default::default());
                self.berths.iter().for_each(Berth::end_fates);
            }
            Deed::CopyDisks(node) => self.copy_disks(node),
            Deed::SwapDisks(node, swap) => self.swap_disks(sim, node, swap),
        }
    }
}

/// All of `work`, each a task of its own.
async fn all(work: Vec<LocalBoxFuture<'static, ()>>) {
    let mut working = JoinSet::new();
    for task in work {
        working.spawn_local(task);
    }
    while let Some(done) = working.join_next().await {
        done.expect("clients do not panic, or the run ends");
    }
}

/// `work`, and what has to be done as long as it goes on.
async fn beside(work: impl Future<Output = ()>, without_end: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = work => {}
        () = without_end => {}
    }
}

/// The clients of a run. They differ in which node they ask, not in where they are.
fn clients(scene: &Scene, plan: &Plan) -> Vec<Client> {
    (0..plan.clients).map(|client| Client::new(&format!("client{client}"), scene.clone())).collect()
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
