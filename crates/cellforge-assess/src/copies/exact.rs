//! Identical images, also when one is mirrored or turned by a right angle.

use std::collections::BTreeMap;

use cellforge_data::View;
use cellforge_train::Orientation;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Examples that are kept of each count.
const EXAMPLES: usize = 20;

/// Images of a set that are the same as others, pixel by pixel after decoding, up to mirroring and turns by right angles.
///
/// Images of a single colour show nothing of anybody. They are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identical {
    /// Synthetic images that equal a training image.
    pub of_training: Shared,
    /// Synthetic images that equal another synthetic image that stands before them.
    pub among_synthetic: Shared,
    /// Training images that equal another training image that stands before them.
    pub among_training: Shared,
    /// Held-out images that equal a training image.
    pub holdout_of_training: Shared,
}

/// Images that are there twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Their number.
    pub images: usize,
    /// Those of them that have the same orientation too.
    pub unturned: usize,
    /// The first of them, with the image that each one equals; at most 20.
    pub examples: Vec<[String; 2]>,
}

/// An image, whichever way up.
type Key = [u8; 32];

/// What a set holds: the key of each image, None for one of a single colour, and a hash of its pixels as they are.
pub(crate) struct Keys {
    keys: Vec<Option<(Key, Key)>>,
}

impl Keys {
    pub(super) fn new(images: &View) -> Self {
        let (size, channels) = (images.size(), images.channels());
        let key = |i: usize| {
            let image = images.image(i);
            let (first, _) = image.split_at(channels);
            if image.chunks(channels).all(|pixel| pixel == first) {
                return None;
            }
            let turned = Orientation::of(size).iter().map(|orientation| orientation.apply(image, size, channels));
            let canonical = turned.min()?;
            Some((Sha256::digest(canonical).into(), Sha256::digest(image).into()))
        };
        Self { keys: (0..images.len()).into_par_iter().map(key).collect() }
    }

    /// The first image of each key.
    fn firsts(&self) -> BTreeMap<Key, usize> {
        let mut firsts = BTreeMap::new();
        for (i, key) in self.keys.iter().enumerate() {
            if let Some((key, _)) = key {
                firsts.entry(*key).or_insert(i);
            }
        }
        firsts
    }

    /// For each image the first one of `others` that it equals.
    pub(super) fn found_in(&self, others: &Self) -> Vec<Option<usize>> {
        let firsts = others.firsts();
        self.keys.iter().map(|key| key.as_ref().and_then(|(key, _)| firsts.get(key).copied())).collect()
    }

    /// For each image the first one of the same set that it equals, where that is another.
    fn found_before(&self) -> Vec<Option<usize>> {
        let found = self.found_in(self);
        found.into_iter().enumerate().map(|(i, at)| at.filter(|&at| at < i)).collect()
    }

    fn shared(&self, names: &View, others: &Self, other_names: &View, found: &[Option<usize>]) -> Shared {
        let mut shared = Shared::default();
        for (i, at) in found.iter().enumerate().filter_map(|(i, at)| Some((i, (*at)?))) {
            shared.images += 1;
            let plain = |keys: &Self, i: usize| keys.keys[i].map(|(_, plain)| plain);
            shared.unturned += usize::from(plain(self, i) == plain(others, at));
            if shared.examples.len() < EXAMPLES {
                shared.examples.push([names.name(i).to_owned(), other_names.name(at).to_owned()]);
            }
        }
        shared
    }
}

/// The keys of all sets of an evaluation. No synthetic image is a held-out one.
pub(crate) struct AllKeys {
    pub(super) training: Keys,
    pub(super) holdout: Option<Keys>,
    pub(super) synthetic: Keys,
}

impl AllKeys {
    /// # Errors
    /// [`Error::EvaluationImages`] where a synthetic image is a held-out one, in whichever orientation.
    pub(crate) fn new(training: &View, holdout: Option<&View>, synthetic: &View) -> Result<Self> {
        let keys =
            Self { training: Keys::new(training), holdout: holdout.map(Keys::new), synthetic: Keys::new(synthetic) };
        let Some((held_out, holdout)) = keys.holdout.as_ref().zip(holdout) else { return Ok(keys) };
        let found = keys.synthetic.found_in(held_out);
        let Some((i, at)) = found.iter().enumerate().find_map(|(i, at)| Some((i, (*at)?))) else { return Ok(keys) };
        let problem = format!(
            "{} of {} are held-out images, {} is {}: images that are in both sets can judge nothing; give a holdout that no synthetic image is from",
            found.iter().flatten().count(),
            synthetic.len(),
            synthetic.name(i),
            holdout.name(at)
        );
        Err(Error::EvaluationImages { part: "synthetic", problem })
    }

    /// The real images, training images first, that are there once and show something.
    pub(super) fn single(&self) -> Vec<usize> {
        let keys =
            || self.training.keys.iter().chain(self.holdout.iter().flat_map(|holdout| &holdout.keys)).enumerate();
        let mut counts = BTreeMap::new();
        for (key, _) in keys().filter_map(|(_, key)| key.as_ref()) {
            *counts.entry(*key).or_insert(0) += 1;
        }
        keys().filter(|(_, key)| key.is_some_and(|(key, _)| counts[&key] == 1)).map(|(i, _)| i).collect()
    }
}

/// Counts identical images within and between the sets.
pub(super) fn identical(keys: &AllKeys, training: &View, holdout: Option<&View>, synthetic: &View) -> Identical {
    let AllKeys { training: of_training, holdout: of_holdout, synthetic: of_synthetic } = keys;
    let among = |keys: &Keys, view: &View| keys.shared(view, keys, view, &keys.found_before());
    let between = |keys: &Keys, view: &View| keys.shared(view, of_training, training, &keys.found_in(of_training));
    Identical {
        of_training: between(of_synthetic, synthetic),
        among_synthetic: among(of_synthetic, synthetic),
        among_training: among(of_training, training),
        holdout_of_training: of_holdout.as_ref().zip(holdout).map_or_else(Shared::default, |(k, v)| between(k, v)),
    }
}
