//! What the pieces of a manifest consist of, as its pages come in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use peerglass_catalog::manifest::{Entry, Page, Root};

use super::{PAGE_BYTES_MAX, PullError};
use crate::error::DownloadError;
use crate::exchange::ask::{Want, WantLen};
use crate::gather::{Gather, KeepError};
use crate::store::BlobReader;
use crate::swarm::Pieces;

/// Pages kept decoded: pieces are asked for mostly in the order of the image.
const PAGES_KEPT: usize = 32;

/// See the module.
pub(super) struct Contents {
    pub(super) pieces: Pieces,
    root: Arc<Root>,
    /// For each data piece: bytes of chunks that are not here, as far as its pages are known, and how many are not.
    lacks: Vec<(u32, u32)>,
    known: Vec<bool>,
    recent: VecDeque<(usize, Arc<Page>)>,
    reader: BlobReader,
}

impl Contents {
    /// `reader` reads also what is gathered.
    pub(super) fn new(root: Arc<Root>, reader: BlobReader) -> Self {
        let pieces = Pieces::new(&root);
        let data = pieces.pages()..pieces.count();
        let lacks = data.map(|piece| (0, pieces.pages_of(piece).len() as u32)).collect();
        let known = vec![false; pieces.pages()];
        Self { pieces, root, lacks, known, recent: VecDeque::new(), reader }
    }

    /// The piece that stands for a page, or the one with the chunk at the byte `at`, whichever is lacking first.
    pub(super) fn for_reader(&self, at: u64) -> Option<usize> {
        let page = self.pieces.page_at(at)?;
        Some(if self.known[page] { self.pieces.of_chunk(at) } else { page })
    }

    /// Keep a page. Answers with the data pieces that are known now, and how much each lacks.
    pub(super) fn enter_page(
        &mut self,
        gather: &mut Gather,
        number: usize,
        encoded: &Bytes,
    ) -> Result<Vec<(usize, u32)>, PullError> {
        let expected = self.root.pages()[number];
        let page = Page::decode(encoded)?;
        if page.plain_len() != expected.plain_len {
            return Err(PullError::Contradiction);
        }
        gather.add_page(expected.digest, encoded.clone())?;
        let pages = self.pieces.pages();
        let mut start = self.pieces.page_start(number);
        for entry in page.entries() {
            if let Entry::Chunk { digest, plain_len, stored_len } = entry {
                if plain_len != stored_len {
                    return Err(PullError::Contradiction);
                }
                if gather.is_new(digest).map_err(KeepError::from)? {
                    let lacks = &mut self.lacks[self.pieces.of_chunk(start) - pages].0;
                    *lacks = lacks.saturating_add(*plain_len);
                }
            }
            start += entry.plain_len();
        }
        self.known[number] = true;
        self.keep(number, Arc::new(page));
        let mut known = Vec::new();
        for piece in self.pieces.named_by(number) {
            let (bytes, unknown) = &mut self.lacks[piece - pages];
            *unknown -= 1;
            if *unknown == 0 {
                known.push((piece, *bytes));
            }
        }
        Ok(known)
    }

    /// What of a piece is not here.
    pub(super) fn wants(&mut self, gather: &mut Gather, piece: usize) -> Result<Vec<Want>, KeepError> {
        if let Some(page) = self.root.pages().get(piece).filter(|_| piece < self.pieces.pages()) {
            return Ok(vec![Want { digest: page.digest, len: WantLen::AtMost(PAGE_BYTES_MAX) }]);
        }
        let mut wants = Vec::new();
        let mut seen = BTreeSet::new();
        for number in self.pieces.pages_of(piece) {
            let page = self.page(number)?;
            let mut start = self.pieces.page_start(number);
            for entry in page.entries() {
                if let Entry::Chunk { digest, plain_len, .. } = entry
                    && self.pieces.of_chunk(start) == piece
                    && seen.insert(*digest)
                    && gather.is_new(digest)?
                {
                    wants.push(Want { digest: *digest, len: WantLen::Exactly(*plain_len) });
                }
                start += entry.plain_len();
            }
        }
        Ok(wants)
    }

    fn page(&mut self, number: usize) -> Result<Arc<Page>, DownloadError> {
        if let Some((_, page)) = self.recent.iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(page));
        }
        let page = Arc::new(self.reader.page(&self.root.pages()[number].digest)?);
        self.keep(number, Arc::clone(&page));
        Ok(page)
    }

    fn keep(&mut self, number: usize, page: Arc<Page>) {
        if self.recent.len() == PAGES_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((number, page));
    }
}
