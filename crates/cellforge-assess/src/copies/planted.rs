//! Copies of training images, made on purpose: what is looked for, and how well it is found.

use std::collections::BTreeMap;

use cellforge_data::{ImageSize, View, ViewParts, derive_seed};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::coarse::{halves, read};
use crate::{Result, numeric::blur};

/// How a training image is changed before it is looked for. Each kind but the first has noise of up to two grey levels as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not at all but for noise of up to one grey level.
    Plain,
    /// Noise of up to eight grey levels.
    Noised,
    /// Enlarged by 5 to 25% and shifted by up to 5% of the side.
    Cropped,
    /// Turned by any angle, half of them mirrored.
    Turned,
    /// Each channel brighter or darker by up to 15%.
    Recoloured,
    /// Blurred, with a standard deviation of 2 to 4% of the side.
    Blurred,
    /// Cropped, turned and recoloured.
    Together,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Plain, Self::Noised, Self::Cropped, Self::Turned, Self::Recoloured, Self::Blurred, Self::Together];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Noised => "noised",
            Self::Cropped => "cropped",
            Self::Turned => "turned",
            Self::Recoloured => "recoloured",
            Self::Blurred => "blurred",
            Self::Together => "cropped, turned and recoloured",
        }
    }

    fn change(self, rng: &mut ChaCha8Rng, channels: usize) -> Change {
        let mut change = Change { noise: 2.0, ..Change::none(channels) };
        let all = self == Self::Together;
        match self {
            Self::Plain => change.noise = 1.0,
            Self::Noised => change.noise = 8.0,
            Self::Blurred => change.blur = rng.random_range(0.02..0.04),
            _ => {}
        }
        if all || self == Self::Cropped {
            change.zoom = rng.random_range(0.8..0.95);
            change.shift = [(); 2].map(|()| rng.random_range(-0.05..0.05));
        }
        if all || self == Self::Turned {
            change.angle = rng.random_range(0.0..std::f32::consts::TAU);
            change.mirrored = rng.random();
        }
        if all || self == Self::Recoloured {
            change.gains.iter_mut().for_each(|gain| *gain = rng.random_range(0.85..1.15));
        }
        change
    }
}

struct Change {
    angle: f32,
    mirrored: bool,
    zoom: f32,
    /// In shorter sides.
    shift: [f32; 2],
    gains: Vec<f32>,
    /// Standard deviation, in shorter sides; 0 blurs nothing.
    blur: f32,
    /// In grey levels, either way.
    noise: f32,
}

impl Change {
    fn none(channels: usize) -> Self {
        Self {
            angle: 0.0,
            mirrored: false,
            zoom: 1.0,
            shift: [0.0; 2],
            gains: vec![1.0; channels],
            blur: 0.0,
            noise: 0.0,
        }
    }

    fn apply(&self, image: &[u8], size: ImageSize, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let channels = self.gains.len();
        let [half_y, half_x] = halves(size);
        let shorter = size.shorter() as f32;
        let (sin, cos) = self.angle.sin_cos();
        let plane = |channel: usize| -> Vec<f32> {
            let plane: Vec<f32> = image[channel..].iter().step_by(channels).map(|&value| f32::from(value)).collect();
            if self.blur > 0.0 { blur(&plane, size, 1, self.blur * shorter) } else { plane }
        };
        let planes: Vec<Vec<f32>> = (0..channels).map(plane).collect();
        let mut out = Vec::with_capacity(image.len());
        for y in 0..size.height {
            for x in 0..size.width {
                let (y, x) = (y as f32 - half_y, (x as f32 - half_x) * if self.mirrored { -1.0 } else { 1.0 });
                let [dy, dx] = self.shift.map(|shift| shift * shorter);
                let (y, x) = (self.zoom * (cos * y - sin * x) + dy, self.zoom * (sin * y + cos * x) + dx);
                for (plane, gain) in planes.iter().zip(&self.gains) {
                    let value = gain * read(plane, size, y, x) + rng.random_range(-self.noise..=self.noise);
                    out.push((value + 0.5).clamp(0.0, 255.0) as u8);
                }
            }
        }
        out
    }
}

/// Copies of one kind, each of another training image.
pub(super) struct Planted {
    pub(super) images: View,
    /// The training image that each is of.
    pub(super) of: Vec<usize>,
}

/// At most `number` of the rows, of the units in turn: each has as many as the others, as far as it has rows. In their old order.
pub(super) fn in_turn(rows: &[usize], units: &[usize], number: usize, seed: u64) -> Vec<usize> {
    let mut order = rows.to_vec();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut seen = BTreeMap::new();
    let mut turns: Vec<(usize, usize)> = order
        .into_iter()
        .map(|row| {
            let turn = seen.entry(units[row]).or_insert(0_usize);
            *turn += 1;
            (*turn, row)
        })
        .collect();
    // The sort is stable: who comes first in a turn is drawn by lot.
    turns.sort_by_key(|&(turn, _)| turn);
    let mut kept: Vec<usize> = turns.into_iter().take(number).map(|(_, row)| row).collect();
    kept.sort_unstable();
    kept
}

/// Copies of one unit: enough to tell how many of one patient's are found.
const OF_A_UNIT: usize = 10;

/// `number` copies of training images, ten of each of some units drawn by lot (as far as a unit has images), all changed at random.
pub(super) fn plant(training: &View, units: &[usize], kind: Kind, number: usize, seed: u64) -> Result<Planted> {
    let seed = derive_seed(seed, kind.name());
    let mut order: Vec<usize> = (0..training.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut by_unit: Vec<Vec<usize>> = Vec::new();
    let mut places = BTreeMap::new();
    for i in order {
        let place = *places.entry(units[i]).or_insert(by_unit.len());
        if place == by_unit.len() {
            by_unit.push(Vec::new());
        }
        if by_unit[place].len() < OF_A_UNIT {
            by_unit[place].push(i);
        }
    }
    let mut of: Vec<usize> = by_unit.into_iter().flatten().take(number).collect();
    of.sort_unstable();
    let (size, channels) = (training.size(), training.channels());
    let pixels: Vec<Vec<u8>> = of
        .par_iter()
        .map(|&i| {
            let mut rng = ChaCha8Rng::seed_from_u64(derive_seed(seed, &i.to_string()));
            kind.change(&mut rng, channels).apply(training.image(i), size, &mut rng)
        })
        .collect();
    let images = View::new(ViewParts { size, channels, pixels: pixels.concat(), ..ViewParts::default() })?;
    Ok(Planted { images, of })
}
