//! What is opened as what it was, and what is not opened at all.

use proptest::prelude::*;

use super::*;

/// Bytes that compress to about a half.
fn text(len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(b"text").finalize_xof().fill(&mut noise);
    noise.iter().map(|byte| b'a' + byte % 8).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    noise
}

fn frame_of(plain: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; zstd_safe::compress_bound(plain.len())];
    let len = CCtx::create().compress(&mut frame[..], plain, 3).unwrap();
    frame.truncate(len);
    frame
}

/// Open `stored` as a chunk of `plain_len`, with room that shows what is written past it.
fn open(stored: &[u8], plain_len: usize) -> Option<Vec<u8>> {
    let form = Form::zstd(stored.len() as u32, plain_len as u32)?;
    let mut scratch = Vec::new();
    let plain = form.open(stored, &mut scratch).map(<[u8]>::to_vec);
    assert_eq!(scratch.len(), plain_len, "as much as the form says, and no more");
    plain
}

#[test]
fn a_chunk_is_compressed_exactly_where_that_pays() {
    let mut out = b"before".to_vec();
    for (plain, is_zstd) in [
        (text(100_000), true),
        (noise(100_000), false),
        // An eighth of it can be saved, and a tenth is not worth it.
        ([noise(80_000), vec![7; 20_000]].concat(), true),
        ([noise(90_000), vec![7; 10_000]].concat(), false),
        (vec![7; 256 << 10], true),
        (vec![7], false),
        (noise(7), false),
    ] {
        let start = out.len();
        let form = append(&plain, &mut out);
        assert_eq!(form.is_zstd(), is_zstd, "{} bytes", plain.len());
        let stored = &out[start..];
        assert_eq!((stored.len(), plain.len()), (form.stored_len() as usize, form.plain_len() as usize));
        assert!(!is_zstd || stored.len() * 100 <= plain.len() * WORTH_PERCENT);
        assert!(is_zstd || stored == plain);
        assert_eq!(form.open(stored, &mut Vec::new()), Some(&plain[..]));
    }
    assert_eq!(&out[..6], b"before");
}

/// A cluster in which a simulation finds a fault must do the same once more.
#[test]
fn what_was_compressed_before_makes_no_difference() {
    let plain = text(150_000);
    let mut first = Vec::new();
    append(&plain, &mut first);
    for before in [noise(256 << 10), text(20_000), vec![0; 1 << 20]] {
        append(&before, &mut Vec::new());
        let mut again = Vec::new();
        append(&plain, &mut again);
        assert!(again == first);
    }
}

#[test]
fn only_one_whole_frame_of_the_right_length_is_opened() {
    let plain = text(50_000);
    let frame = frame_of(&plain);
    assert_eq!(open(&frame, plain.len()).as_ref(), Some(&plain));
    for wrong in [frame.len() + 1, plain.len() - 1, plain.len() + 1, 1 << 20] {
        assert_eq!(open(&frame, wrong), None, "as {wrong} bytes");
    }
    let (half, other_half) = plain.split_at(25_000);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let not_that = [
        ("cut short", frame[..frame.len() - 1].to_vec()),
        ("one byte more", [&frame[..], &[0]].concat()),
        ("one byte before", [&[0][..], &frame].concat()),
        ("two frames", [frame_of(half), frame_of(other_half)].concat()),
        ("a frame and an empty one", [&frame[..], &frame_of(&[])].concat()),
        ("a skipped frame after", [&frame[..], &skipped].concat()),
        ("a skipped frame before", [&skipped[..], &frame].concat()),
        ("a skipped frame alone", skipped),
        ("no frame", noise(1000)),
        ("a magic number alone", MAGIC.to_vec()),
    ];
    for (what, stored) in not_that {
        assert_eq!(open(&stored, plain.len()), None, "{what}");
    }
}

/// A megabyte of zeros in some fifty bytes, said to be something smaller.
#[test]
fn a_bomb_does_not_go_off() {
    let bomb = frame_of(&vec![0; 1 << 20]);
    assert!(bomb.len() < 100);
    for said in [bomb.len() + 1, 1000, (1 << 20) - 1] {
        assert_eq!(open(&bomb, said), None);
    }
    let honest = open(&bomb, 1 << 20).unwrap();
    assert_eq!(honest.len(), 1 << 20);
    assert!(Form::zstd(bomb.len() as u32, (1 << 20) + 1).is_none(), "no chunk is that long");
}

/// The content size in a frame's head is a claim like any other.
#[test]
fn a_frame_that_lies_about_its_length_is_not_opened() {
    let frame = frame_of(&vec![b'x'; 50_000]);
    // Magic number, a descriptor, then the content size less 256, in two bytes.
    assert_eq!(frame[4] >> 5, 0b011, "a single segment with a size of two bytes");
    for said in [40_000_usize, 60_000] {
        let mut lie = frame.clone();
        lie[5..7].copy_from_slice(&(said as u16 - 256).to_le_bytes());
        assert_eq!(open(&lie, said), None);
        assert_eq!(open(&lie, 50_000), None);
    }
}

#[test]
fn a_frame_without_a_length_or_with_a_dictionary_is_not_opened() {
    let plain = text(50_000);
    let mut context = CCtx::create();
    let mut frame = vec![0; 60_000];
    context.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false)).unwrap();
    let len = context.compress2(&mut frame[..], &plain).unwrap();
    assert_eq!(open(&frame[..len], plain.len()), None, "no length");

    // Bytes that are not there, and nothing in the frame that says whose they are.
    let dictionary = text(60_000);
    let len = CCtx::create().compress_using_dict(&mut frame[..], &plain, &dictionary, 3).unwrap();
    assert!(len < 1000, "it says little but where in the dictionary");
    assert_eq!(open(&frame[..len], plain.len()), None, "an unnamed dictionary");

    // The same bit pattern with a dictionary named: the lowest bits of the descriptor, then its number.
    let mut named = frame_of(&plain);
    named[4] |= 1;
    named.insert(5, 9);
    assert_eq!(open(&named, plain.len()), None, "a named dictionary");
}

#[test]
fn lengths_that_no_blob_has_are_no_form() {
    for (stored, plain) in [(0, 1), (0, 1 << 20), (11, 10), ((1 << 20) - 1, (1 << 20) + 1), (1, u32::MAX)] {
        assert!(Form::try_from((stored, plain)).is_err(), "{stored} of {plain}");
        let bytes = postcard::to_stdvec(&(stored, plain)).unwrap();
        assert!(postcard::from_bytes::<Form>(&bytes).is_err(), "{stored} of {plain}");
    }
    for form in [Form::raw(0), Form::raw(u32::MAX), Form::zstd(1, 2).unwrap()] {
        let bytes = postcard::to_stdvec(&form).unwrap();
        assert_eq!(postcard::from_bytes::<Form>(&bytes).unwrap(), form);
    }
}

#[test]
fn contexts_that_nobody_uses_are_bounded() {
    std::thread::scope(|scope| {
        for _ in 0..2 * IDLE_MAX {
            scope.spawn(|| append(&text(100_000), &mut Vec::new()));
        }
    });
    assert!(CCTXS.0.lock().unwrap().len() <= IDLE_MAX);
    let bytes = CCTXS.lend(CCtx::create, |context| context.sizeof());
    assert!(bytes < 1 << 20, "{bytes} bytes of context");
}

proptest! {
    /// One flipped bit is either noticed or makes other bytes, which their name tells; nothing is written past them.
    #[test]
    fn rot_never_yields_another_length(at in any::<prop::sample::Index>(), bit in 0..8_u32, len in 1000..60_000_usize) {
        let plain = text(len);
        let mut frame = frame_of(&plain);
        let at = at.index(frame.len());
        frame[at] ^= 1_u8 << bit;
        if let Some(opened) = open(&frame, len) {
            prop_assert_eq!(opened.len(), len);
        }
    }

    #[test]
    fn any_bytes_are_opened_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0..2000_usize) {
        let framed = [&MAGIC[..], &bytes].concat();
        let _opened = (open(&bytes, len), open(&framed, len));
    }
}
