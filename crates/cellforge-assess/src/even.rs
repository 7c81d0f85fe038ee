//! As many images of each patient, as nearly as costs few of them.

use std::collections::BTreeMap;

use cellforge_data::View;

use crate::evaluation::rank;

/// The most images that a unit may have, if no unit is to have more than twice as many as units have in the mean: the largest `c` with
/// `c · units ≤ 2 · Σ min(n, c)` for units of `n` images. Kish's effective number is then half of the units or more.
fn most(sizes: &[usize]) -> usize {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    let (units, mut below) = (sorted.len(), 0);
    let mut found = 0;
    for (place, &size) in sorted.iter().enumerate() {
        // For `c` up to this size, those before have fewer: below + (units - place) c.
        let above = units - place;
        let holds = |c: usize| c * units <= 2 * (below + above * c);
        if holds(size) {
            found = size;
        } else {
            // c (units - 2 above) ≤ 2 below.
            found = found.max(2 * below / (units - 2 * above));
            break;
        }
        below += size;
    }
    found
}

/// The patients of some rows, where all are known, and how many rows each has.
fn sizes<'a>(images: &'a View, rows: &[usize]) -> Option<BTreeMap<&'a str, usize>> {
    let mut sizes = BTreeMap::new();
    for &row in rows {
        *sizes.entry(images.group(row)?).or_default() += 1;
    }
    Some(sizes)
}

/// How many of the rows [`evened`] keeps.
pub(crate) fn evened_len(images: &View, rows: &[usize]) -> usize {
    let Some(sizes) = sizes(images, rows) else { return rows.len() };
    let sizes: Vec<usize> = sizes.into_values().collect();
    let most = most(&sizes);
    sizes.into_iter().map(|size| size.min(most)).sum()
}

/// The rows without those that would give a patient more than twice as many as patients have in the mean: a few patients with many images
/// would else stand for all. Which of a patient's rows stay is drawn from the seed. Where patients are not known, all do.
pub(crate) fn evened(images: &View, rows: &[usize], seed: u64) -> Vec<usize> {
    let Some(sizes) = sizes(images, rows) else { return rows.to_vec() };
    let most = most(&sizes.values().copied().collect::<Vec<_>>());
    let mut of_large: BTreeMap<&str, Vec<(String, usize)>> = BTreeMap::new();
    let mut kept = Vec::new();
    for &row in rows {
        match images.group(row) {
            Some(patient) if sizes[patient] > most => {
                of_large.entry(patient).or_default().push((rank(seed, images.name(row)), row));
            }
            _ => kept.push(row),
        }
    }
    for mut ranked in of_large.into_values() {
        ranked.sort();
        kept.extend(ranked.into_iter().take(most).map(|(_, row)| row));
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;

    #[test]
    fn most_by_hand() {
        // 1 + 1 + 1 + c over 4 units: 4 c ≤ 2 (3 + c), c ≤ 3.
        assert_eq!(most(&[1, 1, 1, 100]), 3);
        assert_eq!(most(&[5, 5, 5]), 5);
        assert_eq!(most(&[7]), 7);
        assert_eq!(most(&[]), 0);
        // Two large ones of five: 5 c ≤ 2 (3 + 2 c), c ≤ 6.
        assert_eq!(most(&[1, 100, 1, 50, 1]), 6);
        // Against trying every number.
        let mut state = 1_u64;
        for _ in 0..200 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as usize
            };
            let sizes: Vec<usize> = (0..1 + next() % 9).map(|_| 1 + next() % 40).collect();
            let holds = |c: &usize| c * sizes.len() <= 2 * sizes.iter().map(|size| size.min(c)).sum::<usize>();
            let tried = (1..=40).filter(holds).max().unwrap_or(0).min(*sizes.iter().max().unwrap_or(&0));
            assert_eq!(most(&sizes), tried, "{sizes:?}");
        }
    }

    #[test]
    fn large_patients_give_a_part() {
        let view = |known: bool| {
            View::new(ViewParts {
                groups: (0..20).map(|i| known.then(|| format!("{}", i.min(3)))).collect(),
                size: 1.into(),
                channels: 1,
                pixels: vec![0; 20],
                ..ViewParts::default()
            })
            .unwrap()
        };
        let rows: Vec<usize> = (0..20).collect();
        let images = view(true);
        let kept = evened(&images, &rows, 1);
        assert_eq!((kept.len(), &kept[..3]), (6, &[0, 1, 2][..]));
        assert_eq!(evened_len(&images, &rows), 6);
        assert_ne!(kept, evened(&images, &rows, 2));
        assert_eq!(evened(&view(false), &rows, 1), rows);
        assert_eq!(evened_len(&view(false), &rows), 20);
    }
}
