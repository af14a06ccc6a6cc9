//! Chance that repeats.
//!
//! Each part of a world has its own [`Dice`], derived from the run's seed and the part's name, so
//! that one more draw in one part does not change what another part draws.

/// A small generator. Equal seeds and names give equal draws on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The dice of the part called `name` in the run `seed`.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes()).update(name.as_bytes());
        let mut first = [0; 8];
        hash.finalize_xof().fill(&mut first);
        Self(u64::from_le_bytes(first))
    }

    /// Any number (SplitMix64).
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `end`, `end` excluded. 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.number()) * u128::from(end);
        u64::try_from(product >> 64).expect("the product of two 64-bit numbers has 64 high bits")
    }

    /// From `first` to `last`, both included.
    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// An index into something of `len` elements.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// True in `per_mille` of 1,000 draws.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// From 1 to about 2 to the power of `bits`, each magnitude as likely as the next.
    pub(crate) fn magnitude(&mut self, bits: u64) -> u64 {
        let top = self.below(bits + 1);
        self.between(1 << top, (2 << top) - 1)
    }

    /// One of `choices`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything else rests on this: two dice of one name agree, two names do not.
    #[test]
    fn equal_names_give_equal_draws() {
        let draws = |name| {
            let mut dice = Dice::new(7, name);
            (0..100).map(|_| dice.between(3, 9)).collect::<Vec<_>>()
        };
        assert_eq!(draws("disk"), draws("disk"));
        assert_ne!(draws("disk"), draws("client"));
        assert!(draws("disk").iter().all(|drawn| (3..=9).contains(drawn)));
    }
}
