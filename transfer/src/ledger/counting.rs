//! Counting who names whom, a page at a time.

use peerglass_catalog::keyspace::Fault;
use peerglass_catalog::manifest::{Entry, Page, Root};
use peerglass_catalog::{Digest, ManifestRoot};

use super::{Held, Ledger, Working};
use crate::form::Form;
use crate::index::Blob;
use crate::pack::BlobKind;

/// Pages that one batch counts: up to 4096 chunks, some ten milliseconds of lock.
const PAGES_PER_BATCH: usize = 4;

impl Ledger {
    /// Begin to hold `root`, unless somebody has begun already.
    pub(crate) fn begin_hold(&self, root: &ManifestRoot) -> Result<(), Fault> {
        let mut state = self.locked();
        let mut working = Working::new(&*self.index);
        if working.held(root)?.is_none() {
            working.put_held(root, Held::UpTo(0));
            state.uses.note(&mut working, root);
            count_up(&mut working, &root.0, BlobKind::Root)?;
        }
        working.write()
    }

    /// Count the pages of a manifest that was begun, from where an earlier attempt stopped or another
    /// that still runs is. When it returns they are all counted. `load` reads a page.
    pub(crate) fn hold<E: From<Fault>>(
        &self,
        name: &ManifestRoot,
        root: &Root,
        mut load: impl FnMut(&Digest) -> Result<Page, E>,
    ) -> Result<(), E> {
        loop {
            let Some(Held::UpTo(next)) = Working::new(&*self.index).held(name)? else { return Ok(()) };
            let group = group(root, next);
            let pages: Vec<Page> = group.iter().map(&mut load).collect::<Result<_, E>>()?;
            let mut state = self.locked();
            let mut working = Working::new(&*self.index);
            if working.held(name)? != Some(Held::UpTo(next)) {
                continue;
            }
            for (digest, page) in group.iter().zip(&pages) {
                if count_up(&mut working, digest, BlobKind::Page)? == 1 {
                    for chunk in chunks(page) {
                        count_up(&mut working, &chunk, BlobKind::Chunk)?;
                    }
                }
            }
            let next = next + group.len() as u64;
            if next < root.pages().len() as u64 {
                working.put_held(name, Held::UpTo(next));
                working.write()?;
                continue;
            }
            working.put_held(name, Held::Whole);
            working.write()?;
            state.held += 1;
            return Ok(());
        }
    }

    /// Ask about letting `root` go. Answers with the number of the question, or with none if anybody needs it now
    /// or has asked already.
    pub(crate) fn question(&self, root: &ManifestRoot) -> Option<u64> {
        let mut state = self.locked();
        if state.guards.contains_key(root) || state.questioned.contains_key(root) {
            return None;
        }
        state.questions += 1;
        let number = state.questions;
        state.questioned.insert(*root, number);
        Some(number)
    }

    /// Whoever asked has decided to keep it. A later question of somebody else stands.
    pub(crate) fn unquestion(&self, root: &ManifestRoot, number: u64) {
        let mut state = self.locked();
        if state.questioned.get(root) == Some(&number) {
            state.questioned.remove(root);
        }
    }

    /// Begin to let `root` go, unless somebody has come to need it since the question of that number.
    pub(crate) fn begin_drop(&self, root: &ManifestRoot, number: u64) -> Result<bool, Fault> {
        let mut state = self.locked();
        if state.questioned.get(root) != Some(&number) || state.guards.contains_key(root) {
            return Ok(false);
        }
        state.questioned.remove(root);
        let mut working = Working::new(&*self.index);
        working.remove_held(root);
        working.remove_use(root);
        state.uses.forget(root);
        working.put_dropping(root, 0);
        working.write()?;
        Ok(true)
    }

    /// Uncount the pages of a manifest whose drop has begun, from where an earlier attempt stopped.
    pub(crate) fn finish_drop<E: From<Fault>>(
        &self,
        name: &ManifestRoot,
        root: &Root,
        mut load: impl FnMut(&Digest) -> Result<Page, E>,
    ) -> Result<(), E> {
        loop {
            let Some(next) = Working::new(&*self.index).dropping(name)? else { return Ok(()) };
            let group = group(root, next);
            let pages: Vec<Page> = group.iter().map(&mut load).collect::<Result<_, E>>()?;
            let _state = self.locked();
            let mut working = Working::new(&*self.index);
            // A reclaim that was given up may still be at it on its thread.
            if working.dropping(name)? != Some(next) {
                continue;
            }
            for (digest, page) in group.iter().zip(&pages) {
                if count_down(&mut working, digest)? == 0 {
                    for chunk in chunks(page) {
                        count_down(&mut working, &chunk)?;
                    }
                }
            }
            let next = next + group.len() as u64;
            if next < root.pages().len() as u64 {
                working.put_dropping(name, next);
                working.write()?;
                continue;
            }
            working.remove_dropping(name);
            count_down(&mut working, &name.0)?;
            working.write()?;
            return Ok(());
        }
    }
}

fn group(root: &Root, next: u64) -> Vec<Digest> {
    let pages = usize::try_from(next).ok().and_then(|next| root.pages().get(next..)).unwrap_or_default();
    pages.iter().take(PAGES_PER_BATCH).map(|page| page.digest).collect()
}

/// The chunks a page names.
pub(crate) fn chunks(page: &Page) -> impl Iterator<Item = Digest> {
    page.entries().iter().filter_map(|entry| match entry {
        Entry::Chunk { digest, .. } => Some(*digest),
        Entry::Hole { .. } => None,
    })
}

/// One more names `digest`. A blob the index does not know is entered as lost, so that counts stay
/// right if it comes back. Answers with the new count.
fn count_up(working: &mut Working<'_>, digest: &Digest, kind: BlobKind) -> Result<u64, Fault> {
    let was = working.blob(digest)?;
    let lost = Blob { place: None, form: Form::raw(0), kind, refs: 0, damaged: false };
    let mut now = was.unwrap_or(lost);
    now.refs += 1;
    working.put_blob(digest, was.as_ref(), &now);
    Ok(now.refs)
}

/// One fewer names `digest`. Answers with the new count.
fn count_down(working: &mut Working<'_>, digest: &Digest) -> Result<u64, Fault> {
    let damaged = || Fault::Damaged { what: "reference count", key: digest.0.to_vec() };
    let was = working.blob(digest)?.ok_or_else(damaged)?;
    let now = Blob { refs: was.refs.checked_sub(1).ok_or_else(damaged)?, ..was };
    working.put_blob(digest, Some(&was), &now);
    Ok(now.refs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use peerglass_catalog::MemoryKeyspace;

    use super::*;
    use crate::ledger::RootGuard;

    /// Reclaim and eviction ask about the same manifest: what withdrew the one's question must not be forgotten
    /// because the other has asked since.
    #[test]
    fn a_question_that_was_withdrawn_is_not_answered_by_a_later_one() {
        let index = Arc::new(MemoryKeyspace::new());
        let ledger = Arc::new(Ledger::new(index, 0, std::iter::empty()).unwrap());
        let root = ManifestRoot(Digest([1; 32]));
        ledger.begin_hold(&root).unwrap();
        let first = ledger.question(&root).unwrap();
        assert_eq!(ledger.question(&root), None, "it is asked about");
        drop(RootGuard::new(Arc::clone(&ledger), root));
        let second = ledger.question(&root).unwrap();
        assert!(!ledger.begin_drop(&root, first).unwrap());
        ledger.unquestion(&root, first);
        assert!(ledger.begin_drop(&root, second).unwrap(), "the second stands");
        assert!(!ledger.holds(&root).unwrap());
    }
}
