//! Randomness keyed by what it is for.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// A generator that is a function of `label` and `numbers` alone.
pub(crate) fn keyed(label: &str, numbers: &[u64]) -> ChaCha12Rng {
    let mut hash = Sha256::new();
    hash.update((label.len() as u64).to_le_bytes());
    hash.update(label.as_bytes());
    for number in numbers {
        hash.update(number.to_le_bytes());
    }
    ChaCha12Rng::from_seed(hash.finalize().into())
}
