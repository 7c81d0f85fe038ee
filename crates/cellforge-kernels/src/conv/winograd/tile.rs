//! The sizes of tiles, and the matrices that belong to each.

/// Points of the largest tile.
pub(super) const MOST: usize = 6;

/// The matrices of one size of tile; beyond its own rows and columns they hold zeros.
pub(super) struct Matrices {
    /// From a window to points.
    pub bt: [[f32; MOST]; MOST],
    /// From taps to points.
    pub g: [[f32; 3]; MOST],
    /// From points to outputs.
    pub at: [[f32; MOST]; 4],
}

/// The tile with `M` outputs a side.
pub(super) struct Tile<const M: usize>;

impl<const M: usize> Tile<M> {
    /// Points a side.
    pub const A: usize = M + 2;
    pub const MATRICES: Matrices = matrices(M);

    /// What each tap of a kernel, turned by 180 degrees or not, contributes to each point.
    pub fn factors(turned: bool) -> Vec<[f32; 9]> {
        let g = Self::MATRICES.g;
        let factor = |point: usize, tap: usize| {
            let tap = if turned { 8 - tap } else { tap };
            g[point / Self::A][tap / 3] * g[point % Self::A][tap % 3]
        };
        (0..Self::A * Self::A).map(|point| std::array::from_fn(|tap| factor(point, tap))).collect()
    }
}

/// The Toom-Cook matrices for `m` outputs: the points are the first of `0, 1, -1, -1/2` (or `1/2` and `-2`), and infinity. For
/// random numbers the root mean square error is 1.5 times that of plain sums for `m = 2` and 6 times for 3 and 4.
const fn matrices(m: usize) -> Matrices {
    let points: [f64; MOST - 1] = if m == 4 { [0., 1., -1., 0.5, -2.] } else { [0., 1., -1., -0.5, 0.] };
    let finite = m + 1;
    let (mut bt, mut g, mut at) = ([[0f32; MOST]; MOST], [[0f32; 3]; MOST], [[0f32; MOST]; 4]);
    let mut row = 0;
    // The last row, of infinity, is the product of all factors (x - point).
    while row <= finite {
        let mut poly = [0f64; MOST + 1];
        poly[0] = 1.;
        let mut scale = 1f64;
        let mut k = 0;
        while k < finite {
            if k != row {
                let mut i = MOST;
                while i > 0 {
                    poly[i] = poly[i - 1] - points[k] * poly[i];
                    i -= 1;
                }
                poly[0] *= -points[k];
                if row < finite {
                    scale *= points[row] - points[k];
                }
            }
            k += 1;
        }
        let mut i = 0;
        while i < MOST {
            bt[row][i] = poly[i] as f32;
            i += 1;
        }
        let mut power = 1f64;
        let mut i = 0;
        while row < finite && i < 4 {
            if i < 3 {
                g[row][i] = (power / scale) as f32;
            }
            if i < m {
                at[i][row] = power as f32;
            }
            power *= points[row];
            i += 1;
        }
        row += 1;
    }
    g[finite][2] = 1.;
    at[m - 1][finite] = 1.;
    Matrices { bt, g, at }
}

/// Outputs a side of the tiles with which a grid takes the fewest products.
pub(super) fn best_tile((h, w): (usize, usize)) -> usize {
    let products = |m: &usize| h.div_ceil(*m) * w.div_ceil(*m) * (m + 2) * (m + 2);
    [2, 3, 4].into_iter().min_by_key(products).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transforms give the outputs of the filter, on numbers that make every product exact.
    #[test]
    fn one_row_of_each_tile() {
        let taps = [3f64, -1., 2.];
        for m in [2, 3, 4] {
            let Matrices { bt, g, at } = matrices(m);
            let xs: Vec<f64> = (0..m + 2).map(|i| (i * i) as f64 - 3.).collect();
            let points: Vec<f64> = (0..m + 2)
                .map(|p| {
                    let weight: f64 = (0..3).map(|t| f64::from(g[p][t]) * taps[t]).sum();
                    weight * (0..m + 2).map(|i| f64::from(bt[p][i]) * xs[i]).sum::<f64>()
                })
                .collect();
            for i in 0..m {
                let got: f64 = (0..m + 2).map(|p| f64::from(at[i][p]) * points[p]).sum();
                let want: f64 = (0..3).map(|t| taps[t] * xs[i + t]).sum();
                assert!((got - want).abs() < 1e-5, "m = {m}, output {i}: {got}, expected {want}");
            }
        }
    }

    #[test]
    fn tiles_that_waste_little() {
        assert_eq!([best_tile((9, 9)), best_tile((8, 8)), best_tile((6, 6)), best_tile((2, 2))], [3, 4, 3, 2]);
    }
}
