//! Pieces: the unit in which a swarm counts, announces and asks.
//!
//! The first pieces of a manifest are its pages, one each. After them, data piece `k` is every chunk
//! that begins in the bytes `[k * span, (k + 1) * span)` of the image. So how many pieces there are
//! follows from the root alone, while what one consists of is known once its pages are here. A data piece
//! of nothing but holes is empty.

use std::ops::Range;

use peerglass_catalog::manifest::Root;

/// Shortest span: a first byte must not wait for much more than itself.
const SPAN_MIN: u64 = 256 << 10;
/// Longest, but for images of terabytes: a piece is in memory while it is on its way.
const SPAN_MAX: u64 = 4 << 20;
/// Spans that an image should have: enough for a swarm to share out.
const SPANS_WANTED: u64 = 1024;
/// Most spans an image may have, 4 TiB of the longest: each node keeps a bit for each of each peer.
const SPANS_MAX: u64 = 1 << 20;

/// How the image of one manifest falls into pieces.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    /// Where each page begins in the image, and where the last ends.
    starts: Vec<u64>,
    span: u64,
    spans: usize,
}

impl Pieces {
    pub(crate) fn new(root: &Root) -> Self {
        let size = root.plain_len();
        let mut starts = Vec::with_capacity(root.pages().len() + 1);
        let mut end = 0;
        starts.push(end);
        for page in root.pages() {
            end += page.plain_len;
            starts.push(end);
        }
        let span = (size / SPANS_WANTED).max(1).next_power_of_two().clamp(SPAN_MIN, SPAN_MAX);
        let span = span.max(size.div_ceil(SPANS_MAX).max(1).next_power_of_two());
        Self { starts, span, spans: size.div_ceil(span) as usize }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.pages() + self.spans
    }

    /// How many of them are pages.
    pub(crate) fn pages(&self) -> usize {
        self.starts.len() - 1
    }

    /// The piece that holds the chunk which begins at the byte `start`.
    pub(crate) fn of_chunk(&self, start: u64) -> usize {
        self.pages() + (start / self.span) as usize
    }

    /// Which page holds the byte `at`, if the image is that long.
    pub(crate) fn page_at(&self, at: u64) -> Option<usize> {
        (at < *self.starts.last()?).then(|| self.starts.partition_point(|start| *start <= at) - 1)
    }

    /// Where a page begins in the image.
    pub(crate) fn page_start(&self, page: usize) -> u64 {
        self.starts[page]
    }

    /// The pages that may name chunks of a data piece.
    pub(crate) fn pages_of(&self, piece: usize) -> Range<usize> {
        let size = self.starts.last().copied().unwrap_or(0);
        let begin = (piece - self.pages()) as u64 * self.span;
        let last = begin.saturating_add(self.span).min(size) - 1;
        match (self.page_at(begin), self.page_at(last)) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    }

    /// The data pieces that a page may name chunks of.
    pub(crate) fn named_by(&self, page: usize) -> Range<usize> {
        self.of_chunk(self.starts[page])..self.of_chunk(self.starts[page + 1] - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use peerglass_catalog::Digest;
    use peerglass_catalog::manifest::{CutParameters, PageRef};
    use proptest::prelude::*;

    use super::*;

    fn root(lens: &[u64]) -> Root {
        let cut = CutParameters { min: 1, average: 2, max: 3 };
        let page = |len: &u64| PageRef { digest: Digest([0; 32]), plain_len: *len };
        Root::new(cut, lens.iter().map(page).collect()).unwrap()
    }

    #[test]
    fn an_empty_image_has_no_pieces_and_a_short_one_a_page_and_a_span() {
        assert_eq!(Pieces::new(&root(&[])).count(), 0);
        let short = Pieces::new(&root(&[1]));
        assert_eq!((short.pages(), short.count()), (1, 2));
        assert_eq!((short.pages_of(1), short.named_by(0)), (0..1, 1..2));
    }

    #[test]
    fn spans_grow_with_the_image_and_their_number_is_bounded() {
        let span = |size| Pieces::new(&root(&[size])).span;
        assert_eq!(span(1 << 20), 256 << 10);
        assert_eq!(span(512 << 20), 512 << 10);
        assert_eq!(span(100 << 30), 4 << 20);
        let vast = Pieces::new(&root(&[u64::MAX]));
        assert!(vast.spans <= SPANS_MAX as usize, "{vast:?}");
        assert_eq!(vast.pages_of(vast.count() - 1), 0..1);
    }

    proptest! {
        /// Pages and data pieces agree on who names whom, and every chunk has one piece.
        #[test]
        fn every_byte_is_in_the_piece_that_its_page_names(
            lens in prop::collection::vec(1_u64..3_000_000, 1..12),
            at in any::<prop::sample::Index>(),
        ) {
            let pieces = Pieces::new(&root(&lens));
            let size: u64 = lens.iter().sum();
            let at = at.index(size as usize) as u64;
            let (piece, page) = (pieces.of_chunk(at), pieces.page_at(at).unwrap());
            prop_assert!(pieces.page_start(page) <= at);
            prop_assert!((pieces.pages()..pieces.count()).contains(&piece));
            prop_assert!(pieces.pages_of(piece).contains(&page));
            prop_assert!(pieces.named_by(page).contains(&piece));
            for page in 0..pieces.pages() {
                for piece in pieces.named_by(page) {
                    prop_assert!(pieces.pages_of(piece).contains(&page));
                }
            }
            prop_assert_eq!(pieces.page_at(size), None);
        }
    }
}
