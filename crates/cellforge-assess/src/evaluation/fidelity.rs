//! Synthetic against real images, and real against real ones of other patients.

use std::collections::BTreeMap;

use cellforge_data::{View, derive_seed};
use cellforge_eval::{
    Estimate, Fidelity, FidelityOptions, ImageScore, Interval, Sample, effective_groups, fidelity, fld,
    frechet_distance, image_scores, prdc,
};
use cellforge_train::FeatureMatrix;

use super::{
    EvaluationConfig, FidelityPart, FidelityScope, FloorDraw, FloorInfo, ScoredImage,
    equivalence::comparisons,
    sets::{SetImages, parted, pick, rank},
};
use crate::{
    Control, Error, Result,
    even::{evened, evened_len},
};

/// Pairs of sets of real images that are drawn for the floor.
const DRAWS: usize = 20;

/// Pairs that are tried for each one that is taken: those with too few images of a class are taken last.
const TRIES: usize = 10;

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

/// Two sets of real images without a patient in common: one as large as the holdout, in patients, and the rest.
type Pair = [Vec<usize>; 2];

/// Rows of one class of the first pair's two sets, of the synthetic images and of the held-out ones: as many of each.
struct OfClass {
    rows: [Vec<usize>; 4],
    label: usize,
    n: usize,
}

/// What is compared with what.
pub(super) struct Choice {
    /// The real images in two sets, several times over.
    pairs: Vec<Pair>,
    /// The rows of each class, of the first of the pairs.
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
    let classes = real.view.classes();
    let wanted: Vec<usize> = (0..classes.len())
        .map(|label| {
            let of_class = |of: &SetImages| of.view.class_indices(label as u32);
            let held_out = holdout.map_or(usize::MAX, |holdout| evened_len(&holdout.view, &of_class(holdout)));
            held_out.min(of_class(synthetic).len())
        })
        .collect();
    let pairs = draw_pairs(real, holdout, &wanted, seed)?;
    let [like_holdout, rest] = &pairs[0];
    let mut chosen = Vec::new();
    for (label, name) in classes.iter().enumerate() {
        let all = |images: &SetImages| images.view.class_indices(label as u32);
        let sets = [
            evened(&real.view, &of_class(&real.view, like_holdout, label), seed),
            evened(&real.view, &of_class(&real.view, rest, label), seed),
            all(synthetic),
            holdout.map_or(Vec::new(), |holdout| evened(&holdout.view, &all(holdout), seed)),
        ];
        let len = |set: &Vec<usize>| evened_len(&real.view, &of_class(&real.view, set, label));
        let smallest = pairs.iter().flatten().map(len).min();
        let counts = [
            ("real", "a part of them, of other patients than the rest, has", smallest.unwrap_or(0)),
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
        chosen.push(OfClass { rows, label, n });
    }
    Ok(Choice { pairs, classes: chosen, seed })
}

pub(super) fn measure(
    config: &EvaluationConfig,
    choice: &Choice,
    real: Measured<'_>,
    holdout: Option<Measured<'_>>,
    synthetic: Measured<'_>,
    control: &Control,
) -> Result<FidelityPart> {
    let Choice { pairs, classes: chosen, seed } = choice;
    let classes = real.images.view.classes();
    let options = config.fidelity_options();
    let scope = |of: &[&OfClass]| -> Result<FidelityScope> {
        let rows = |i: usize| -> Vec<usize> {
            let mut rows: Vec<usize> = of.iter().flat_map(|class| class.rows[i].iter().copied()).collect();
            rows.sort_unstable();
            rows
        };
        compare(
            of.iter().map(|class| class.n).sum(),
            floors(real, pairs, of, options.k, *seed, control)?,
            [Chosen::new(real, &rows(0)), Chosen::new(real, &rows(1)), Chosen::new(synthetic, &rows(2))],
            holdout.map(|holdout| Chosen::new(holdout, &rows(3))).as_ref(),
            &options,
            control,
        )
    };
    let mut per_class = BTreeMap::new();
    let mut images = Vec::new();
    for (name, of) in classes.iter().zip(chosen) {
        per_class.insert(name.clone(), scope(&[of])?);
        let reference = match holdout {
            Some(holdout) => Chosen::new(holdout, &of.rows[3]),
            None => Chosen::new(real, &of.rows[0]),
        };
        images.extend(scored(synthetic, &reference, of.label, name, options.k)?);
    }
    Ok(FidelityPart {
        images_per_side: classes.iter().cloned().zip(chosen.iter().map(|class| class.n)).collect(),
        floor: floor_info(real.images, pairs),
        pooled: scope(&chosen.iter().collect::<Vec<_>>())?,
        per_class,
        images,
    })
}

/// The scores of all synthetic images of a class, by name.
fn scored(
    synthetic: Measured<'_>,
    reference: &Chosen,
    label: usize,
    class: &str,
    k: usize,
) -> Result<Vec<ScoredImage>> {
    let view = &synthetic.images.view;
    let rows = view.class_indices(label as u32);
    let compared = Chosen::new(synthetic, &rows);
    let scores = image_scores(reference.sample()?.features, compared.sample()?.features, k)?;
    let one = |(row, score): (usize, ImageScore)| ScoredImage {
        image: view.name(row).to_owned(),
        class: class.to_owned(),
        score,
    };
    Ok(rows.into_iter().zip(scores).map(one).collect())
}

/// Pairs of sets of real images without a patient in common. One has as many effective patients as the holdout, as nearly as whole
/// patients allow, and half of them where the holdout has more or there is none; the other has the rest. Patients with images of the
/// same classes are shared out in proportion. Where patients are not known, images are dealt out instead.
///
/// Of more pairs than are needed those are taken that have `wanted` images of each class on both sides, as far as there are such.
fn draw_pairs(real: &SetImages, holdout: Option<&SetImages>, wanted: &[usize], seed: u64) -> Result<Vec<Pair>> {
    let share = holdout.map_or(0.5, |holdout| (effective(holdout) / effective(real)).min(0.5));
    let tries = (0..DRAWS * TRIES).map(|number| {
        let seed = derive_seed(seed, &format!("halving {number}"));
        match real.groups().filter(|_| real.several_patients()) {
            Some(patients) => Ok(drawn_patients(&real.view, patients, share, seed)),
            None => parted(real, share, seed),
        }
    });
    let missing = |pair: &Pair| -> usize {
        let of = |(label, &wanted): (usize, &usize)| {
            let len = |set: &Vec<usize>| evened_len(&real.view, &of_class(&real.view, set, label));
            pair.iter().map(|set| wanted.saturating_sub(len(set))).max().unwrap_or(0)
        };
        wanted.iter().enumerate().map(of).fold(0, usize::saturating_add)
    };
    let mut pairs = Vec::new();
    for pair in tries {
        let pair = pair?;
        pairs.push((missing(&pair), pair));
        if pairs.iter().filter(|(missing, _)| *missing == 0).count() == DRAWS {
            break;
        }
    }
    // Stable: of pairs that lack as many, the first.
    pairs.sort_by_key(|(missing, _)| *missing);
    pairs.truncate(DRAWS);
    Ok(pairs.into_iter().map(|(_, pair)| pair).collect())
}

/// Kish's effective number of patients, or the number of images where patients are not known.
fn effective(images: &SetImages) -> f64 {
    images.groups().map_or(images.view.len() as f64, effective_groups)
}

/// About `share` of the patients, in the order of the rows, and the rest: of patients with images of the same classes as many as their
/// number asks for, and at least one on each side where there are two.
fn drawn_patients(view: &View, patients: &[String], share: f64, seed: u64) -> Pair {
    let mut classes_of: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for (row, patient) in patients.iter().enumerate() {
        classes_of.entry(patient).or_insert_with(|| vec![false; view.classes().len()])[view.label(row) as usize] = true;
    }
    let mut alike: BTreeMap<&Vec<bool>, Vec<&str>> = BTreeMap::new();
    classes_of.iter().for_each(|(patient, classes)| alike.entry(classes).or_default().push(patient));
    let mut drawn = BTreeMap::new();
    let mut owed = 0.0;
    for members in alike.values_mut() {
        members.sort_by_key(|patient| rank(seed, patient));
        // What rounding takes from one kind of patient is given to the next.
        owed += share * members.len() as f64;
        let count = owed.round().max(0.0) as usize;
        let count = if members.len() > 1 { count.clamp(1, members.len() - 1) } else { count.min(1) };
        owed -= count as f64;
        drawn.extend(members.iter().enumerate().map(|(place, patient)| (*patient, place < count)));
    }
    let rows = |wanted: bool| (0..patients.len()).filter(|&row| drawn[patients[row].as_str()] == wanted).collect();
    [rows(true), rows(false)]
}

/// How the sets of the floor were drawn.
fn floor_info(real: &SetImages, pairs: &[Pair]) -> FloorInfo {
    let groups = real.groups().filter(|_| real.several_patients());
    let mean = |side: usize| {
        let groups = groups?;
        let of = |pair: &Pair| effective_groups(&pair[side].iter().map(|&row| &groups[row]).collect::<Vec<_>>());
        Some(pairs.iter().map(of).sum::<f64>() / pairs.len() as f64)
    };
    FloorInfo { draws: pairs.len(), by_patient: groups.is_some(), effective_patients: [mean(0), mean(1)] }
}

/// The figures of every pair, with as many images of each class on both sides as elsewhere.
fn floors(
    real: Measured<'_>,
    pairs: &[Pair],
    classes: &[&OfClass],
    k: usize,
    seed: u64,
    control: &Control,
) -> Result<Vec<FloorDraw>> {
    let view = &real.images.view;
    let chosen = |set: &[usize]| {
        let of = |class: &&OfClass| pick(view, &evened(view, &of_class(view, set, class.label), seed), class.n, seed);
        Chosen::new(real, &classes.iter().flat_map(of).collect::<Vec<_>>())
    };
    let draw = |[like_holdout, rest]: &Pair| {
        if control.stopped() {
            return Err(Error::Interrupted);
        }
        let (reference, compared) = (chosen(like_holdout), chosen(rest));
        let (reference, compared) = (reference.sample()?.features, compared.sample()?.features);
        Ok(FloorDraw { frechet: frechet_distance(reference, compared)?, prdc: prdc(reference, compared, k)? })
    };
    pairs.iter().map(draw).collect()
}

/// The rows of one class.
fn of_class(images: &View, rows: &[usize], label: usize) -> Vec<usize> {
    rows.iter().copied().filter(|&row| images.label(row) as usize == label).collect()
}

fn compare(
    images: usize,
    floors: Vec<FloorDraw>,
    [like_holdout, rest, synthetic]: [Chosen; 3],
    holdout: Option<&Chosen>,
    options: &FidelityOptions,
    control: &Control,
) -> Result<FidelityScope> {
    let (like_holdout, rest, synthetic) = (like_holdout.sample()?, rest.sample()?, synthetic.sample()?);
    let holdout = holdout.map(Chosen::sample).transpose()?;
    let go_on = || if control.stopped() { Err(Error::Interrupted) } else { Ok(()) };
    let against = |reference: &Sample<'_>, compared: &Sample<'_>| -> Result<Fidelity> {
        go_on()?;
        fidelity(reference, compared, options).map_err(Error::from)
    };
    let likelihood = |test: &Sample<'_>, generated: &Sample<'_>| -> Result<Option<Estimate>> {
        go_on()?;
        match fld(&rest, test, generated, options) {
            Ok(found) => Ok(Some(found)),
            // One patient, or hardly any images.
            Err(cellforge_eval::Error::Halves { .. } | cellforge_eval::Error::Images { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let range = floors.iter().fold(Interval { low: f64::INFINITY, high: 0.0 }, |range, floor| Interval {
        low: range.low.min(floor.frechet),
        high: range.high.max(floor.frechet),
    });
    let mut scope = FidelityScope {
        images,
        against_real: against(&like_holdout, &synthetic)?,
        floor: against(&like_holdout, &rest)?,
        against_holdout: holdout.as_ref().map(|holdout| against(holdout, &synthetic)).transpose()?,
        real_against_holdout: holdout.as_ref().map(|holdout| against(holdout, &rest)).transpose()?,
        fld: holdout.as_ref().map(|holdout| likelihood(holdout, &synthetic)).transpose()?.flatten(),
        fld_real: holdout.as_ref().map(|holdout| likelihood(holdout, &like_holdout)).transpose()?.flatten(),
        floors,
        floor_range: range,
        comparisons: Vec::new(),
    };
    scope.comparisons = comparisons(&scope);
    Ok(scope)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::evaluation::Part;
    use cellforge_data::ViewParts;

    /// Patients `from` to `to`, of whom every third has class `b` alone; patient `i` has `2 + i % 5` images of a class.
    fn images(from: usize, to: usize) -> SetImages {
        let mut parts = ViewParts {
            classes: vec!["a".to_owned(), "b".to_owned()],
            size: 1.into(),
            channels: 1,
            ..ViewParts::default()
        };
        for patient in from..to {
            for label in if patient % 3 == 0 { 1..2 } else { 0..2 } {
                for image in 0..2 + patient % 5 {
                    parts.names.push(format!("{patient}-{label}-{image}"));
                    parts.labels.push(label);
                    parts.groups.push(Some(format!("P{patient}")));
                    parts.pixels.push(0);
                }
            }
        }
        let view = View::new(parts).unwrap();
        let classes = view.classes().to_vec();
        SetImages::new("real", &Part::new(view, "test"), &classes, (1.into(), 1), 0, 1).unwrap()
    }

    #[test]
    fn sets_of_the_floor_are_as_large_as_the_holdout_and_share_no_patient() {
        let (real, holdout) = (images(0, 60), images(60, 75));
        let pairs = draw_pairs(&real, Some(&holdout), &[10, 10], 1).unwrap();
        assert_eq!(pairs.len(), DRAWS);
        let patients = real.groups().unwrap();
        let of = |rows: &[usize]| rows.iter().map(|&row| patients[row].as_str()).collect::<BTreeSet<_>>();
        for [like_holdout, rest] in &pairs {
            assert!(of(like_holdout).is_disjoint(&of(rest)));
            // 15 of 75 patients are held out: as many of the 60 are drawn, a third of them with one class.
            assert_eq!((of(like_holdout).len(), of(rest).len()), (15, 45));
            assert_eq!(like_holdout.len() + rest.len(), patients.len());
            assert!((0..2).all(|label| of_class(&real.view, like_holdout, label).len() >= 10));
        }
        let info = floor_info(&real, &pairs);
        let found = info.effective_patients[0].unwrap();
        assert!(info.by_patient && (found - effective(&holdout)).abs() < 1.5, "{found}");
        // Without a holdout, or with one that is larger, halves.
        for holdout in [None, Some(&images(60, 200))] {
            let [half, rest] = &draw_pairs(&real, holdout, &[5, 5], 1).unwrap()[0];
            assert_eq!((of(half).len(), of(rest).len()), (30, 30));
        }
        assert_ne!(pairs[0], pairs[1]);
        assert_eq!(pairs, draw_pairs(&real, Some(&holdout), &[10, 10], 1).unwrap());
    }
}
