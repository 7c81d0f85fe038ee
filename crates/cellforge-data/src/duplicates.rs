//! Images that are there twice.

use std::collections::BTreeMap;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, View};

/// What becomes of identical images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// All are kept, and a split keeps them on one side.
    #[default]
    SameSide,
    /// All are kept, and a split knows nothing of them.
    Keep,
    /// The first of each is kept; of images that are in several classes, none.
    Drop,
}

/// How many images of a view are identical to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TwinCounts {
    /// Images that others equal.
    pub images: usize,
    /// Different pictures among them.
    pub pictures: usize,
    /// Pictures that are in several classes.
    pub across_classes: usize,
}

/// Finding and dropping identical images.
impl View {
    /// For each image, the position of the first that is identical to it at the view's size; its own where none before it is. Images of
    /// one value alone, such as slices without content, are identical to none.
    #[must_use]
    pub fn twins(&self) -> Vec<usize> {
        let hashes: Vec<Option<u64>> = (0..self.len())
            .into_par_iter()
            .map(|i| {
                let image = self.image(i);
                let is_blank = image.iter().all(|value| *value == image[0]);
                (!is_blank).then(|| self.pixel_hash(i))
            })
            .collect();
        let mut first: BTreeMap<u64, usize> = BTreeMap::new();
        let twin = |(i, hash): (usize, Option<u64>)| hash.map_or(i, |hash| *first.entry(hash).or_insert(i));
        hashes.into_iter().enumerate().map(twin).collect()
    }

    /// How many images are identical to others.
    #[must_use]
    pub fn twin_counts(&self) -> TwinCounts {
        let mut found = TwinCounts::default();
        for members in self.twin_sets() {
            found.images += members.len();
            found.pictures += 1;
            found.across_classes += usize::from(self.in_several_classes(&members));
        }
        found
    }

    /// The positions of the images of each picture that is there several times.
    pub(crate) fn twin_sets(&self) -> Vec<Vec<usize>> {
        let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, first) in self.twins().into_iter().enumerate() {
            sets.entry(first).or_default().push(i);
        }
        sets.into_values().filter(|members| members.len() > 1).collect()
    }

    fn in_several_classes(&self, members: &[usize]) -> bool {
        members.iter().any(|i| self.label(*i) != self.label(members[0]))
    }

    /// The images without those that [`Duplicates::Drop`] drops, as a set of its own.
    pub(crate) fn without_twins(&self) -> Result<Self> {
        let mut kept = vec![true; self.len()];
        for members in self.twin_sets() {
            let first = usize::from(!self.in_several_classes(&members));
            members[first..].iter().for_each(|i| kept[*i] = false);
        }
        if kept.iter().all(|kept| *kept) {
            return Ok(self.clone());
        }
        let dropped = kept.iter().filter(|kept| !**kept).count();
        tracing::warn!("{dropped} images are identical to others, and are dropped");
        self.copied(&(0..self.len()).filter(|i| kept[*i]).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ViewParts;

    /// Images of 2 x 1 grey with these first values; the second is 0.
    fn images(values: &[u8], labels: &[u32]) -> View {
        View::new(ViewParts {
            classes: vec!["a".into(), "b".into()],
            labels: labels.to_vec(),
            size: 2.into(),
            channels: 1,
            pixels: values.iter().flat_map(|value| [*value, 0, 0, 0]).collect(),
            ..ViewParts::default()
        })
        .unwrap()
    }

    #[test]
    fn twins_are_counted_and_dropped() {
        let view = images(&[1, 2, 1, 0, 0, 2, 3], &[0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(view.twins(), [0, 1, 0, 3, 4, 1, 6]);
        assert_eq!(view.twin_counts(), TwinCounts { images: 4, pictures: 2, across_classes: 1 });
        let kept = view.without_twins().unwrap();
        assert_eq!(kept.names().collect::<Vec<_>>(), ["000001", "000004", "000005", "000007"]);
        assert_eq!((kept.labels(), kept.image(3)[0], kept.rows()), (vec![0, 0, 1, 1], 3, vec![0, 1, 2, 3]));
    }
}
