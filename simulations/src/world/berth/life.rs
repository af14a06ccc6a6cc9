//! The present life of a node, and what is drawn about its end.

use std::time::Duration;

use peerglass_transfer::Usage;

use super::Berth;
use super::lying::Watched;
use crate::dice::Dice;
use crate::disk::{CrashKind, DiskImage};
use crate::invariants::Standing;
use crate::scenarios::Fate;

/// Why a node ended by itself.
#[derive(Debug)]
pub(in crate::world) enum Ended {
    /// It was asked to.
    Stopped,
    /// It did not start, or gave up; the text says why.
    Failed(String),
}

/// The present life of a node.
pub(super) struct Life {
    /// Counted from 1; 0 before the first.
    pub(super) number: u64,
    pub(super) dice: Dice,
    pub(super) crashes_left: u64,
    pub(super) kind: CrashKind,
    /// When it ends by the clock.
    pub(super) until: Option<Duration>,
    pub(super) ready: bool,
    /// Somebody asked it to stop in order.
    pub(super) must_stop: bool,
    pub(super) ended: Option<Ended>,
    pub(super) usage: Option<Usage>,
    pub(super) bytes: Option<Watched>,
    /// Says where the node stands.
    pub(super) observer: Option<Box<dyn Fn() -> Standing + Send>>,
    /// An empty disk means to join a cluster, and not to form one.
    pub(super) must_join: bool,
    /// What to join with, and how often that failed.
    pub(super) token: Option<String>,
    pub(super) failed_joins: u32,
    /// Which disks the machine gets at its next crash.
    pub(super) must_get: Option<Option<DiskImage>>,
    /// How often its node came back at another address, and what that is drawn by.
    pub(super) port_moves: u16,
    pub(super) moves: Dice,
    /// Its disk is not the one it had: it may end because of that.
    pub(super) swapped: bool,
    /// An operator has to remove its node, and has done so.
    pub(super) removal: bool,
    pub(super) retired: bool,
}

impl Life {
    pub(super) fn before_the_first(dice: Dice, moves: Dice, must_join: bool) -> Self {
        Self {
            port_moves: 0,
            moves,
            number: 0,
            dice,
            crashes_left: 0,
            kind: CrashKind::PowerCut,
            until: None,
            ready: false,
            must_stop: false,
            ended: None,
            usage: None,
            bytes: None,
            observer: None,
            must_join,
            token: None,
            failed_joins: 0,
            must_get: None,
            swapped: false,
            removal: false,
            retired: false,
        }
    }

    /// Begin the next one. Answers with its number.
    pub(super) fn begin_next(&mut self) -> u64 {
        self.number += 1;
        (self.ready, self.must_stop, self.ended, self.usage) = (false, false, None, None);
        self.bytes = None;
        (self.until, self.kind) = (None, CrashKind::PowerCut);
        self.number
    }

    pub(super) fn end(&mut self, ended: Ended) {
        (self.ready, self.observer, self.ended) = (false, None, Some(ended));
    }
}

impl Berth {
    /// From now on lives end, beginning with the present one if there is one.
    pub(in crate::world) fn begin_fates(&self, now: Duration) {
        self.life().crashes_left = self.0.plan.crashes_of(self.0.node);
        if self.life().number > 0 {
            self.draw_fate(now);
        }
    }

    /// Draw how the present life ends, if it has to end.
    pub(super) fn draw_fate(&self, now: Duration) {
        let mut life = self.life();
        if life.crashes_left == 0 {
            return;
        }
        let fate = self.0.plan.fate(&mut life.dice);
        self.note(format_args!("fate {fate:?}"));
        match fate {
            Fate::AtOperation(operation, kind) => {
                self.machine().power().fail_in(operation);
                life.kind = kind;
            }
            Fate::After(time, kind) => (life.until, life.kind) = (Some(now + time), kind),
        }
    }
}
