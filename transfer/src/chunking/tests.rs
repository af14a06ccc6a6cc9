//! Cuts: by content only, within their limits, and holes exactly where zeros are.

use proptest::prelude::*;

use super::{AVERAGE, Cut, Cutter, HOLE_BYTES_MIN, LOOK_AHEAD, MAX, MIN};

/// Bytes without pattern, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Cut `body`, shown to the cutter in windows that grow by `step` bytes. Touching holes are merged.
fn cut(body: &[u8], step: usize) -> Vec<Cut> {
    let mut cutter = Cutter::default();
    let mut cuts: Vec<Cut> = Vec::new();
    let (mut at, mut seen) = (0, 0);
    while seen < body.len() || at < body.len() {
        seen = (seen + step).min(body.len());
        while let Some(cut) = cutter.next(&body[at..seen], seen == body.len()) {
            at += match (cut, cuts.last_mut()) {
                (Cut::Hole(more), Some(Cut::Hole(len))) => {
                    *len += more;
                    more
                }
                (Cut::Hole(len) | Cut::Chunk(len), _) => {
                    cuts.push(cut);
                    len
                }
            };
        }
    }
    cuts
}

/// Noise and zeros in turn.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<u64>(), 0..150_000_usize, any::<bool>());
    prop::collection::vec(run, 0..6).prop_map(|runs| {
        runs.into_iter()
            .flat_map(|(seed, len, zero)| if zero { vec![0; len] } else { noise(seed, len) })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn how_the_body_arrived_does_not_show(body in bodies(), step in 1000..400_000_usize) {
        prop_assert_eq!(cut(&body, step), cut(&body, usize::MAX / 2));
    }

    #[test]
    fn cuts_cover_the_body_within_limits(body in bodies()) {
        let cuts = cut(&body, LOOK_AHEAD);
        let mut at = 0;
        for (number, cut) in cuts.iter().enumerate() {
            match *cut {
                Cut::Chunk(len) => {
                    prop_assert!(len > 0 && len <= MAX);
                    let before_hole = matches!(cuts.get(number + 1), Some(Cut::Hole(_)));
                    prop_assert!(len >= MIN || before_hole || at + len == body.len());
                    prop_assert!(body[at..at + len].iter().any(|byte| *byte != 0));
                    at += len;
                }
                Cut::Hole(len) => {
                    prop_assert!(body[at..at + len].iter().all(|byte| *byte == 0));
                    prop_assert!(len >= HOLE_BYTES_MIN || at + len == body.len());
                    at += len;
                    prop_assert!(at == body.len() || body[at] != 0);
                }
            }
        }
        prop_assert_eq!(at, body.len());
    }
}

#[test]
fn an_insertion_moves_only_the_cuts_around_it() {
    let body = noise(1, 3 << 20);
    let mut edited = body.clone();
    edited.splice(1_000_000..1_000_000, noise(2, 777));
    let ends = |cuts: Vec<Cut>, total: usize| -> Vec<usize> {
        let mut at = 0;
        let ends = cuts.iter().map(|cut| match cut {
            Cut::Hole(len) | Cut::Chunk(len) => {
                at += len;
                total - at
            }
        });
        ends.collect()
    };
    let before = ends(cut(&body, LOOK_AHEAD), body.len());
    let after = ends(cut(&edited, LOOK_AHEAD), edited.len());
    // Counted from the end, what follows the insertion is cut where it was.
    let again = after.iter().filter(|end| before.contains(end) && **end < 1_700_000).count();
    let all = before.iter().filter(|end| **end < 1_700_000).count();
    assert!(again * 10 >= all * 9, "{again} of {all} cuts were found again");
}

#[test]
fn the_average_length_is_what_it_says() {
    let body = noise(3, 8 << 20);
    let average = body.len() / cut(&body, LOOK_AHEAD).len();
    assert!((AVERAGE * 3 / 4..AVERAGE * 3 / 2).contains(&average), "{average}");
}

/// Cuts are part of the format: other cuts would end all sharing with images stored before.
#[test]
fn the_cuts_of_this_release_are_fixed() {
    let cuts = cut(&noise(4, 600_000), LOOK_AHEAD);
    assert_eq!(format!("{cuts:?}"), GOLDEN);
}

const GOLDEN: &str = "[Chunk(79298), Chunk(88298), Chunk(65811), Chunk(62036), Chunk(116208), Chunk(68342), Chunk(66498), Chunk(53509)]";
