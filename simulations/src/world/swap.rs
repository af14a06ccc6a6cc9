//! Disks that are replaced (F-D11), and whether the node notices.

use std::time::Duration;

use turmoil::Sim;

use super::World;
use crate::disk::{CrashKind, DiskImage};
use crate::invariants::no_amnesia;
use crate::scenarios::Swap;

/// How long the machine is off while its disks are replaced: others are up again by then.
const SWAP: Duration = Duration::from_secs(2);
/// How long a node may take to notice, from its start.
const NOTICED_S: u64 = 6;

/// The copy of a node's disks, and what became of it.
#[derive(Default)]
pub(super) struct Copied {
    image: DiskImage,
    /// What the node knew to be committed when the copy was made.
    committed: u64,
    /// Who has to notice until when that it forgot how many entries.
    must_notice: Option<(usize, Duration, u64)>,
}

impl World {
    pub(super) fn copy_disks(&mut self, node: usize) {
        self.copied.image = self.berths[node].machine().image();
        self.copied.committed = self.watch.committed(node);
    }

    pub(super) fn swap_disks(&mut self, sim: &mut Sim<'_>, node: usize, swap: Swap) {
        if swap == Swap::Removed {
            return self.berths[node].call_for_removal();
        }
        let lost = self.watch.committed(node).saturating_sub(self.copied.committed);
        // Followers tell of a leader's disk nothing; whoever leads next learns what it lacks.
        let led = self.watch.led(node);
        let image = (swap == Swap::Old).then(|| std::mem::take(&mut self.copied.image));
        if image.is_some() && lost > 0 && !led {
            let until = sim.elapsed() + SWAP + Duration::from_secs(NOTICED_S);
            self.copied.must_notice = Some((node, until, lost));
        }
        self.berths[node].replace_disks(image);
        self.crash(sim, node, CrashKind::PowerCut);
        self.down_until[node] = Some(sim.elapsed() + SWAP);
    }

    /// Look whether a node that got its old disk has noticed.
    pub(super) fn mind_memory(&mut self, now: Duration) {
        let Some((node, until, lost)) = self.copied.must_notice else { return };
        if now < until {
            return;
        }
        self.copied.must_notice = None;
        if self.berths[node].is_swapped() {
            self.scene.chronicle.violate(no_amnesia::unnoticed(node, lost, NOTICED_S));
        }
    }
}
