//! Two halves of one set, for what a distance is between real and real.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

use crate::{Error, Result};

/// Splits `n` rows at random into two halves without a row in common, each in rising order: the distance of one half from the other is
/// the floor below which no distance of synthetic images can be told from none.
///
/// Where `groups` are known (`groups[i]` is the group of row `i`), each group is in one half: groups are sorted by size, and of every
/// two that follow each other a coin sends one to each half. So the halves have as many groups (or one more) and about as many rows.
/// Otherwise the rows are dealt out, with one more in the first half where `n` is odd.
///
/// # Errors
/// [`Error::Length`] if `groups` is not one per row, and [`Error::Halves`] if there are fewer than 2 rows, or 2 groups where they are
/// known.
///
/// ```
/// use cellforge_eval::halves;
/// let patients = ["a", "a", "b", "b", "c", "d"].map(String::from);
/// let [first, second] = halves(6, Some(&patients), 1)?;
/// // Of a and b, two images each, one is in each half, and so of c and d.
/// assert_eq!((first.len(), second.len()), (3, 3));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn halves(n: usize, groups: Option<&[String]>, seed: u64) -> Result<[Vec<usize>; 2]> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let Some(groups) = groups else {
        if n < 2 {
            return Err(Error::Halves { units: n, what: "images" });
        }
        let mut rows: Vec<usize> = (0..n).collect();
        rows.shuffle(&mut rng);
        let mut halves = [rows.split_off(n / 2), rows];
        halves.iter_mut().for_each(|half| half.sort_unstable());
        return Ok(halves);
    };
    if groups.len() != n {
        return Err(Error::Length { what: "the array of groups", found: groups.len(), expected: n });
    }
    let mut rows_of = BTreeMap::<&str, Vec<usize>>::new();
    for (row, group) in groups.iter().enumerate() {
        rows_of.entry(group).or_default().push(row);
    }
    if rows_of.len() < 2 {
        return Err(Error::Halves { units: rows_of.len(), what: "groups" });
    }
    // Shuffled first: the sort keeps the order of groups of one size.
    let mut by_size: Vec<Vec<usize>> = rows_of.into_values().collect();
    by_size.shuffle(&mut rng);
    by_size.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let mut halves = [Vec::new(), Vec::new()];
    for pair in by_size.chunks(2) {
        let coin = usize::from(rng.random::<bool>());
        match pair {
            [one, other] => {
                halves[coin].extend(one);
                halves[1 - coin].extend(other);
            }
            // The last and smallest of an odd number.
            rest => {
                let smaller = match halves[0].len().cmp(&halves[1].len()) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => coin,
                    std::cmp::Ordering::Greater => 1,
                };
                halves[smaller].extend(rest.iter().flatten());
            }
        }
    }
    halves.iter_mut().for_each(|half| half.sort_unstable());
    Ok(halves)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_dealt_out_once() {
        let [a, b] = halves(101, None, 3).unwrap();
        assert_eq!((a.len(), b.len()), (51, 50));
        let mut all = [a.clone(), b].concat();
        all.sort_unstable();
        assert_eq!(all, (0..101).collect::<Vec<_>>());
        assert_eq!(halves(101, None, 3).unwrap()[0], a);
        assert_ne!(halves(101, None, 4).unwrap()[0], a);
    }

    #[test]
    fn no_group_is_in_both_halves_and_sizes_are_balanced() {
        // Patient i of 41 has 1 + i² / 8 images.
        let groups: Vec<String> = (0..41).flat_map(|i| vec![format!("P{i}"); 1 + i * i / 8]).collect();
        let mut seen = BTreeSet::new();
        for seed in 0..20 {
            let [a, b] = halves(groups.len(), Some(&groups), seed).unwrap();
            let patients = |rows: &[usize]| rows.iter().map(|&row| groups[row].clone()).collect::<BTreeSet<_>>();
            let (in_a, in_b) = (patients(&a), patients(&b));
            assert!(in_a.is_disjoint(&in_b));
            assert_eq!(in_a.len() + in_b.len(), 41);
            assert!(in_a.len().abs_diff(in_b.len()) <= 1);
            assert_eq!(a.len() + b.len(), groups.len());
            assert!(a.len().abs_diff(b.len()) * 10 < groups.len(), "{} and {}", a.len(), b.len());
            seen.insert(a);
        }
        assert!(seen.len() > 15, "seeds make different halves");
    }

    #[test]
    fn what_cannot_be_halved_is_refused() {
        assert_eq!(halves(1, None, 0).unwrap_err(), Error::Halves { units: 1, what: "images" });
        let one = vec![String::from("P"); 9];
        assert_eq!(halves(9, Some(&one), 0).unwrap_err(), Error::Halves { units: 1, what: "groups" });
        assert!(matches!(halves(8, Some(&one), 0), Err(Error::Length { .. })));
    }
}
