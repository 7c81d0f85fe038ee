//! Clusters of real images for the copying test: seeded k-means++ and Lloyd's iterations.

use rand::{Rng, RngExt};
use rayon::prelude::*;

use crate::{Features, Result, distances::squared_distance, nearest};

/// Most rounds of Lloyd's algorithm; the test needs a partition, not the best one.
const ROUNDS: usize = 25;

/// Rows of several sets, numbered through: those of the first set, then those of the second, and so on.
struct Pool<'a, 'b>(&'b [Features<'a>]);

impl<'a> Pool<'a, '_> {
    fn len(&self) -> usize {
        self.0.iter().map(Features::len).sum()
    }

    fn rows(&self) -> impl Iterator<Item = &'a [f32]> {
        self.0.iter().flat_map(|set| set.values().chunks_exact(set.dims()))
    }

    fn row(&self, mut i: usize) -> &'a [f32] {
        for set in self.0 {
            if i < set.len() {
                return set.row(i);
            }
            i -= set.len();
        }
        unreachable!("rows are numbered below the length of the pool")
    }
}

/// Centres of at most `k` clusters of the rows of `sets`, `(clusters, d)`, row-major. There are fewer where fewer rows differ.
///
/// k-means++ (Arthur and Vassilvitskii 2007) picks the first centres: each next one with a chance that grows with the squared distance
/// to those before it. Then Lloyd's algorithm moves them to the means of their rows until no row changes its cluster, at most 25 times.
pub(crate) fn centres(sets: &[Features], k: usize, rng: &mut impl Rng) -> Result<Vec<f32>> {
    let pool = Pool(sets);
    let dims = sets[0].dims();
    let mut centres = first_centres(&pool, k, rng);
    let mut clusters = assign(sets, &centres)?;
    for _ in 0..ROUNDS {
        let mut members = vec![Vec::new(); centres.len() / dims];
        for (i, &cluster) in clusters.iter().enumerate() {
            members[cluster].push(i);
        }
        // A cluster that lost all its rows keeps its centre.
        centres.par_chunks_mut(dims).zip(&members).filter(|(_, rows)| !rows.is_empty()).for_each(|(centre, rows)| {
            let mut sums = vec![0.0_f64; dims];
            for &i in rows {
                sums.iter_mut().zip(pool.row(i)).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            centre.iter_mut().zip(sums).for_each(|(centre, sum)| *centre = (sum / rows.len() as f64) as f32);
        });
        let next = assign(sets, &centres)?;
        if next == clusters {
            break;
        }
        clusters = next;
    }
    Ok(centres)
}

/// The nearest centre of every row of `sets`, in their order.
pub(crate) fn assign(sets: &[Features], centres: &[f32]) -> Result<Vec<usize>> {
    let mut clusters = Vec::new();
    for set in sets {
        let centres = Features::new(centres, set.dims())?;
        clusters.extend(nearest(*set, centres, 1)?.into_iter().map(|found| found[0].index));
    }
    Ok(clusters)
}

fn first_centres(pool: &Pool, k: usize, rng: &mut impl Rng) -> Vec<f32> {
    let rows: Vec<&[f32]> = pool.rows().collect();
    let mut centres = rows[rng.random_range(0..pool.len())].to_vec();
    let dims = centres.len();
    let mut distances = vec![f64::INFINITY; rows.len()];
    for _ in 1..k {
        let last = &centres[centres.len() - dims..];
        distances.par_iter_mut().zip(&rows).for_each(|(least, row)| *least = least.min(squared_distance(row, last)));
        let total: f64 = distances.iter().sum();
        if total <= 0.0 {
            break;
        }
        let mut left = rng.random_range(0.0..1.0) * total;
        // Rounding may leave a little over at the end: then it is the last row that is no centre yet.
        let mut picked = 0;
        for (i, &distance) in distances.iter().enumerate().filter(|(_, distance)| **distance > 0.0) {
            picked = i;
            left -= distance;
            if left < 0.0 {
                break;
            }
        }
        centres.extend_from_slice(rows[picked]);
    }
    centres
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    #[test]
    fn three_clumps_are_found_at_their_means() {
        // Corners of three squares of side 2 around (0, 0), (100, 0) and (0, 100), spread over two sets.
        let corner = |x: f32, y: f32| [[x - 1.0, y - 1.0], [x - 1.0, y + 1.0], [x + 1.0, y - 1.0], [x + 1.0, y + 1.0]];
        let a: Vec<f32> = [corner(0.0, 0.0), corner(100.0, 0.0)].concat().concat();
        let b: Vec<f32> = corner(0.0, 100.0).concat();
        let sets = [Features::new(&a, 2).unwrap(), Features::new(&b, 2).unwrap()];
        for seed in 0..10 {
            let found = centres(&sets, 3, &mut ChaCha12Rng::seed_from_u64(seed)).unwrap();
            let mut means: Vec<_> = found.chunks(2).map(|centre| (centre[0] as i32, centre[1] as i32)).collect();
            means.sort_unstable();
            assert_eq!(means, [(0, 0), (0, 100), (100, 0)]);
            let clusters = assign(&sets, &found).unwrap();
            assert!(clusters.chunks(4).all(|clump| clump.iter().all(|&cluster| cluster == clump[0])));
        }
    }

    #[test]
    fn equal_rows_make_one_cluster() {
        let values = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0];
        let sets = [Features::new(&values, 2).unwrap()];
        assert_eq!(centres(&sets, 5, &mut ChaCha12Rng::seed_from_u64(0)).unwrap(), [1.0, 2.0]);
    }
}
