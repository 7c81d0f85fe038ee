//! Features in which copies are looked for, beside pixels.

use std::collections::BTreeMap;

use cellforge_data::View;
use cellforge_eval::nearest_in_groups;
use cellforge_train::FeatureMatrix;

use super::search::Near;
use crate::{Control, Error, Result};

/// Queries between two looks at whether to stop.
const CHUNK: usize = 256;

/// Features in which copies are looked for as well as in pixels: what a network makes of an image may stay the same where pixels do not.
pub struct Space<'a> {
    /// Says which features they are, in results.
    pub name: String,
    /// What decides the features of an image.
    pub id: String,
    /// Of the real images, training images first.
    pub real: FeatureMatrix,
    /// Of the synthetic images.
    pub synthetic: FeatureMatrix,
    /// Makes the features of other images; `None` where that cannot be done. Copies that are made on purpose are then not found here.
    pub make: Box<MakeFeatures<'a>>,
}

/// See [`Space::make`].
pub type MakeFeatures<'a> = dyn Fn(&View) -> Result<Option<FeatureMatrix>> + 'a;

impl Space<'_> {
    /// How near each query comes: the distance between features to the nearest of the first `training` real images, and to the nearest
    /// real image of any other unit than that one's. `own` has each query's unit, whose images are left out.
    pub(super) fn search(
        &self,
        queries: &FeatureMatrix,
        units: &[usize],
        training: usize,
        own: Option<&[usize]>,
        control: &Control,
    ) -> Result<Vec<Near>> {
        // The training images of a unit are a group, and its held-out ones another.
        let mut rows: BTreeMap<(usize, bool), Vec<usize>> = BTreeMap::new();
        units.iter().enumerate().for_each(|(row, &unit)| rows.entry((unit, row >= training)).or_default().push(row));
        let groups: Vec<((usize, bool), Vec<usize>)> = rows.into_iter().collect();
        let mut group_of = vec![0; units.len()];
        for (group, (_, rows)) in groups.iter().enumerate() {
            rows.iter().for_each(|&row| group_of[row] = group);
        }
        let real = self.real.checked()?;
        let all: Vec<usize> = (0..queries.len()).collect();
        let mut found = Vec::with_capacity(all.len());
        for chunk in all.chunks(CHUNK) {
            if control.stopped() {
                return Err(Error::Interrupted);
            }
            let values = chunk.iter().flat_map(|&i| queries.row(i).iter().copied()).collect();
            let part = FeatureMatrix { values, dims: queries.dims };
            let distances = nearest_in_groups(part.checked()?, real, &group_of, groups.len())?;
            for (&query, distances) in chunk.iter().zip(distances.chunks_exact(groups.len())) {
                let least = |of: &dyn Fn(usize, bool) -> bool| {
                    let groups = groups.iter().zip(distances).enumerate();
                    let allowed = groups.filter(|(_, (((unit, held_out), _), _))| {
                        own.is_none_or(|own| own[query] != *unit) && of(*unit, *held_out)
                    });
                    allowed.map(|(group, (_, &distance))| (group, distance)).min_by(|a, b| a.1.total_cmp(&b.1))
                };
                let nearest = least(&|_, held_out| !held_out);
                let usual = nearest.and_then(|(group, _)| least(&|unit, _| unit != groups[group].0.0));
                found.push(match (nearest, usual) {
                    (Some((group, distance)), Some((_, usual))) => {
                        let to = |&&row: &&usize| squared(queries.row(query), self.real.row(row));
                        let near = groups[group].1.iter().min_by(|a, b| to(a).total_cmp(&to(b)));
                        Near { training: near.copied().unwrap_or(0), distance, usual }
                    }
                    _ => Near::NONE,
                });
            }
        }
        Ok(found)
    }
}

fn squared(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Training images of units 0, 0 and 1 at 0, 10 and 3; a held-out one of unit 2 at 5.
        let line = |values: &[f32]| FeatureMatrix { values: values.to_vec(), dims: 1 };
        let space = Space {
            name: "line".to_owned(),
            id: String::new(),
            real: line(&[0.0, 10.0, 3.0, 5.0]),
            synthetic: line(&[]),
            make: Box::new(|_| Ok(None)),
        };
        let near = |query: f32, own: Option<usize>| {
            let own = own.map(|own| [own]);
            let own = own.as_ref().map(|own| &own[..]);
            space.search(&line(&[query]), &[0, 0, 1, 2], 3, own, &Control::default()).unwrap()[0]
        };
        // 9 is nearest to 10 of unit 0; of the others, the held-out 5 is nearest.
        assert_eq!(near(9.0, None), Near { training: 1, distance: 1.0, usual: 4.0 });
        // Without unit 0, it is nearest to 3, and 5 is all that is left.
        assert_eq!(near(9.0, Some(0)), Near { training: 2, distance: 6.0, usual: 4.0 });
        assert_eq!(near(3.0, None), Near { training: 2, distance: 0.0, usual: 2.0 });
    }
}
