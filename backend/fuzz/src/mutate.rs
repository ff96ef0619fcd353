//! Mutations of valid inputs: most stay valid far enough to reach the code behind the first check.

/// Numbers at which parsers go wrong.
const NUMBERS: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// The `SplitMix64` sequence: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, 0 if there is none.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let number = self.number().checked_rem(limit).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

/// An input of the pool with one to eight changes.
pub(crate) fn mutated(random: &mut Random, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = random.one(pool).cloned().unwrap_or_default();
    for _ in 0..=random.below(8) {
        mutate(random, pool, &mut input);
    }
    input
}

fn mutate(random: &mut Random, pool: &[Vec<u8>], input: &mut Vec<u8>) {
    let at = random.below(input.len());
    let end = at + random.below((input.len() - at).min(64) + 1);
    match random.below(9) {
        0 => change(input, at, |byte| byte ^ (1 << random.below(8))),
        1 => change(input, at, |_| random.byte()),
        2 => change(input, at, |byte| byte.wrapping_add(1)),
        3 => change(input, at, |byte| byte.wrapping_sub(1)),
        4 => drop(input.drain(at..end)),
        // A chunk once more, where it is or elsewhere.
        5 => {
            let chunk = input[at..end].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, chunk);
        }
        6 => {
            let number = random.one(NUMBERS).copied().unwrap_or(0);
            let (wide, size) = (number.to_le_bytes(), 1 << random.below(4));
            for (place, byte) in input.iter_mut().skip(at).zip(&wide[..size]) {
                *place = *byte;
            }
        }
        7 => input.truncate(at),
        // The rest of another one.
        _ => {
            if let Some(other) = random.one(pool) {
                let from = random.below(other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn change(input: &mut [u8], at: usize, with: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = with(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_again() {
        let pool = [b"hello".to_vec(), b"world".to_vec(), Vec::new()];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| mutated(&mut random, &pool)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
