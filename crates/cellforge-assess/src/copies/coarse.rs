//! The images that may be copies of one another: turned, mirrored and recoloured ones are near here.

use cellforge_data::ImageSize;
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::prepare::Small;
use super::register::{Map, turn};

/// Samples along the diameter of the disc that is compared.
pub(super) const SAMPLES: usize = 15;
/// Radius of the discs that parts are compared in, over that of the whole image's; samples along their diameter; and how far apart they
/// lie, in halves of the shorter side.
const PART: f32 = 0.65;
const PART_SAMPLES: usize = 11;
const APART: f32 = 0.1;
/// How much smaller what is in the middle of an image may be in the reference.
const ZOOMS: [f32; 2] = [0.95, 0.83];
/// References in a block.
const REFS: usize = 512;
/// References that are kept for each query.
pub(super) const KEPT: usize = 128;
/// Radius of a frame over the spread of the texture in it.
const SPREADS: f32 = 1.35;
/// Most of them of one unit.
const OF_A_UNIT: usize = 12;

/// How a query was laid on a reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) reference: usize,
    /// Correlation of the textures in the disc.
    pub(super) score: f32,
    /// Where the query's points lie in the reference.
    pub(super) map: Map,
}

/// A disc of an image: its middle, in pixels from that of the image, and its size, where 1 is that of the image's own disc.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Frame {
    middle: [f32; 2],
    size: f32,
}

impl Frame {
    const WHOLE: Self = Self { middle: [0.0; 2], size: 1.0 };

    /// The disc that what is in the image asks for: around the middle of its texture, as large as the texture spreads. It moves and
    /// grows with what is shown, so that shifted, cropped and enlarged copies have the same one.
    fn of(texture: &[f32], size: ImageSize) -> Self {
        let [half_y, half_x] = halves(size);
        let (mut total, mut sums) = (1e-12_f32, [0.0_f32; 2]);
        let at = |i: usize| [(i / size.width) as f32 - half_y, (i % size.width) as f32 - half_x];
        for (i, value) in texture.iter().enumerate() {
            let weight = value.abs();
            total += weight;
            (0..2).for_each(|axis| sums[axis] += weight * at(i)[axis]);
        }
        let middle = sums.map(|sum| sum / total);
        let spread: f32 = texture
            .iter()
            .enumerate()
            .map(|(i, value)| value.abs() * (0..2).map(|axis| (at(i)[axis] - middle[axis]).powi(2)).sum::<f32>())
            .sum();
        let reach = SPREADS * (spread / total).sqrt() / half_y.min(half_x).max(1.0);
        Self { middle, size: reach.clamp(0.5, 1.3) }
    }

    /// The map from the points of an image with this frame, which was looked at under this angle, to those of one with another frame.
    fn onto(self, other: Self, angle: f32, mirrored: bool) -> Map {
        let by = other.size / self.size;
        let [a, b, c, d, ..] = turn(angle, mirrored).map(|value| value * by);
        let ([y, x], [to_y, to_x]) = (self.middle, other.middle);
        [a, b, c, d, to_y - a * y - b * x, to_x - c * y - d * x]
    }
}

/// The middle of an image, in pixels from its first.
pub(super) fn halves(size: ImageSize) -> [f32; 2] {
    [size.height, size.width].map(|side| (side as f32 - 1.0) / 2.0)
}

/// Points of a disc of radius `reach` (1 is half of the shorter side) around the middle, in pixels from it.
pub(super) fn disc(size: ImageSize, samples: usize, reach: f32) -> Vec<[f32; 2]> {
    let step = 2.0 * reach / (samples - 1) as f32;
    let at = |i: usize| -reach + step * i as f32;
    let half = (size.shorter() as f32 - 1.0) / 2.0;
    let points = (0..samples * samples).map(|i| [at(i / samples), at(i % samples)]);
    points.filter(|[y, x]| y * y + x * x <= reach * reach * 1.0001).map(|point| point.map(|p| p * half)).collect()
}

/// Reads between pixels, with repeated edges; `y` and `x` are in pixels from the middle.
pub(super) fn read(plane: &[f32], size: ImageSize, y: f32, x: f32) -> f32 {
    let ImageSize { height, width } = size;
    let [half_y, half_x] = halves(size);
    let (y, x) = ((y + half_y).clamp(0.0, height as f32 - 1.0), (x + half_x).clamp(0.0, width as f32 - 1.0));
    let (y0, x0) = (y as usize, x as usize);
    let (y1, x1) = ((y0 + 1).min(height - 1), (x0 + 1).min(width - 1));
    let (fy, fx) = (y - y0 as f32, x - x0 as f32);
    let row = |y: usize| plane[y * width + x0] + fx * (plane[y * width + x1] - plane[y * width + x0]);
    row(y0) + fy * (row(y1) - row(y0))
}

/// Brings a row to mean 0 and length 1; one that is the same everywhere becomes 0.
pub(super) fn standardise(row: &mut [f32]) {
    let mean = row.iter().sum::<f32>() / row.len() as f32;
    row.iter_mut().for_each(|value| *value -= mean);
    let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    let by = if norm > 1e-4 { 1.0 / norm } else { 0.0 };
    row.iter_mut().for_each(|value| *value *= by);
}

/// One way of looking for what is alike: discs of the image, each against discs of every reference.
struct Pass {
    /// Points of a disc, in pixels from its middle.
    points: Vec<[f32; 2]>,
    /// Angles at which an image is looked at.
    angles: usize,
    /// Where the discs of the references lie, so many of each.
    frames: Vec<Frame>,
    of_each: usize,
    /// Their standardised textures, a row each.
    rows: Vec<f32>,
}

/// The references to be searched.
pub(super) struct Coarse {
    /// The whole image on whole references; what it shows on what they show; its middle on parts of them.
    passes: [Pass; 3],
    size: ImageSize,
}

impl Coarse {
    pub(super) fn new(refs: &Small) -> Self {
        let size = refs.size;
        let shown: Vec<Frame> = (0..refs.len()).into_par_iter().map(|i| Frame::of(refs.texture(i), size)).collect();
        let half = (size.shorter() as f32 - 1.0) / 2.0;
        let parts = (0..9).map(|i| [i / 3, i % 3].map(|at| (at as f32 - 1.0) * APART * half));
        let parts: Vec<Frame> = parts.map(|middle| Frame { middle, size: PART }).collect();
        let all = |frames: &[Frame]| (0..refs.len()).flat_map(|_| frames.iter().copied()).collect::<Vec<_>>();
        let pass = |samples, angles, frames: Vec<Frame>| {
            let points = disc(size, samples, 0.95);
            let of_each = frames.len() / refs.len();
            let rows = (0..frames.len()).into_par_iter().flat_map_iter(|i| {
                let mut out = Vec::with_capacity(points.len());
                row(refs.texture(i / of_each), size, &points, frames[i], (0.0, false), &mut out);
                out
            });
            Pass { rows: rows.collect(), points, angles, frames, of_each }
        };
        let passes =
            [pass(SAMPLES, 48, all(&[Frame::WHOLE])), pass(SAMPLES, 48, shown), pass(PART_SAMPLES, 24, all(&parts))];
        Self { passes, size }
    }

    /// The references that look most like an image, whose texture this is, at any angle and mirrored or not, in each of the ways. `unit`
    /// says whose each reference is; those of unit `own` are left out.
    pub(super) fn search(&self, texture: &[f32], unit: &[u32], own: Option<u32>) -> Vec<Candidate> {
        let [whole, shown, parts] = &self.passes;
        let mut found = whole.search(texture, self.size, &[Frame::WHOLE], unit, own);
        found.extend(shown.search(texture, self.size, &[Frame::of(texture, self.size)], unit, own));
        let middles = ZOOMS.map(|zoom| Frame { size: PART / zoom, ..Frame::WHOLE });
        found.extend(parts.search(texture, self.size, &middles, unit, own));
        found
    }
}

/// The texture in a frame, turned by an angle, mirrored first if asked for, as a standardised row.
fn row(
    texture: &[f32],
    size: ImageSize,
    points: &[[f32; 2]],
    frame: Frame,
    (angle, mirrored): (f32, bool),
    out: &mut Vec<f32>,
) {
    let (sin, cos) = angle.sin_cos();
    let from = out.len();
    let [middle_y, middle_x] = frame.middle;
    for &[y, x] in points {
        let (y, x) = (frame.size * y, frame.size * if mirrored { -x } else { x });
        out.push(read(texture, size, cos * y - sin * x + middle_y, sin * y + cos * x + middle_x));
    }
    standardise(&mut out[from..]);
}

impl Pass {
    fn search(
        &self,
        texture: &[f32],
        size: ImageSize,
        frames: &[Frame],
        unit: &[u32],
        own: Option<u32>,
    ) -> Vec<Candidate> {
        let dims = self.points.len();
        let turns = (0..2 * self.angles)
            .map(|look| (std::f32::consts::TAU * (look / 2) as f32 / self.angles as f32, look % 2 == 1));
        let looks: Vec<(Frame, f32, bool)> =
            turns.flat_map(|(angle, mirrored)| frames.iter().map(move |&frame| (frame, angle, mirrored))).collect();
        let mut queries = Vec::with_capacity(looks.len() * dims);
        for &(frame, angle, mirrored) in &looks {
            row(texture, size, &self.points, frame, (angle, mirrored), &mut queries);
        }
        let mut products = vec![0.0_f32; looks.len() * REFS];
        let mut tops = vec![0.0_f32; REFS];
        let mut best: Vec<Candidate> = Vec::new();
        let mut worst = f32::NEG_INFINITY;
        for (block, rows) in self.rows.chunks(REFS * dims).enumerate() {
            let width = rows.len() / dims;
            let products = &mut products[..looks.len() * width];
            matmul(
                MatMut::from_row_major_slice_mut(products, looks.len(), width),
                Accum::Replace,
                MatRef::from_row_major_slice(&queries, looks.len(), dims),
                MatRef::from_row_major_slice(rows, width, dims).transpose(),
                1.0,
                Par::Seq,
            );
            tops[..width].fill(f32::NEG_INFINITY);
            for line in products.chunks(width) {
                tops.iter_mut().zip(line).for_each(|(top, &value)| *top = top.max(value));
            }
            for (j, &score) in tops[..width].iter().enumerate() {
                let place = block * REFS + j;
                let reference = place / self.of_each;
                if score <= worst || own == Some(unit[reference]) {
                    continue;
                }
                let look = (0..looks.len()).find(|look| products[look * width + j] == score).unwrap_or(0);
                let (frame, angle, mirrored) = looks[look];
                let map = frame.onto(self.frames[place], angle, mirrored);
                keep(&mut best, Candidate { reference, score, map }, unit);
                if best.len() == KEPT {
                    worst = best[KEPT - 1].score;
                }
            }
        }
        best
    }
}

/// Keeps the best candidates in order, few of one unit.
fn keep(best: &mut Vec<Candidate>, candidate: Candidate, unit: &[u32]) {
    if let Some(at) = best.iter().position(|c| c.reference == candidate.reference) {
        if best[at].score >= candidate.score {
            return;
        }
        best.remove(at);
    }
    let of = |c: &Candidate| unit[c.reference];
    let same = best.iter().filter(|c| of(c) == of(&candidate)).count();
    if same >= OF_A_UNIT {
        let Some(last) = best.iter().rposition(|c| of(c) == of(&candidate)) else { return };
        if best[last].score >= candidate.score {
            return;
        }
        best.remove(last);
    }
    let place = best.partition_point(|c| c.score >= candidate.score);
    best.insert(place, candidate);
    best.truncate(KEPT);
}
