//! The red cell: outline, colour, pallor, texture and stain artefacts.

use std::f32::consts::{PI, TAU};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::parasite::{self, Blob};
use crate::rng::keyed;

/// A drawn cell of a phantom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `side * side * 3` bytes, row by row; black outside of the cell.
    pub rgb: Vec<u8>,
    /// `side * side` bytes: 255 where a parasite is, else 0. All 0 for an uninfected cell.
    pub mask: Vec<u8>,
}

pub(super) type Rgb = [f32; 3];

/// Typical colours of stained red cells, from salmon over pink and mauve to a bluish grey, with how often each occurs.
const STAINS: [(Rgb, f32); 8] = [
    ([0.90, 0.66, 0.58], 4.0),
    ([0.87, 0.60, 0.62], 4.0),
    ([0.78, 0.62, 0.69], 2.0),
    ([0.77, 0.75, 0.81], 3.0),
    ([0.70, 0.73, 0.80], 2.0),
    ([0.83, 0.47, 0.64], 1.5),
    ([0.65, 0.56, 0.78], 1.0),
    ([0.78, 0.69, 0.64], 1.5),
];

/// What the cells of one patient have in common: how the smear was stained and photographed.
struct Smear {
    stain: Rgb,
    chromatin: Rgb,
    pallor: f32,
    pallor_radius: f32,
    wobble: f32,
    grain: f32,
}

impl Smear {
    fn of(seed: u64, patient: u64) -> Self {
        let mut rng = keyed("phantom smear", &[seed, patient]);
        let total: f32 = STAINS.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random_range(0.0..total);
        let mut stain = STAINS[0].0;
        for (colour, weight) in STAINS {
            stain = colour;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        let light = rng.random_range(0.93f32..1.06);
        Self {
            stain: stain.map(|c| (c * light + rng.random_range(-0.03..0.03)).clamp(0.0, 0.97)),
            chromatin: [
                rng.random_range(0.42f32..0.68),
                rng.random_range(0.10f32..0.24),
                rng.random_range(0.42f32..0.60),
            ],
            pallor: rng.random_range(0.0f32..0.10),
            pallor_radius: rng.random_range(0.25f32..0.5),
            wobble: rng.random_range(0.4f32..1.4),
            grain: rng.random_range(0.006f32..0.016),
        }
    }
}

/// The closed curve around a cell, in coordinates where the crop is [-1, 1] on both axes.
struct Outline {
    /// Radius at equally spaced angles.
    radii: [f32; Self::STEPS],
    centre: [f32; 2],
    scale: f32,
    bite: Option<([f32; 2], f32)>,
}

impl Outline {
    const STEPS: usize = 96;

    fn new(wobble: f32, rng: &mut ChaCha12Rng) -> Self {
        let stretch = rng.random_range(0.0f32..0.09) * wobble;
        let turn = rng.random_range(0.0..TAU);
        let waves: Vec<(f32, f32, f32)> = (3..9)
            .map(|k| {
                let size = rng.random_range(0.0f32..0.045) * wobble * 3.0 / k as f32;
                (k as f32, size, rng.random_range(0.0..TAU))
            })
            .collect();
        let ragged = if rng.random_bool(0.18) { rng.random_range(0.01f32..0.035) } else { 0.004 };
        let mut radii = [0.0; Self::STEPS];
        for (i, radius) in radii.iter_mut().enumerate() {
            let angle = i as f32 / Self::STEPS as f32 * TAU;
            let waves: f32 = waves.iter().map(|(k, size, phase)| size * (k * angle + phase).sin()).sum();
            *radius = 1.0 + stretch * (2.0 * (angle - turn)).cos() + waves + rng.random_range(-ragged..ragged);
        }
        // The crops of the NIH set are bounding boxes: the cell touches the border, so it is scaled to do so.
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for (i, radius) in radii.iter().enumerate() {
            let (sin, cos) = (i as f32 / Self::STEPS as f32 * TAU).sin_cos();
            for (axis, value) in [radius * cos, radius * sin].into_iter().enumerate() {
                low[axis] = low[axis].min(value);
                high[axis] = high[axis].max(value);
            }
        }
        let scale = ((high[0] - low[0]).max(high[1] - low[1]) / 2.0) / 0.98;
        let bite = rng.random_bool(0.07).then(|| {
            let angle = rng.random_range(0.0..TAU);
            ([angle.cos(), angle.sin()], rng.random_range(0.2f32..0.45))
        });
        Self { radii, centre: [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0], scale, bite }
    }

    /// Distance from the cell's centre as a fraction of the outline's radius: below 1 inside.
    fn depth(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (x * self.scale + self.centre[0], y * self.scale + self.centre[1]);
        if let Some((at, radius)) = self.bite
            && (x - at[0]).hypot(y - at[1]) < radius
        {
            return 2.0;
        }
        let turn = (y.atan2(x) / TAU).rem_euclid(1.0) * Self::STEPS as f32;
        let (i, part) = (turn as usize % Self::STEPS, turn.fract());
        let radius = self.radii[i] * (1.0 - part) + self.radii[(i + 1) % Self::STEPS] * part;
        x.hypot(y) / radius
    }
}

/// Smooth random numbers on a coarse lattice, in about [-1, 1].
struct Texture([[f32; Self::CELLS]; Self::CELLS]);

impl Texture {
    const CELLS: usize = 9;

    fn new(rng: &mut ChaCha12Rng) -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| rng.random_range(-1.0..1.0))))
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let place = |v: f32| {
            let v = (v + 1.0) / 2.0 * (Self::CELLS - 2) as f32;
            let i = (v as usize).min(Self::CELLS - 2);
            let part = v - i as f32;
            (i, part * part * (3.0 - 2.0 * part))
        };
        let ((i, fy), (j, fx)) = (place(y), place(x));
        let row = |i: usize| self.0[i][j] * (1.0 - fx) + self.0[i][j + 1] * fx;
        row(i) * (1.0 - fy) + row(i + 1) * fy
    }
}

/// Stain artefacts of an uninfected cell: specks of stain or dust, a platelet at the rim, a bright bubble. Some look
/// much like a parasite's chromatin, but none has a ring's or a trophozoite's form.
fn artefacts(smear: &Smear, rng: &mut ChaCha12Rng) -> Vec<Blob> {
    let mut blobs = Vec::new();
    if rng.random_bool(0.22) {
        let (x, y) = parasite::place(0.85, rng);
        let colour = match rng.random_range(0..4) {
            0 => [0.45, 0.42, 0.60],
            1 => [0.35, 0.30, 0.33],
            2 => smear.chromatin.map(|c| c + 0.2),
            _ => [0.97, 0.95, 0.93],
        };
        for _ in 0..rng.random_range(1..3) {
            let (dx, dy) = (rng.random_range(-0.1f32..0.1), rng.random_range(-0.1f32..0.1));
            let strength = rng.random_range(0.35f32..0.8);
            blobs.push(Blob::disc(x + dx, y + dy, rng.random_range(0.03f32..0.08), 0.06, colour, strength, false));
        }
    }
    blobs
}

/// Draws one cell; see [`super::render_cell`].
pub(super) fn draw(side: usize, seed: u64, class: u32, patient: u64, index: u64) -> Cell {
    let smear = Smear::of(seed, patient);
    let mut rng = keyed("phantom cell", &[seed, u64::from(class), patient, index]);
    let outline = Outline::new(smear.wobble, &mut rng);
    let texture = Texture::new(&mut rng);
    let jitter = rng.random_range(-0.035f32..0.035);
    let stain = smear.stain.map(|c| c + jitter + rng.random_range(-0.012f32..0.012));
    let pallor = (smear.pallor + rng.random_range(-0.02f32..0.03)).max(0.0);
    let pallor_at = [rng.random_range(-0.12f32..0.12), rng.random_range(-0.12f32..0.12)];
    let light = rng.random_range(0.0..2.0 * PI);
    let blobs =
        if class == 0 { parasite::infect(smear.chromatin, &mut rng) } else { artefacts(&smear, &mut rng) };

    let mut cell = Cell { rgb: vec![0; side * side * 3], mask: vec![0; side * side] };
    for row in 0..side {
        for column in 0..side {
            // Pixel centres of the crop in [-1, 1].
            let at = |i: usize| (2 * i + 1) as f32 / side as f32 - 1.0;
            let (x, y) = (at(column), at(row));
            let grain: f32 = rng.random_range(-1.0f32..1.0) + rng.random_range(-1.0f32..1.0);
            let depth = outline.depth(x, y);
            if depth >= 1.0 {
                continue;
            }
            // A biconcave disc is thinner in its middle (pallor) and seems darker where it curves away at the rim.
            let middle = (x - pallor_at[0]).hypot(y - pallor_at[1]) / smear.pallor_radius;
            let shade = pallor * (-middle * middle).exp() - 0.10 * depth.powi(6)
                + 0.02 * (x * light.cos() + y * light.sin())
                + 0.022 * texture.at(x, y)
                + smear.grain * grain;
            let mut colour = stain.map(|c| c + shade);
            let mut parasite = false;
            for blob in &blobs {
                let cover = blob.cover(x, y);
                if cover > 0.0 {
                    for (c, paint) in colour.iter_mut().zip(blob.colour) {
                        *c += (paint + shade * 0.5 - *c) * cover;
                    }
                    parasite |= blob.parasite && cover > 0.35;
                }
            }
            let i = row * side + column;
            for (byte, c) in cell.rgb[i * 3..].iter_mut().zip(colour) {
                // Never pure black inside the cell: black means outside.
                *byte = (c * 255.0).round().clamp(8.0, 255.0) as u8;
            }
            cell.mask[i] = if parasite { 255 } else { 0 };
        }
    }
    cell
}
