//! Kappa: agreement beyond chance.

use crate::{Confusion, Error, Result, confusion};

/// Cohen's kappa of two lists of labels below `classes`: (observed - expected) / (1 - expected), where expected is the agreement of two who label
/// at random, each with their own shares. None where both give the same label throughout.
///
/// Cohen, J. (1960), A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20:37-46.
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`] or [`Error::Label`].
///
/// ```
/// // Of four labels three agree; by chance (2/4 * 3/4 + 2/4 * 1/4) = 1/2 would: (3/4 - 1/2) / (1 - 1/2).
/// assert_eq!(cellforge_eval::panel::cohen_kappa(&[0, 0, 1, 1], &[0, 0, 0, 1], 2)?, Some(0.5));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn cohen_kappa(a: &[u32], b: &[u32], classes: usize) -> Result<Option<f64>> {
    let (observed, expected) = cohen(&confusion(a, b, classes)?);
    Ok(kappa(observed, expected))
}

/// Fleiss' kappa: `counts[i][c]` of the raters of subject `i` chose class `c`, and every subject has the same number of raters, two or more.
/// None where all chose one class.
///
/// Fleiss, J. L. (1971), Measuring nominal scale agreement among many raters, Psychological Bulletin 76:378-382.
///
/// # Errors
/// [`Error::Empty`] without subjects; [`Error::Raters`] where subjects differ in their number of raters, or it is below two.
pub fn fleiss_kappa(counts: &[Vec<u32>]) -> Result<Option<f64>> {
    let Some(first) = counts.first() else { return Err(Error::Empty { what: "the array of subjects" }) };
    let raters: u32 = first.iter().sum();
    if let Some(subject) = counts.iter().position(|row| row.iter().sum::<u32>() != raters || raters < 2) {
        let found = counts[subject].iter().sum();
        return Err(Error::Raters { subject, found, expected: raters.max(2) });
    }
    let (observed, expected) = fleiss(counts.iter().map(|row| (1, row.as_slice())));
    Ok(kappa(observed, expected))
}

/// Agreement beyond chance; none where chance alone gives full agreement, or there is nothing to agree on.
pub(super) fn kappa(observed: f64, expected: f64) -> Option<f64> {
    (expected < 1.0).then(|| (observed - expected) / (1.0 - expected))
}

/// Agreement that two have, and that they would have by chance.
pub(super) fn cohen(table: &Confusion) -> (f64, f64) {
    let total = table.total() as f64;
    let by_chance: u64 = (0..table.classes()).map(|class| table.support(class) * table.predicted(class)).sum();
    (table.correct() as f64 / total, by_chance as f64 / (total * total))
}

/// Agreement of pairs of raters, and what it would be by chance, over subjects with their weights.
pub(super) fn fleiss<'a>(subjects: impl Iterator<Item = (u32, &'a [u32])>) -> (f64, f64) {
    let (mut agreeing, mut pairs) = (0_u64, 0_u64);
    let mut chosen: Vec<u64> = Vec::new();
    for (weight, row) in subjects {
        let weight = u64::from(weight);
        let raters: u64 = row.iter().map(|&n| u64::from(n)).sum();
        chosen.resize(row.len().max(chosen.len()), 0);
        for (all, &n) in chosen.iter_mut().zip(row) {
            let n = u64::from(n);
            *all += weight * n;
            agreeing += weight * n * n.saturating_sub(1);
        }
        pairs += weight * raters * raters.saturating_sub(1);
    }
    let total = chosen.iter().sum::<u64>() as f64;
    let expected = chosen.iter().map(|&n| (n as f64 / total).powi(2)).sum();
    (agreeing as f64 / pairs as f64, expected)
}
