//! One machine: its disks, and the life that runs on it now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use peerglass::Disk;
use peerglass_transfer::PackId;

use super::faults::{DiskFaults, Place};
use super::keyspace::{KeyspaceCore, Map, SimKeyspace, VOTE};
use super::packs::{PacksCore, SimPacks};
use super::power::Power;
use crate::mutation::Mutation;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashKind {
    /// Power fails, and the disks lose what was not synced (F-P4).
    PowerCut,
    /// The process is killed; what it wrote stays in the machine's cache (F-P1).
    Kill,
}

/// What was durable on the disks of a machine at one moment. The default is disks fresh from the
/// factory.
#[derive(Clone, Default)]
pub(crate) struct DiskImage {
    maps: [Map; 3],
    packs: Vec<(PackId, Vec<u8>)>,
}

/// The disks of one machine. They outlive the node.
pub(crate) struct Machine {
    log: Arc<RwLock<KeyspaceCore>>,
    state: Arc<RwLock<KeyspaceCore>>,
    index: Arc<RwLock<KeyspaceCore>>,
    packs: Arc<Mutex<PacksCore>>,
    pub(crate) faults: Arc<DiskFaults>,
    power: Arc<Power>,
}

impl Machine {
    /// The machine `name` with empty disks, switched off.
    pub(crate) fn new(seed: u64, name: &str, faults: Arc<DiskFaults>) -> Self {
        Self {
            log: KeyspaceCore::new(Place::Log, seed, name),
            state: KeyspaceCore::new(Place::State, seed, name),
            index: KeyspaceCore::new(Place::Index, seed, name),
            packs: PacksCore::new(seed, name),
            faults,
            power: Arc::new(Power::new(Some(0))),
        }
    }

    /// Begin a life.
    pub(crate) fn start(&mut self) -> Disk {
        self.power = Arc::new(Power::new(None));
        if self.faults.has(Mutation::TermForgotten) {
            edit(&self.log).forget(VOTE);
        }
        let keyspace = |core: &Arc<RwLock<KeyspaceCore>>| {
            Arc::new(SimKeyspace::new(Arc::clone(core), Arc::clone(&self.power), Arc::clone(&self.faults)))
        };
        let packs = SimPacks {
            core: Arc::clone(&self.packs),
            power: Arc::clone(&self.power),
            faults: Arc::clone(&self.faults),
        };
        Disk {
            log: keyspace(&self.log),
            state: keyspace(&self.state),
            index: keyspace(&self.index),
            packs: Arc::new(packs),
        }
    }

    /// The power of the present life.
    pub(crate) fn power(&self) -> &Power {
        &self.power
    }

    /// End the life, as far as the disks are concerned. The world must take its tasks down next.
    pub(crate) fn crash(&mut self, kind: CrashKind) {
        self.power.switch_off();
        let cores = [&self.log, &self.state, &self.index];
        match kind {
            CrashKind::Kill => {
                cores.iter().for_each(|core| edit(core).lose_process());
                self.packs().lose_process();
                self.faults.chronicle.count("F-P1 kill, cache kept");
            }
            CrashKind::PowerCut => {
                let lost = [
                    "F-D1 unsynced end of the log lost",
                    "F-D1 unsynced end of the catalog lost",
                    "F-D1 unsynced end of the index lost",
                ];
                for (core, what) in cores.into_iter().zip(lost) {
                    if edit(core).lose_power() > 0 {
                        self.faults.chronicle.count(what);
                    }
                }
                self.packs().lose_power(&self.faults);
                self.faults.chronicle.count("F-P4 power cut");
            }
        }
    }

    /// What a power cut that lost everything unsynced would leave now.
    pub(crate) fn image(&self) -> DiskImage {
        DiskImage {
            maps: [&self.log, &self.state, &self.index].map(|core| edit(core).durable().clone()),
            packs: self.packs().durable(),
        }
    }

    /// Put the disks of `image` into the machine, which must be off (F-D11).
    pub(crate) fn replace_disks(&mut self, image: DiskImage) {
        let DiskImage { maps: [log, state, index], packs } = image;
        edit(&self.log).replace(log);
        edit(&self.state).replace(state);
        edit(&self.index).replace(index);
        self.packs().replace(packs);
    }

    /// Every pack and its length.
    pub(crate) fn list_packs(&self) -> Vec<(PackId, u64)> {
        self.packs().list()
    }

    /// Change one bit of a pack at rest (F-D6).
    pub(crate) fn rot(&self) -> Option<(PackId, u64)> {
        self.packs().rot()
    }

    fn packs(&self) -> MutexGuard<'_, PacksCore> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn edit(core: &RwLock<KeyspaceCore>) -> std::sync::RwLockWriteGuard<'_, KeyspaceCore> {
    core.write().unwrap_or_else(PoisonError::into_inner)
}
