//! Round trips, canonical form, and bytes from an enemy (I-S1).

use proptest::prelude::*;

use super::{
    Builder, CutParameters, ENTRY_BYTES_MAX, Entry, ManifestError, PAGE_ENTRIES_MAX, Page, PageRef, Root,
};
use crate::digest::Digest;

const CUT: CutParameters = CutParameters { min: 16 << 10, average: 64 << 10, max: 256 << 10 };

fn chunk(seed: u64, plain_len: u32) -> Entry {
    Entry::Chunk { digest: Digest::of(&seed.to_le_bytes()), plain_len, stored_len: plain_len }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = prop_oneof![
        (any::<u64>(), 1..=ENTRY_BYTES_MAX).prop_map(|(seed, len)| chunk(seed, len)),
        (1..u64::from(u32::MAX) * 4).prop_map(|len| Entry::Hole { len }),
    ];
    prop::collection::vec(entry, 0..3000)
}

fn build(entries: &[Entry]) -> Vec<Page> {
    let mut builder = Builder::new();
    let mut pages: Vec<_> = entries.iter().filter_map(|entry| builder.push(*entry).unwrap()).collect();
    pages.extend(builder.finish().unwrap());
    pages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_and_roots_read_back_as_written(entries in entries()) {
        let pages = build(&entries);
        let mut refs = Vec::new();
        for page in &pages {
            let encoded = page.encode();
            prop_assert_eq!(&Page::decode(&encoded).unwrap(), page);
            refs.push(PageRef { digest: Digest::of(&encoded), plain_len: page.plain_len() });
        }
        for page in pages.iter().rev().skip(1) {
            prop_assert_eq!(page.entries().len(), PAGE_ENTRIES_MAX);
        }
        let root = Root::new(CUT, refs).unwrap();
        prop_assert_eq!(root.plain_len(), entries.iter().map(Entry::plain_len).sum::<u64>());
        prop_assert_eq!(Root::decode(&root.encode()).unwrap(), root);
    }

    #[test]
    fn how_holes_were_split_does_not_show(entries in entries(), pieces in 1_u64..5) {
        let mut split = Vec::new();
        for entry in &entries {
            match entry {
                Entry::Hole { len } if *len >= pieces => {
                    split.extend((1..pieces).map(|_| Entry::Hole { len: len / pieces }));
                    split.push(Entry::Hole { len: len - (len / pieces) * (pieces - 1) });
                }
                whole @ (Entry::Chunk { .. } | Entry::Hole { .. }) => split.push(*whole),
            }
        }
        prop_assert_eq!(build(&entries), build(&split));
    }

    #[test]
    fn any_bytes_decode_to_themselves_or_to_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), version in any::<bool>()) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = 1;
        }
        if let Ok(page) = Page::decode(&bytes) {
            prop_assert_eq!(page.encode(), bytes.clone());
        }
        if let Ok(root) = Root::decode(&bytes) {
            prop_assert_eq!(root.encode(), bytes);
        }
    }

    #[test]
    fn one_changed_byte_never_panics(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let page = Page::new(vec![chunk(1, 5), Entry::Hole { len: 1 << 40 }, chunk(2, 9)]).unwrap();
        let mut encoded = page.encode();
        let at = at.index(encoded.len());
        encoded[at] = to;
        if let Ok(other) = Page::decode(&encoded) {
            prop_assert_eq!(other.encode(), encoded);
        }
    }
}

#[test]
fn a_root_that_promises_a_million_pages_is_not_believed() {
    let mut bytes = vec![1, 1, 1, 1, 0];
    bytes.extend([0x80, 0x80, 0x40]);
    assert_eq!(Root::decode(&bytes), Err(ManifestError::Truncated));
    bytes.truncate(5);
    bytes.extend([0x81, 0x80, 0x40]);
    assert!(matches!(Root::decode(&bytes), Err(ManifestError::TooMany { .. })));
}

#[test]
fn each_rule_of_a_page_is_enforced() {
    let holes = vec![Entry::Hole { len: 1 }, Entry::Hole { len: 2 }];
    assert_eq!(Page::new(holes), Err(ManifestError::TouchingHoles));
    assert_eq!(Page::new(vec![]), Err(ManifestError::EmptyPage));
    assert_eq!(Page::new(vec![Entry::Hole { len: 0 }]), Err(ManifestError::EmptyItem));
    assert_eq!(Page::new(vec![chunk(1, 0)]), Err(ManifestError::EmptyItem));
    assert!(matches!(Page::new(vec![chunk(1, ENTRY_BYTES_MAX + 1)]), Err(ManifestError::BadChunk { .. })));
    assert!(matches!(Page::new(vec![chunk(1, 1); PAGE_ENTRIES_MAX + 1]), Err(ManifestError::TooMany { .. })));
    let huge = vec![Entry::Hole { len: u64::MAX }, chunk(1, 1)];
    assert_eq!(Page::new(huge), Err(ManifestError::BadTotal));
    assert_eq!(Page::decode(&[1, 1, 7, 1]), Err(ManifestError::UnknownFlags(7)));
    assert_eq!(Page::decode(&[1, 1, 1, 0x80, 0]), Err(ManifestError::BadNumber));
    assert_eq!(Page::decode(&[2]), Err(ManifestError::UnknownVersion(2)));
    assert_eq!(Page::decode(&[1, 1, 1, 9, 9]), Err(ManifestError::TrailingBytes(1)));
}

#[test]
fn a_root_whose_lengths_lie_is_refused() {
    let page = PageRef { digest: Digest::of(b"page"), plain_len: 7 };
    let mut encoded = Root::new(CUT, vec![page]).unwrap().encode();
    let at = encoded.iter().position(|byte| *byte == 7).unwrap();
    encoded[at] = 8;
    assert_eq!(Root::decode(&encoded), Err(ManifestError::BadTotal));
    let overflow = vec![PageRef { plain_len: u64::MAX, ..page }, page];
    assert_eq!(Root::new(CUT, overflow), Err(ManifestError::BadTotal));
}

#[test]
fn the_empty_image_has_a_manifest() {
    let root = Root::new(CUT, build(&[]).iter().map(|_| unreachable!()).collect()).unwrap();
    assert_eq!(Root::decode(&root.encode()).unwrap().plain_len(), 0);
}
