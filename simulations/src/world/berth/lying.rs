//! A berth whose node lies to the others, and what an honest one must make of that.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use peerglass_transfer::{Lie, Transfer, WeakTransfer};

use super::Berth;
use crate::dice::Dice;
use crate::invariants::kept_sound;
use crate::world::locked;

/// A life's bytes, as its world watches them.
pub(super) struct Watched {
    /// Not held on to: what a life leaves behind must not outlive it.
    transfer: WeakTransfer,
    /// How often something held was found damaged when the life began: a disk may be old.
    losses_before: u64,
    bans: u64,
}

impl Berth {
    /// Have the node of this life lie, if this is the berth of a liar.
    pub(super) fn begin_lying(&self, transfer: &Transfer, number: u64) {
        let Some(liar) = self.0.plan.liar.filter(|liar| liar.node == self.0.node) else { return };
        let name = format!("lies of node {} in life {number}", self.0.node);
        let dice = Mutex::new(Dice::new(self.0.scene.seed, &name));
        let (chronicle, name) = (self.0.scene.chronicle.clone(), self.0.name.clone());
        let honest = self.0.honest.clone();
        transfer.lie(Box::new(move |fitting| {
            let mut dice = locked(&dice);
            if honest.load(Ordering::Relaxed) || !dice.chance(liar.per_mille) {
                return None;
            }
            let lie = *dice.pick(fitting);
            chronicle.note(&name, format_args!("lies: {lie:?}"));
            chronicle.count(counted(lie));
            Some(lie)
        }));
    }

    /// From now on its node tells the truth, unless it lies to the end.
    pub(super) fn end_lying(&self) {
        let to_the_end = self.0.plan.liar.is_some_and(|liar| liar.to_the_end);
        self.0.honest.store(!to_the_end, Ordering::Relaxed);
    }

    /// Begin to watch the bytes of this life.
    pub(super) fn watch_bytes(&self, transfer: &Transfer) {
        let watched = Watched { transfer: transfer.downgrade(), losses_before: transfer.losses(), bans: 0 };
        self.life().bytes = Some(watched);
    }

    /// I-D9 at every look: nothing that is kept turns out to be something else, on disks that do not fail, and
    /// nobody is banned where nobody lies.
    pub(super) fn mind_bytes(&self) {
        let mut life = self.life();
        let Some((watched, transfer)) =
            life.bytes.as_mut().and_then(|it| Some((&*it, it.transfer.upgrade()?)))
        else {
            return;
        };
        let (losses, bans) = (transfer.losses() - watched.losses_before, transfer.counts().bans);
        let more = bans - watched.bans;
        life.bytes.iter_mut().for_each(|it| it.bans = bans);
        drop(life);
        let chronicle = &self.0.scene.chronicle;
        if more > 0 {
            chronicle.count_many("I-D9 node that lied not asked again", more);
        }
        let violations = [
            kept_sound::losses(&self.0.name, losses, self.has_sound_disks()),
            kept_sound::bans(
                &self.0.name,
                more,
                self.0.plan.liar.is_some_and(|liar| liar.node != self.0.node),
            ),
        ];
        violations.into_iter().flatten().for_each(|violation| chronicle.violate(violation));
    }

    /// Whether nothing but the node itself can have damaged what it keeps.
    pub(in crate::world) fn has_sound_disks(&self) -> bool {
        let plan = &self.0.plan;
        let fails = plan.disk_fails && plan.failing.contains(&self.0.node);
        !fails && !self.0.rotten.load(Ordering::Relaxed)
    }

    /// The bytes of its present life.
    pub(in crate::world) fn transfer(&self) -> Option<Transfer> {
        self.life().bytes.as_ref()?.transfer.upgrade()
    }
}

fn counted(lie: Lie) -> &'static str {
    match lie {
        Lie::WrongBit => "F-B1 wrong bytes sent",
        Lie::WrongBlob => "F-B1 bytes of something else sent",
        Lie::Short => "F-B1 answer cut short",
        Lie::Trailing => "F-B1 bytes sent after the end",
        Lie::Stall => "F-B2 answer stalled",
        Lie::Claim => "F-B2 claimed what is not there",
        Lie::WrongLength => "F-B4 wrong length announced",
        Lie::NoSuchPiece => "F-B9 claimed pieces that do not exist",
    }
}
