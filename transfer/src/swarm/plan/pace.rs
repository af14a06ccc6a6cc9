//! How much to ask for at once: no more than keeps everything busy.

use std::time::Duration;

/// Pieces asked for at first, and at least.
const LEAST: usize = 2;
/// At most, of one peer of this site: what waits there cannot be asked of another who has it meanwhile.
const MOST: usize = 6;
/// At most, of a peer of another site, where the way is long, and of all of them.
const MOST_FAR: usize = 16;

/// How many pieces may be asked for, which grows while they come soon and shrinks when they come late.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pieces: usize,
    most: usize,
    /// A piece that comes sooner shows that more may be asked.
    soon: Duration,
    /// One that comes later shows that less should be.
    late: Duration,
}

impl Window {
    /// For one peer of another site.
    pub(super) fn remote() -> Self {
        Self { most: MOST_FAR, ..Self::near() }
    }

    /// For one peer of this site.
    pub(super) fn near() -> Self {
        Self { pieces: LEAST, most: MOST, soon: Duration::from_millis(200), late: Duration::from_millis(600) }
    }

    /// For all peers of other sites together, whose pieces share one access link.
    pub(super) fn far() -> Self {
        Self { pieces: LEAST, most: MOST_FAR, soon: Duration::from_millis(500), late: Duration::from_secs(1) }
    }

    pub(super) fn has_room(self, asked: usize) -> bool {
        asked < self.pieces
    }

    pub(super) fn arrived(&mut self, took: Duration) {
        if took < self.soon {
            self.pieces = (self.pieces + 1).min(self.most);
        } else if took > self.late {
            self.pieces = (self.pieces - 1).max(LEAST);
        }
    }

    pub(super) fn missed(&mut self) {
        self.pieces = (self.pieces / 2).max(LEAST);
    }
}
