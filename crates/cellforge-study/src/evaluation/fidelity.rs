//! Synthetic against real cells, and real against real ones of other patients.

use std::collections::BTreeMap;

use cellforge_eval::{Features, FidelityOptions, Interval, Sample, fidelity, frechet_distance, halves};
use cellforge_train::Matrix;

use super::{
    EvaluationConfig, FidelityPart, FidelityScope,
    sets::{Cells, pick},
};
use crate::{Control, Error, Result, derive_seed};

/// Ways to halve the real cells, for the range of distances between real and real.
const HALVINGS: usize = 20;

/// A set and the features of its cells.
#[derive(Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) cells: &'a Cells,
    pub(super) rows: &'a Matrix,
}

/// Some rows of a set, ready to be compared.
struct Chosen {
    rows: Matrix,
    groups: Option<Vec<String>>,
}

impl Chosen {
    fn new(from: Measured<'_>, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&row| from.rows.row(row).iter().copied()).collect();
        let groups = from.cells.groups().map(|groups| rows.iter().map(|&row| groups[row].clone()).collect());
        Self { rows: Matrix { values, dims: from.rows.dims }, groups }
    }

    fn sample(&self) -> Result<Sample<'_>> {
        Ok(Sample { features: Features::new(&self.rows.values, self.rows.dims)?, groups: self.groups.as_deref() })
    }
}

/// Rows of one class of the two halves of the real cells, the synthetic and the held-out ones: as many of each.
struct OfClass {
    rows: [Vec<usize>; 4],
    label: usize,
    n: usize,
}

pub(super) fn measure(
    config: &EvaluationConfig,
    real: Measured<'_>,
    holdout: Option<Measured<'_>>,
    synthetic: Measured<'_>,
    control: &Control,
) -> Result<FidelityPart> {
    let seed = derive_seed(config.seed, "halves");
    let by_patient = real.cells.set.has_groups();
    let [first, second] = halves(real.cells.set.len(), real.cells.groups().filter(|_| by_patient), seed)?;
    let classes = &real.cells.set.classes;
    let mut chosen = Vec::new();
    for (class, name) in classes.iter().enumerate() {
        let of = |cells: &Cells, rows: &[usize]| -> Vec<usize> {
            rows.iter().copied().filter(|&row| cells.set.labels[row] as usize == class).collect()
        };
        let all = |cells: &Cells| of(cells, &(0..cells.set.len()).collect::<Vec<_>>());
        let sets = [
            of(real.cells, &first),
            of(real.cells, &second),
            all(synthetic.cells),
            holdout.map_or(Vec::new(), |holdout| all(holdout.cells)),
        ];
        let there = if holdout.is_some() { 4 } else { 3 };
        let n = sets[..there].iter().map(Vec::len).min().unwrap_or(0);
        if n <= config.k {
            let smallest = sets[..there].iter().position(|rows| rows.len() == n).unwrap_or(0);
            let part = ["real", "real", "synthetic", "holdout"][smallest];
            let what = if smallest < 2 { "one half of them has" } else { "there are" };
            let problem = format!(
                "{what} {n} of class {name:?}: at least {} are needed with k = {}; give more cells or a smaller k",
                config.k + 1,
                config.k
            );
            return Err(Error::EvaluationCells { part, problem });
        }
        let from = [real.cells, real.cells, synthetic.cells, holdout.map_or(real.cells, |holdout| holdout.cells)];
        let rows = std::array::from_fn(|i| if i < there { pick(&from[i].set, &sets[i], n, seed) } else { Vec::new() });
        chosen.push(OfClass { rows, label: class, n });
    }
    let options = config.fidelity_options();
    let scope = |of: &[&OfClass]| -> Result<FidelityScope> {
        if control.stopped() {
            return Err(control.interrupted("evaluate"));
        }
        let rows = |i: usize| -> Vec<usize> {
            let mut rows: Vec<usize> = of.iter().flat_map(|class| class.rows[i].iter().copied()).collect();
            rows.sort_unstable();
            rows
        };
        compare(
            of.iter().map(|class| class.n).sum(),
            floor_range(real, by_patient, &of.iter().map(|class| (class.label, class.n)).collect::<Vec<_>>(), seed)?,
            [Chosen::new(real, &rows(0)), Chosen::new(real, &rows(1)), Chosen::new(synthetic, &rows(2))],
            holdout.map(|holdout| Chosen::new(holdout, &rows(3))),
            &options,
        )
    };
    let mut per_class = BTreeMap::new();
    for (name, of) in classes.iter().zip(&chosen) {
        per_class.insert(name.clone(), scope(&[of])?);
    }
    Ok(FidelityPart {
        cells_per_side: classes.iter().cloned().zip(chosen.iter().map(|class| class.n)).collect(),
        halves_by_patient: by_patient,
        pooled: scope(&chosen.iter().collect::<Vec<_>>())?,
        per_class,
    })
}

/// The range of the Fréchet distance between halves of the real cells, with `n` cells of each class `(label, n)` in each half, or all
/// there are.
fn floor_range(real: Measured<'_>, by_patient: bool, classes: &[(usize, usize)], seed: u64) -> Result<Interval> {
    let set = &real.cells.set;
    let mut range = Interval { low: f64::INFINITY, high: 0.0 };
    for number in 0..HALVINGS {
        let seed = derive_seed(seed, &format!("halving {number}"));
        let [first, second] = halves(set.len(), real.cells.groups().filter(|_| by_patient), seed)?.map(|half| {
            let mut rows = Vec::new();
            for &(label, n) in classes {
                let of: Vec<usize> = half.iter().copied().filter(|&row| set.labels[row] as usize == label).collect();
                rows.extend(pick(set, &of, n, seed));
            }
            rows
        });
        // A half may be without a class where patients are few.
        if first.len() < 2 || second.len() < 2 {
            continue;
        }
        let (first, second) = (Chosen::new(real, &first), Chosen::new(real, &second));
        let distance = frechet_distance(first.sample()?.features, second.sample()?.features)?;
        range = Interval { low: range.low.min(distance), high: range.high.max(distance) };
    }
    range.low = range.low.min(range.high);
    Ok(range)
}

fn compare(
    cells: usize,
    floor_range: Interval,
    [first, second, synthetic]: [Chosen; 3],
    holdout: Option<Chosen>,
    options: &FidelityOptions,
) -> Result<FidelityScope> {
    let (first, second, synthetic) = (first.sample()?, second.sample()?, synthetic.sample()?);
    let holdout = holdout.as_ref().map(Chosen::sample).transpose()?;
    let against = |reference: &Sample<'_>, compared: &Sample<'_>| fidelity(reference, compared, options);
    Ok(FidelityScope {
        cells,
        against_real: against(&first, &synthetic)?,
        floor: against(&first, &second)?,
        floor_range,
        against_holdout: holdout.as_ref().map(|holdout| against(holdout, &synthetic)).transpose()?,
        holdout_against_real: holdout.as_ref().map(|holdout| against(&first, holdout)).transpose()?,
    })
}
