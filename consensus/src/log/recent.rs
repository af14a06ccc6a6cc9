//! The end of the log in memory.
//!
//! Every entry is read in the moment after it was appended: by a leader for each follower, and by everybody to be
//! applied. What is here spares those reads the database and the decoding.
//!
//! # What it promises
//!
//! * It holds a run of entries that ends with the last one of the log, or nothing. So a range that begins
//!   in it is answered as the database would.
//! * At most [`RECENT_BYTES_MAX`] of entries as they are encoded, unless the last one alone has more. Decoded, the
//!   densest that a client can have written, a long list of small edits, takes thirty times that.

use std::collections::VecDeque;

use openraft::entry::RaftEntry;

use crate::raft::Entry;

/// Enough for the entries that a thousand requests in flight wait for.
const RECENT_BYTES_MAX: usize = 1 << 20;

/// The last entries, oldest first, each with its encoded length.
#[derive(Default)]
pub(super) struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    /// These were appended to the log, in order.
    pub(super) fn extend(&mut self, appended: impl IntoIterator<Item = (Entry, usize)>) {
        for (entry, bytes) in appended {
            // Never expected: Raft appends behind the last one. But a gap would be handed out as none.
            if self.entries.back().is_some_and(|(last, _)| last.index().checked_add(1) != Some(entry.index()))
            {
                self.forget();
            }
            self.bytes += bytes;
            self.entries.push_back((entry, bytes));
        }
        while self.bytes > RECENT_BYTES_MAX && self.entries.len() > 1 {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
        }
    }

    /// Everything goes: what follows is read from the database.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The entries up to the one at `index` go.
    pub(super) fn forget_up_to(&mut self, index: u64) {
        while self.entries.front().is_some_and(|(first, _)| first.index() <= index) {
            self.forget_first();
        }
    }

    /// The entries from index `from` up to before `to`, if `from` is among them.
    pub(super) fn range(&self, from: u64, to: u64) -> Option<Vec<Entry>> {
        let first = self.entries.front()?.0.index();
        let skipped = usize::try_from(from.checked_sub(first)?).ok().filter(|at| *at < self.entries.len())?;
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        Some(self.entries.iter().skip(skipped).take(count).map(|(entry, _)| entry.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::raft::{LogId, Types};

    fn entry(index: u64) -> Entry {
        let leader = openraft::alias::LeaderIdOf::<Types>::new(1, 1).to_committed();
        Entry::new(LogId::new(leader, index), EntryPayload::Blank)
    }

    fn indexes(found: Option<Vec<Entry>>) -> Option<Vec<u64>> {
        found.map(|entries| entries.iter().map(RaftEntry::index).collect())
    }

    #[test]
    fn a_range_that_begins_in_it_is_answered_and_no_other() {
        let mut recent = Recent::default();
        assert_eq!(indexes(recent.range(0, 9)), None);
        recent.extend((5..9).map(|index| (entry(index), 10)));
        assert_eq!(indexes(recent.range(4, 9)), None, "the database has what came before");
        assert_eq!(indexes(recent.range(5, 7)), Some(vec![5, 6]));
        assert_eq!(indexes(recent.range(7, u64::MAX)), Some(vec![7, 8]));
        assert_eq!(indexes(recent.range(6, 6)), Some(vec![]));
        assert_eq!(indexes(recent.range(9, 10)), None);
    }

    #[test]
    fn it_keeps_the_last_ones_that_fit() {
        let mut recent = Recent::default();
        recent.extend((1..=10).map(|index| (entry(index), RECENT_BYTES_MAX / 3)));
        assert_eq!(indexes(recent.range(8, 20)), Some(vec![8, 9, 10]));
        assert_eq!(indexes(recent.range(7, 20)), None);
        recent.extend([(entry(11), 2 * RECENT_BYTES_MAX)]);
        assert_eq!(indexes(recent.range(11, 20)), Some(vec![11]), "however long it is");
        assert_eq!(recent.entries.len(), 1);
        recent.extend([(entry(12), 1)]);
        assert_eq!((recent.entries.len(), recent.bytes), (1, 1));
    }

    #[test]
    fn what_is_purged_goes_and_the_rest_stays() {
        let mut recent = Recent::default();
        recent.extend((5..9).map(|index| (entry(index), 10)));
        recent.forget_up_to(6);
        assert_eq!((indexes(recent.range(6, 9)), indexes(recent.range(7, 9))), (None, Some(vec![7, 8])));
        recent.forget_up_to(20);
        assert_eq!((recent.entries.len(), recent.bytes), (0, 0));
    }

    #[test]
    fn a_gap_leaves_what_follows_it() {
        let mut recent = Recent::default();
        recent.extend([(entry(1), 1), (entry(2), 1), (entry(7), 1)]);
        assert_eq!(indexes(recent.range(1, 9)), None);
        assert_eq!(indexes(recent.range(7, 9)), Some(vec![7]));
    }
}
