//! The red cell: outline, colour, pallor, texture and stain artefacts.

use std::f32::consts::{PI, TAU};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::parasite::{self, Blob};
use crate::ImageSize;
use crate::rng::keyed;

/// A drawn cell of a phantom: made up by this program, from no patient, and no evidence about real cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `height * width * 3` bytes, row by row; black outside of the cell.
    pub rgb: Vec<u8>,
    /// `height * width` bytes: 255 where a parasite is, else 0. All 0 for an uninfected cell.
    pub mask: Vec<u8>,
}

pub(super) type Rgb = [f32; 3];

/// Typical colours of red cells in Giemsa-stained smears, from salmon over mauve and lavender to a bluish grey, with how
/// often each occurs.
const STAINS: [(Rgb, f32); 10] = [
    ([0.84, 0.59, 0.57], 4.0),
    ([0.88, 0.63, 0.59], 3.0),
    ([0.80, 0.64, 0.60], 3.0),
    ([0.78, 0.58, 0.61], 3.0),
    ([0.70, 0.66, 0.73], 4.0),
    ([0.67, 0.64, 0.75], 4.0),
    ([0.75, 0.76, 0.80], 3.0),
    ([0.60, 0.58, 0.73], 2.0),
    ([0.78, 0.47, 0.62], 1.5),
    ([0.66, 0.50, 0.72], 1.0),
];

/// What the cells of one patient have in common: how the smear was stained and photographed.
struct Smear {
    stain: Rgb,
    chromatin: Rgb,
    /// How much brighter the cell's thin middle is, how wide that is, and how sharply it ends.
    pallor: f32,
    pallor_radius: f32,
    pallor_power: f32,
    /// Brightness of the outermost rim against the rest: below 0 darker, above 0 a pale fringe of the lens.
    rim: f32,
    /// How far outlines stray from a circle, about 1.
    wobble: f32,
    grain: f32,
    blotches: f32,
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
        let light = rng.random_range(0.94f32..1.05);
        let bluish = stain[2] > stain[1] + 0.05;
        // The paler the middle, the rarer: most smears show little of it.
        let pallor = 0.015 + 0.15 * rng.random_range(0.0f32..1.0).powi(3);
        Self {
            stain: stain.map(|c| (c * light + rng.random_range(-0.02..0.02)).clamp(0.0, 0.95)),
            chromatin: [
                rng.random_range(0.42f32..0.62),
                rng.random_range(0.08f32..0.22),
                rng.random_range(0.44f32..0.60),
            ],
            pallor,
            pallor_radius: rng.random_range(0.22f32..0.5),
            pallor_power: rng.random_range(1.6f32..3.2),
            rim: if bluish { rng.random_range(-0.02f32..0.10) } else { rng.random_range(-0.09f32..0.01) },
            wobble: rng.random_range(0.5f32..1.4),
            grain: rng.random_range(0.002f32..0.006),
            blotches: rng.random_range(0.006f32..0.022),
        }
    }
}

/// The closed curve around a cell, in coordinates where the crop is [-1, 1] on both axes.
pub(super) struct Outline {
    /// Radius at equally spaced angles.
    radii: [f32; Self::STEPS],
    centre: [f32; 2],
    scale: f32,
    /// A neighbour that dents the cell: its centre and radius.
    dent: Option<([f32; 2], f32)>,
}

impl Outline {
    const STEPS: usize = 96;

    pub(super) fn new(wobble: f32, rng: &mut ChaCha12Rng) -> Self {
        let most = if rng.random_bool(0.15) { 0.2 } else { 0.08 };
        let stretch = rng.random_range(0.0f32..most) * wobble;
        let turn = rng.random_range(0.0..TAU);
        let mut waves: Vec<(f32, f32, f32)> = (3..9)
            .map(|k| {
                let size = rng.random_range(0.0f32..0.04) * wobble * 3.0 / k as f32;
                (k as f32, size, rng.random_range(0.0..TAU))
            })
            .collect();
        // Now and then the rim is scalloped (a crenated cell) or drawn out to a point (a teardrop).
        if rng.random_bool(0.05) {
            waves.push((rng.random_range(11..19) as f32, rng.random_range(0.012f32..0.03), rng.random_range(0.0..TAU)));
        }
        let point = if rng.random_bool(0.08) { rng.random_range(0.1f32..0.35) } else { 0.0 };
        let (point_at, point_width) = (rng.random_range(0.0..TAU), rng.random_range(0.15f32..0.4));
        let ragged = if rng.random_bool(0.15) { rng.random_range(0.01f32..0.035) } else { 0.004 };
        let mut radii = [0.0; Self::STEPS];
        for (i, radius) in radii.iter_mut().enumerate() {
            let angle = i as f32 / Self::STEPS as f32 * TAU;
            let waves: f32 = waves.iter().map(|(k, size, phase)| size * (k * angle + phase).sin()).sum();
            let away = ((angle - point_at + PI).rem_euclid(TAU) - PI) / point_width;
            *radius = 1.0
                + stretch * (2.0 * (angle - turn)).cos()
                + waves
                + point * (-away * away).exp()
                + rng.random_range(-ragged..ragged);
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
        let dent = rng.random_bool(0.08).then(|| {
            let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
            let radius = rng.random_range(0.3f32..1.0);
            let away = 1.0 + radius - rng.random_range(0.12f32..0.4);
            ([away * cos, away * sin], radius)
        });
        Self { radii, centre: [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0], scale, dent }
    }

    /// How far from the middle to the rim a place is (1 on the rim), and how far inside of the rim it is in the crop's
    /// coordinates (below 0 outside).
    fn depth(&self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = (x * self.scale + self.centre[0], y * self.scale + self.centre[1]);
        let turn = (y.atan2(x) / TAU).rem_euclid(1.0) * Self::STEPS as f32;
        let (i, part) = (turn as usize % Self::STEPS, turn.fract());
        let radius = self.radii[i] * (1.0 - part) + self.radii[(i + 1) % Self::STEPS] * part;
        let distance = x.hypot(y);
        let mut inside = radius - distance;
        if let Some((at, radius)) = self.dent {
            inside = inside.min((x - at[0]).hypot(y - at[1]) - radius);
        }
        (distance / radius, inside / self.scale)
    }

    /// A random place at most `reach` from the middle of the crop and at least `margin` inside of the rim, uniform over
    /// the area.
    pub(super) fn place(&self, reach: f32, margin: f32, rng: &mut ChaCha12Rng) -> (f32, f32) {
        for _ in 0..32 {
            let (x, y) = parasite::place(reach, rng);
            if self.depth(x, y).1 > margin {
                return (x, y);
            }
        }
        (0.0, 0.0)
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

/// Stain artefacts: specks of stain or dust, a platelet on the rim, a bright bubble. Some are stained as deeply as a
/// parasite's chromatin, so that colour alone does not settle the class, but none has a ring's, a trophozoite's, a
/// schizont's or a gametocyte's form.
fn artefacts(smear: &Smear, outline: &Outline, rng: &mut ChaCha12Rng) -> Vec<Blob> {
    let mut blobs = Vec::new();
    let purple = smear.chromatin.map(|c| c * 0.8 + 0.2);
    match rng.random_range(0..10) {
        // Specks of precipitated stain, most of them near the rim.
        0..5 => {
            let colour = [smear.chromatin, purple, [0.45, 0.42, 0.60]][rng.random_range(0..3)];
            for _ in 0..rng.random_range(1..4) {
                let (x, y) = outline.place(0.95, 0.02, rng);
                let strength = rng.random_range(0.35f32..1.0);
                blobs.push(Blob::disc(x, y, rng.random_range(0.025f32..0.065), 0.05, colour, strength, false));
            }
        }
        // A platelet: pale, grainy, without chromatin.
        5..7 => {
            let (x, y) = outline.place(0.9, 0.03, rng);
            let size = rng.random_range(0.09f32..0.16);
            let colour = [purple[0] + 0.06, purple[1] + 0.22, purple[2] + 0.10];
            blobs.push(Blob::disc(x, y, size, 0.12, colour, rng.random_range(0.4f32..0.65), false));
            for _ in 0..5 {
                let (dx, dy) = parasite::place(size * 0.8, rng);
                blobs.push(Blob::disc(x + dx, y + dy, 0.025, 0.04, smear.chromatin, 0.6, false));
            }
        }
        // A bubble in the stain: bright, often with a thin dark rim.
        7..9 => {
            let (x, y) = outline.place(0.85, 0.05, rng);
            let size = rng.random_range(0.04f32..0.10);
            blobs.push(Blob::disc(x, y, size + 0.03, 0.05, smear.stain.map(|c| c - 0.12), 0.5, false));
            blobs.push(Blob::disc(x, y, size, 0.05, [0.96, 0.94, 0.92], rng.random_range(0.5f32..0.85), false));
        }
        // Dust.
        _ => {
            let (x, y) = outline.place(0.9, 0.02, rng);
            blobs.push(Blob::disc(x, y, rng.random_range(0.03f32..0.06), 0.04, [0.33, 0.29, 0.31], 0.7, false));
        }
    }
    blobs
}

/// Draws one cell; see [`super::render_cell`].
pub(super) fn draw(size: ImageSize, seed: u64, class: u32, patient: u64, index: u64) -> Cell {
    let smear = Smear::of(seed, patient);
    let mut rng = keyed("phantom cell", &[seed, u64::from(class), patient, index]);
    let outline = Outline::new(smear.wobble, &mut rng);
    let texture = Texture::new(&mut rng);
    let jitter = rng.random_range(-0.03f32..0.03);
    let stain = smear.stain.map(|c| c + jitter + rng.random_range(-0.02f32..0.02));
    let pallor = smear.pallor * rng.random_range(0.4f32..1.4);
    let pallor_at = [rng.random_range(-0.12f32..0.12), rng.random_range(-0.12f32..0.12)];
    let pallor_radius = smear.pallor_radius * rng.random_range(0.8f32..1.2);
    let light = rng.random_range(0.0..TAU);
    // An infected cell may have an artefact, too: what tells the classes apart is the parasite alone.
    let spoilt = rng.random_bool(if class == 0 { 0.12 } else { 0.28 });
    let mut blobs = if spoilt { artefacts(&smear, &outline, &mut rng) } else { Vec::new() };
    if class == 0 {
        blobs.extend(parasite::infect(&outline, stain, smear.chromatin, &mut rng));
    }

    let ImageSize { height, width } = size;
    let shorter = size.shorter() as f32;
    let pixel = 2.0 / shorter;
    let mut cell = Cell { rgb: vec![0; size.area() * 3], mask: vec![0; size.area()] };
    for row in 0..height {
        for column in 0..width {
            // Pixel centres of the crop, whose shorter side is [-1, 1].
            let at = |i: usize, side: usize| (i as f32 + 0.5) * pixel - side as f32 / shorter;
            let (x, y) = (at(column, width), at(row, height));
            let grain: f32 = rng.random_range(-1.0f32..1.0) + rng.random_range(-1.0f32..1.0);
            let (depth, inside) = outline.depth(x, y);
            // The part of the pixel that the cell covers.
            let covered = (inside / pixel + 0.5).clamp(0.0, 1.0);
            if covered == 0.0 {
                continue;
            }
            // A biconcave disc is thinner in its middle (pallor); what shows through there is the warm light.
            let middle = (x - pallor_at[0]).hypot(y - pallor_at[1]) / pallor_radius;
            let pale = pallor * (-middle.powf(smear.pallor_power)).exp();
            let shade = smear.rim * smooth((depth - 0.80) / 0.2) - 0.035 * depth.powi(6)
                + 0.02 * (x * light.cos() + y * light.sin())
                + smear.blotches * texture.at(x, y)
                + smear.grain * grain;
            let mut colour =
                [stain[0] + shade + 0.85 * pale, stain[1] + shade * 1.1 + pale, stain[2] + shade * 0.8 + 0.5 * pale];
            let mut parasite = false;
            for blob in &blobs {
                let cover = blob.cover(x, y);
                if cover > 0.0 {
                    for (c, paint) in colour.iter_mut().zip(blob.colour) {
                        *c += (paint + shade * 0.5 - *c) * cover * blob.strength;
                    }
                    parasite |= blob.parasite && cover >= 0.5;
                }
            }
            let i = row * width + column;
            for (byte, c) in cell.rgb[i * 3..].iter_mut().zip(colour) {
                // Never pure black inside the cell: black means outside.
                *byte = (c.clamp(0.03, 1.0) * covered * 255.0).round() as u8;
            }
            cell.mask[i] = if parasite && covered >= 0.5 { 255 } else { 0 };
        }
    }
    cell
}

/// 0 below 0, 1 above 1, smooth between.
pub(super) fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
