//! The program `peerglass`, as a node that lies: of what it sends to nodes that fetch, a share is garbage.
//!
//! For benchmarks over real networks: one of these among honest nodes. It takes the same command line.
//! `PEERGLASS_LIES` is how many of 1,000 answers are lies, 500 unless it is set. What it is asked to keep it
//! keeps, and its own clients get what they should. It does not stall, which costs those who wait for it the time that a
//! peer may be silent, however they deal with garbage. How often it has lied it says on standard error.

use std::process::ExitCode;
use std::sync::Mutex;

use peerglass::Node;
use peerglass_transfer::Lie;

/// So many of 1,000 answers are lies, unless the environment says otherwise.
const PER_MILLE: u64 = 500;

fn main() -> ExitCode {
    if per_mille().is_none() {
        eprintln!("liar: PEERGLASS_LIES is no number");
        return ExitCode::FAILURE;
    }
    peerglass::program::main(lie)
}

fn per_mille() -> Option<u64> {
    std::env::var("PEERGLASS_LIES").map_or(Some(PER_MILLE), |share| share.parse().ok())
}

/// Have the node lie.
fn lie(node: &Node) {
    let per_mille = per_mille().unwrap_or(PER_MILLE);
    let chance = Mutex::new(Chance { state: node.consensus().node().0, told: 0 });
    node.transfer().lie(Box::new(move |fitting| chance.lock().ok()?.lie(fitting, per_mille)));
}

struct Chance {
    state: u64,
    told: u64,
}

impl Chance {
    fn lie(&mut self, fitting: &[Lie], per_mille: u64) -> Option<Lie> {
        if self.below(1_000) >= per_mille {
            return None;
        }
        let fitting: Vec<Lie> = fitting.iter().copied().filter(|lie| *lie != Lie::Stall).collect();
        let lie = *fitting.get(usize::try_from(self.below(fitting.len() as u64)).ok()?)?;
        self.told += 1;
        eprintln!("liar: lie {} is {lie:?}", self.told);
        Some(lie)
    }

    /// From 0 to `end`, excluded (SplitMix64).
    fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}
