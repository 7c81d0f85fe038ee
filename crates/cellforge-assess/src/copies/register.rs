//! Lays one image on another as well as an affine map and a change of colours can.

use cellforge_data::ImageSize;

use super::coarse::{disc, read};

/// Parameters of the map.
const MAP: usize = 6;

/// How well an image fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// Root of the mean squared difference that is left, over the image's own spread; 0 is a copy, 1 no likeness.
    pub(super) residual: f32,
    /// The map that fits best.
    pub(super) map: Map,
}

/// Where a point of the image lies in the reference: rows and columns of the matrix, then the shift in pixels, from the middle.
pub(super) type Map = [f32; MAP];

/// A turn by `angle` of an image that was mirrored before, if it was.
pub(super) fn turn(angle: f32, mirrored: bool) -> Map {
    let (sin, cos) = angle.sin_cos();
    // The query was read at R(angle) M p; so its point p lies at M R(-angle) p in the reference.
    let m = if mirrored { -1.0 } else { 1.0 };
    [cos, sin, -sin * m, cos * m, 0.0, 0.0]
}

/// Lays images of one size on each other, in a disc.
pub(super) struct Register {
    size: ImageSize,
    channels: usize,
    points: Vec<[f32; 2]>,
    rounds: usize,
}

/// An image, read at the points of the disc: one channel after the other.
pub(super) struct Sampled {
    values: Vec<f32>,
    spread: f32,
}

impl Register {
    /// For images `(height, width, channels)`, read at so many points along the diameter.
    pub(super) fn new(size: ImageSize, channels: usize, samples: usize, rounds: usize) -> Self {
        Self { size, channels, points: disc(size, samples, 0.95), rounds }
    }

    pub(super) fn sample(&self, image: &[f32]) -> Sampled {
        let mut values = Vec::with_capacity(self.points.len() * self.channels);
        let mut spread = 0.0;
        for channel in 0..self.channels {
            let plane: Vec<f32> = image[channel..].iter().step_by(self.channels).copied().collect();
            let from = values.len();
            values.extend(self.points.iter().map(|&[y, x]| read(&plane, self.size, y, x)));
            let own = &values[from..];
            let mean = own.iter().sum::<f32>() / own.len() as f32;
            spread += own.iter().map(|value| (value - mean).powi(2)).sum::<f32>();
        }
        Sampled { values, spread }
    }

    /// Fits `reference`, read through a map that starts as `map`, to an image.
    pub(super) fn fit(&self, image: &Sampled, reference: &[f32], mut map: Map) -> Fit {
        if image.spread <= 1e-6 {
            return Fit { residual: 1.0, map };
        }
        let mut best = Fit { residual: f32::INFINITY, map };
        let mut damping = 1e-3_f32;
        for _ in 0..self.rounds {
            let (error, hessian, slope) = self.normal(&image.values, reference, &map);
            let residual = (error / image.spread).sqrt();
            if residual < best.residual {
                let gain = best.residual - residual;
                best = Fit { residual, map };
                damping = (damping * 0.3).max(1e-5);
                if gain < 1e-4 {
                    break;
                }
            } else {
                damping *= 10.0;
                map = best.map;
                if damping > 10.0 {
                    break;
                }
            }
            let Some(step) = solve(hessian, slope, damping) else { break };
            let limit = self.size.shorter() as f32 / 8.0;
            let limits = [0.2, 0.2, 0.2, 0.2, limit, limit];
            map = std::array::from_fn(|i| map[i] + step[i].clamp(-limits[i], limits[i]));
            let det = map[0] * map[3] - map[1] * map[2];
            if !(0.4..=2.5).contains(&det.abs()) {
                break;
            }
        }
        best
    }

    /// The squared error after the best change of colours, and the normal equations of the map with that change taken out.
    fn normal(&self, image: &[f32], reference: &[f32], map: &Map) -> (f32, [[f32; MAP]; MAP], [f32; MAP]) {
        let (ImageSize { height, width }, channels) = (self.size, self.channels);
        let [last_y, last_x] = [height, width].map(|side| side as f32 - 1.0);
        let (half_y, half_x) = (last_y / 2.0, last_x / 2.0);
        let n = self.points.len();
        let (mut hessian, mut slope, mut error) = ([[0.0_f32; MAP]; MAP], [0.0_f32; MAP], 0.0);
        // Value and gradient of the reference at each point, for one channel after the other.
        let mut values = vec![[0.0_f32; 4]; n];
        for c in 0..channels {
            let (mut sum_r, mut sum_i, mut sum_rr, mut sum_ri, mut sum_ii) = (0.0, 0.0, 0.0, 0.0, 0.0);
            let own = &image[c * n..][..n];
            for ((value, &[py, px]), &i) in values.iter_mut().zip(&self.points).zip(own) {
                let y = (map[0] * py + map[1] * px + map[4] + half_y).clamp(0.0, last_y);
                let x = (map[2] * py + map[3] * px + map[5] + half_x).clamp(0.0, last_x);
                let (y0, x0) = ((y as usize).min(height - 2), (x as usize).min(width - 2));
                let (fy, fx) = (y - y0 as f32, x - x0 as f32);
                let at = |y: usize, x: usize| reference[(y * width + x) * channels + c];
                let (a, b, d, e) = (at(y0, x0), at(y0, x0 + 1), at(y0 + 1, x0), at(y0 + 1, x0 + 1));
                let (top, bottom) = (a + fx * (b - a), d + fx * (e - d));
                let r = top + fy * (bottom - top);
                *value = [r, bottom - top, (b - a) + fy * ((e - d) - (b - a)), i];
                sum_r += r;
                sum_i += i;
                sum_rr += r * r;
                sum_ri += r * i;
                sum_ii += i * i;
            }
            let k = n as f32;
            let (vr, vri, vii) = (sum_rr - sum_r * sum_r / k, sum_ri - sum_r * sum_i / k, sum_ii - sum_i * sum_i / k);
            // A change of colours keeps the order of grey levels, and does not flatten the reference.
            let gain = if vr > 1e-9 { (vri / vr).clamp(0.25, 4.0) } else { 0.0 };
            error += (vii - 2.0 * gain * vri + gain * gain * vr).max(0.0);
            let (mean_r, mean_i) = (sum_r / k, sum_i / k);
            // Jacobian rows with the mean and the reference's own direction projected out (variable projection).
            let mut mean_j = [0.0_f32; MAP];
            let mut dot_j = [0.0_f32; MAP];
            let jacobian = |value: &[f32; 4], [py, px]: [f32; 2]| -> [f32; MAP] {
                let (gy, gx) = (gain * value[1], gain * value[2]);
                [gy * py, gy * px, gx * py, gx * px, gy, gx]
            };
            for (value, &point) in values.iter().zip(&self.points) {
                let j = jacobian(value, point);
                for a in 0..MAP {
                    mean_j[a] += j[a] / k;
                    dot_j[a] += j[a] * (value[0] - mean_r);
                }
            }
            let along = dot_j.map(|dot| if vr > 1e-9 { dot / vr } else { 0.0 });
            for (value, &point) in values.iter().zip(&self.points) {
                let centred = value[0] - mean_r;
                let rest = (value[3] - mean_i) - gain * centred;
                let j = jacobian(value, point);
                let j: [f32; MAP] = std::array::from_fn(|a| j[a] - mean_j[a] - along[a] * centred);
                for a in 0..MAP {
                    slope[a] += j[a] * rest;
                    for b in 0..MAP {
                        hessian[a][b] += j[a] * j[b];
                    }
                }
            }
        }
        (error, hessian, slope)
    }
}

/// Solves the damped normal equations by Cholesky's method; None where they have no solution.
fn solve(mut h: [[f32; MAP]; MAP], slope: [f32; MAP], damping: f32) -> Option<[f32; MAP]> {
    for (a, row) in h.iter_mut().enumerate() {
        row[a] = row[a] * (1.0 + damping) + 1e-9;
    }
    let mut l = [[0.0_f64; MAP]; MAP];
    for i in 0..MAP {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| l[i][k] * l[j][k]).sum();
            let left = f64::from(h[i][j]) - sum;
            if i == j {
                if left <= 0.0 {
                    return None;
                }
                l[i][i] = left.sqrt();
            } else {
                l[i][j] = left / l[j][j];
            }
        }
    }
    let mut y = [0.0_f64; MAP];
    for i in 0..MAP {
        let sum: f64 = (0..i).map(|k| l[i][k] * y[k]).sum();
        y[i] = (f64::from(slope[i]) - sum) / l[i][i];
    }
    let mut x = [0.0_f64; MAP];
    for i in (0..MAP).rev() {
        let sum: f64 = (i + 1..MAP).map(|k| l[k][i] * x[k]).sum();
        x[i] = (y[i] - sum) / l[i][i];
    }
    Some(x.map(|value| value as f32))
}
