//! Synthetic against real images, and real against real ones of other patients.

use std::collections::BTreeMap;

use cellforge_data::{View, derive_seed};
use cellforge_eval::{FidelityOptions, Interval, Sample, fidelity, frechet_distance};
use cellforge_train::FeatureMatrix;

use super::{
    EvaluationConfig, FidelityPart, FidelityScope,
    sets::{SetImages, parted, pick},
};
use crate::{Control, Error, Result};

/// Ways to halve the real images, for the range of distances between real and real.
const HALVINGS: usize = 20;

/// A set and the features of its images.
#[derive(Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) images: &'a SetImages,
    pub(super) rows: &'a FeatureMatrix,
}

/// Some rows of a set, ready to be compared.
struct Chosen {
    rows: FeatureMatrix,
    groups: Option<Vec<String>>,
}

impl Chosen {
    fn new(from: Measured<'_>, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&row| from.rows.row(row).iter().copied()).collect();
        let groups = from.images.groups().map(|groups| rows.iter().map(|&row| groups[row].clone()).collect());
        Self { rows: FeatureMatrix { values, dims: from.rows.dims }, groups }
    }

    fn sample(&self) -> Result<Sample<'_>> {
        Ok(Sample { features: self.rows.checked()?, groups: self.groups.as_deref() })
    }
}

/// Rows of one class of the two halves of the real images, the synthetic and the held-out ones: as many of each.
struct OfClass {
    rows: [Vec<usize>; 4],
    label: usize,
    n: usize,
}

/// What is compared with what.
pub(super) struct Choice {
    /// The real images in two halves, several times over.
    halvings: Vec<[Vec<usize>; 2]>,
    /// The rows of each class, of the first of the halvings.
    classes: Vec<OfClass>,
    seed: u64,
}

/// Chooses the images to compare.
///
/// # Errors
/// [`Error::EvaluationImages`] if there are too few.
pub(super) fn choose(
    config: &EvaluationConfig,
    real: &SetImages,
    holdout: Option<&SetImages>,
    synthetic: &SetImages,
) -> Result<Choice> {
    let seed = derive_seed(config.seed, "halves");
    let halvings: Vec<[Vec<usize>; 2]> = (0..HALVINGS)
        .map(|number| parted(real, 0.5, derive_seed(seed, &format!("halving {number}"))))
        .collect::<Result<_>>()?;
    let [first, second] = &halvings[0];
    let mut classes = Vec::new();
    for (label, name) in real.view.classes().iter().enumerate() {
        let all = |images: &SetImages| images.view.class_indices(label as u32);
        let sets = [
            of_class(&real.view, first, label),
            of_class(&real.view, second, label),
            all(synthetic),
            holdout.map_or(Vec::new(), all),
        ];
        let smallest_half = halvings.iter().flatten().map(|half| of_class(&real.view, half, label).len()).min();
        let counts = [
            ("real", "one half of them has", smallest_half.unwrap_or(0)),
            ("synthetic", "there are", sets[2].len()),
            ("holdout", "there are", if holdout.is_some() { sets[3].len() } else { usize::MAX }),
        ];
        let &(part, what, n) = counts.iter().min_by_key(|(.., n)| *n).unwrap_or(&counts[0]);
        if n <= config.fidelity.k {
            let problem = format!(
                "{what} {n} of class {name:?}: at least {} are needed with k = {}; give more images or a smaller k",
                config.fidelity.k + 1,
                config.fidelity.k
            );
            return Err(Error::EvaluationImages { part, problem });
        }
        let from = [Some(real), Some(real), Some(synthetic), holdout];
        let rows = std::array::from_fn(|i| from[i].map_or(Vec::new(), |from| pick(&from.view, &sets[i], n, seed)));
        classes.push(OfClass { rows, label, n });
    }
    Ok(Choice { halvings, classes, seed })
}

pub(super) fn measure(
    config: &EvaluationConfig,
    choice: &Choice,
    real: Measured<'_>,
    holdout: Option<Measured<'_>>,
    synthetic: Measured<'_>,
    control: &Control,
) -> Result<FidelityPart> {
    let Choice { halvings, classes: chosen, seed } = choice;
    let classes = real.images.view.classes();
    let options = config.fidelity_options();
    let scope = |of: &[&OfClass]| -> Result<FidelityScope> {
        if control.stopped() {
            return Err(Error::Interrupted);
        }
        let rows = |i: usize| -> Vec<usize> {
            let mut rows: Vec<usize> = of.iter().flat_map(|class| class.rows[i].iter().copied()).collect();
            rows.sort_unstable();
            rows
        };
        let held_out = holdout.map(|holdout| Chosen::new(holdout, &rows(3)));
        compare(
            of.iter().map(|class| class.n).sum(),
            floor_range(real, halvings, held_out.as_ref(), of, *seed)?,
            [Chosen::new(real, &rows(0)), Chosen::new(real, &rows(1)), Chosen::new(synthetic, &rows(2))],
            held_out.as_ref(),
            &options,
        )
    };
    let mut per_class = BTreeMap::new();
    for (name, of) in classes.iter().zip(chosen) {
        per_class.insert(name.clone(), scope(&[of])?);
    }
    Ok(FidelityPart {
        images_per_side: classes.iter().cloned().zip(chosen.iter().map(|class| class.n)).collect(),
        halves_by_patient: real.images.several_patients(),
        pooled: scope(&chosen.iter().collect::<Vec<_>>())?,
        per_class,
    })
}

/// The range of the Fréchet distance between real and real, with as many images of each class on both sides as elsewhere: of a half of
/// the real images to the held-out ones, or without these to the other half.
fn floor_range(
    real: Measured<'_>,
    halvings: &[[Vec<usize>; 2]],
    holdout: Option<&Chosen>,
    classes: &[&OfClass],
    seed: u64,
) -> Result<Interval> {
    let view = &real.images.view;
    let half = |half: &[usize]| {
        let of = |class: &&OfClass| pick(view, &of_class(view, half, class.label), class.n, seed);
        Chosen::new(real, &classes.iter().flat_map(of).collect::<Vec<_>>())
    };
    let mut range = Interval { low: f64::INFINITY, high: 0.0 };
    for [first, second] in halvings {
        let first = half(first);
        let distance = match holdout {
            Some(holdout) => frechet_distance(holdout.sample()?.features, first.sample()?.features)?,
            None => frechet_distance(first.sample()?.features, half(second).sample()?.features)?,
        };
        range = Interval { low: range.low.min(distance), high: range.high.max(distance) };
    }
    Ok(range)
}

/// The rows of one class.
fn of_class(images: &View, rows: &[usize], label: usize) -> Vec<usize> {
    rows.iter().copied().filter(|&row| images.label(row) as usize == label).collect()
}

fn compare(
    images: usize,
    floor_range: Interval,
    [first, second, synthetic]: [Chosen; 3],
    holdout: Option<&Chosen>,
    options: &FidelityOptions,
) -> Result<FidelityScope> {
    let (first, second, synthetic) = (first.sample()?, second.sample()?, synthetic.sample()?);
    let holdout = holdout.map(Chosen::sample).transpose()?;
    let against = |reference: &Sample<'_>, compared: &Sample<'_>| fidelity(reference, compared, options);
    Ok(FidelityScope {
        images,
        against_real: against(&first, &synthetic)?,
        floor: against(&first, &second)?,
        floor_range,
        against_holdout: holdout.as_ref().map(|holdout| against(holdout, &synthetic)).transpose()?,
        real_against_holdout: holdout.as_ref().map(|holdout| against(holdout, &first)).transpose()?,
    })
}
