//! Named situations. Each seed draws one, and within it how much of everything.

use std::time::Duration;

use crate::dice::Dice;
use crate::disk::CrashKind;

/// What kind of trouble a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// No fault but one power cut at the end (SC-02).
    Calm,
    /// Crashes at drawn disk operations and times.
    Crashes,
    /// Crashes soon after the start, so that recovery itself is interrupted (F-P2).
    CrashLoop,
    /// Packs find no room for a while (SC-16).
    FullDisk,
    /// Syncs, reads and writes fail now and then.
    FailingDisk,
    /// A bit of all.
    Mixed,
}

const SCENARIOS: [Scenario; 10] = [
    Scenario::Calm,
    Scenario::Crashes,
    Scenario::Crashes,
    Scenario::Crashes,
    Scenario::CrashLoop,
    Scenario::FullDisk,
    Scenario::FailingDisk,
    Scenario::FailingDisk,
    Scenario::Mixed,
    Scenario::Mixed,
];

/// Everything about a run that is drawn before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) clients: u64,
    pub(crate) actions_each: u64,
    /// Crashes before the final one.
    pub(crate) crashes: u64,
    /// While packs may take no more than so many bytes: from when, until when, how many.
    pub(crate) full: Option<(Duration, Duration, u64)>,
    pub(crate) disk_fails: bool,
    pub(crate) snapshot_entries: u64,
    pub(crate) log_entries_kept: u64,
    pub(crate) reclaim_interval_s: u64,
    pub(crate) uploads_max: u32,
    /// Whether bits flip in packs at rest before the last downloads (F-D6). Then the run ends with
    /// those, and not with deleting everything.
    pub(crate) rot: bool,
}

/// How and when one life ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// At this disk operation, counted from 1.
    AtOperation(u64, CrashKind),
    /// This long after its start.
    After(Duration, CrashKind),
}

impl Plan {
    /// Draw the plan of the run `seed`.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let scenario = *dice.pick(&SCENARIOS);
        let crashes = match scenario {
            Scenario::Calm => 0,
            Scenario::Crashes | Scenario::Mixed => dice.between(2, 6),
            Scenario::CrashLoop => dice.between(4, 12),
            Scenario::FullDisk | Scenario::FailingDisk => dice.below(3),
        };
        let fills = match scenario {
            Scenario::FullDisk => true,
            Scenario::Mixed => dice.chance(400),
            Scenario::Calm | Scenario::Crashes | Scenario::CrashLoop | Scenario::FailingDisk => false,
        };
        let full_from = Duration::from_millis(dice.between(500, 3_000));
        let full_for = Duration::from_millis(dice.between(1_000, 6_000));
        let full_bytes = dice.below(1 << 20);
        Self {
            scenario,
            clients: dice.between(3, 6),
            actions_each: dice.between(14, 30),
            crashes,
            full: fills.then_some((full_from, full_from + full_for, full_bytes)),
            disk_fails: matches!(scenario, Scenario::FailingDisk | Scenario::Mixed),
            snapshot_entries: *dice.pick(&[12, 40, 20_000]),
            log_entries_kept: *dice.pick(&[0, 5, 1_000]),
            reclaim_interval_s: dice.between(1, 3),
            uploads_max: if dice.chance(150) { 2 } else { 64 },
            rot: dice.chance(250),
        }
    }

    /// How the next life ends.
    pub(crate) fn fate(&self, dice: &mut Dice) -> Fate {
        let kind = if dice.chance(750) { CrashKind::PowerCut } else { CrashKind::Kill };
        let early = self.scenario == Scenario::CrashLoop && dice.chance(700);
        match dice.chance(800) {
            true if early => Fate::AtOperation(dice.between(1, 20), kind),
            true => Fate::AtOperation(dice.magnitude(10), kind),
            false => Fate::After(Duration::from_millis(dice.magnitude(12)), kind),
        }
    }
}
