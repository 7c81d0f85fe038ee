//! Differentiable augmentation: what both networks see of an image is changed at random, in the same ways for real images and
//! generated ones.

use candle_core::{Result, Tensor};
use cellforge_nn::{Key, ops};
use ops::ImageMap;
use rand::{Rng, RngExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The weights of red, green and blue in a pixel's brightness, as Rec. 601 has them.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];
/// What comes into view where an image is shifted: black.
const BLACK: f32 = -1.0;

/// Random changes of the images a discriminator is shown, real ones and generated ones, with the gradient passed through (DiffAugment,
/// Zhao et al. 2020). The default changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Flips: images are mirrored and turned by right angles, all eight ways alike; those that are not square, the four ways that keep their shape.
    ///
    /// They suit images without an up or down.
    pub flips: bool,
    /// Translation: largest shift along each axis, as a share of the side that it runs along. Black comes into view.
    ///
    /// DiffAugment has 0.125.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub translation: f64,
    /// Cutout: sides of the part that is covered, as a share of the image's.
    ///
    /// DiffAugment has 0.5.
    #[schemars(range(min = 0.0, max = 0.99))]
    pub cutout: f64,
    /// Colour: how much brightness, saturation and contrast change.
    ///
    /// Brightness changes by up to half of this, in a range of 2. Saturation and contrast change by a factor between 1 minus this and 1 plus
    /// this. DiffAugment has 1 for brightness and saturation and 0.5 for contrast, which is too much where colour matters.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub colour: f64,
    /// Probability of each kind of change, for each image.
    ///
    /// With `ada_target` it is the highest probability.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub p: f64,
    /// Adaptive augmentation (ADA): the target for the mean sign of the discriminator's output on real images.
    ///
    /// The probability rises from 0 while the mean sign is above the target, and falls otherwise (StyleGAN2-ADA, Karras et al. 2020). They have
    /// 0.6. As theirs, the probability moves every fourth iteration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 0.99))]
    pub ada_target: Option<f64>,
    /// ADA: number of images over which the probability rises from 0 to 1 at the fastest.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub ada_speed: u64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self { flips: false, translation: 0.0, cutout: 0.0, colour: 0.0, p: 1.0, ada_target: None, ada_speed: 100_000 }
    }
}

impl AugmentConfig {
    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// A message that names the setting and what it may be.
    pub fn validate(&self) -> Result<()> {
        cellforge_settings::check(self, "augment").map_err(candle_core::Error::wrap)?;
        Ok(())
    }

    /// Whether any change is ever made.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.p > 0.0 && (self.flips || self.translation > 0.0 || self.cutout > 0.0 || self.colour > 0.0)
    }

    /// Changes each of the images `(b, channels, height, width)`, of values in `[-1, 1]`, at random; `key` decides how. `chance` is that of
    /// each kind of change.
    ///
    /// # Errors
    /// Images of a shape that cannot be changed.
    pub fn apply(&self, xs: &Tensor, chance: f64, key: &Key) -> Result<Tensor> {
        if !self.is_on() || chance <= 0.0 {
            return Ok(xs.clone());
        }
        let (b, channels, h, w) = xs.dims4()?;
        let map = |image: usize| self.map(&mut key.at(image as u64).rng(), chance, [h, w], channels);
        ops::remap(xs, &(0..b).map(map).collect::<Vec<_>>())
    }

    /// The change of one image. The same numbers are drawn whatever is switched on.
    fn map(&self, rng: &mut impl Rng, chance: f64, sides: [usize; 2], channels: usize) -> ImageMap {
        let mut map = ImageMap { fill: BLACK, ..ImageMap::default() };
        let mut happens = [false; 4];
        for happens in &mut happens {
            *happens = rng.random::<f64>() < chance;
        }
        let (turns, mirrored) = (rng.random_range(0..4u8), rng.random::<bool>());
        if self.flips && happens[0] {
            map.turns = if sides[0] == sides[1] { turns } else { turns & 2 };
            map.mirrored = mirrored;
        }
        let shift: [f64; 2] = [rng.random(), rng.random()];
        if happens[1] {
            for ((to, at), side) in map.shift.iter_mut().zip(shift).zip(sides) {
                let most = (self.translation * side as f64).round();
                *to = ((2.0 * at - 1.0) * (most + 0.5)).round().clamp(-most, most) as isize;
            }
        }
        let corner: [f64; 2] = [rng.random(), rng.random()];
        if happens[2] && self.cutout > 0.0 {
            let [rows, cols] = sides.map(|side| (self.cutout * side as f64).round() as isize);
            // Its middle lies anywhere in the image.
            let middle = |at: f64, side: usize| (at * side as f64) as isize;
            map.hole = [middle(corner[0], sides[0]) - rows / 2, middle(corner[1], sides[1]) - cols / 2, rows, cols];
        }
        let colour: [f32; 3] = [rng.random(), rng.random(), rng.random()];
        if happens[3] && self.colour > 0.0 {
            let [brightness, saturation, contrast] = colour.map(|at| (2.0 * at - 1.0) * self.colour as f32);
            map.colour = recoloured(brightness / 2.0, 1.0 + saturation, 1.0 + contrast, channels);
        }
        map
    }
}

/// Saturation moves colours away from grey of the same brightness, contrast moves them away from 0, the middle of the range.
fn recoloured(brightness: f32, saturation: f32, contrast: f32, channels: usize) -> [[f32; 4]; 3] {
    std::array::from_fn(|to| {
        std::array::from_fn(|from| match from {
            3 => brightness,
            _ if channels == 1 => contrast * f32::from(u8::from(to == from)),
            _ => contrast * (LUMA[from] * (1.0 - saturation) + saturation * f32::from(u8::from(to == from))),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn full() -> AugmentConfig {
        AugmentConfig { flips: true, translation: 0.125, cutout: 0.5, colour: 0.2, ..AugmentConfig::default() }
    }

    #[test]
    fn changes_stay_within_what_was_asked_for() -> Result<()> {
        let mut seen = [[false; 4]; 2];
        for image in 0..400 {
            let map = full().map(&mut Key::new(1).at(image).rng(), 1.0, [64, 64], 3);
            assert!(map.shift.iter().all(|shift| (-8..=8).contains(shift)), "{map:?}");
            let [top, left, rows, cols] = map.hole;
            assert!(rows == 32 && cols == 32 && (-16..48).contains(&top) && (-16..48).contains(&left), "{map:?}");
            seen[usize::from(map.mirrored)][usize::from(map.turns)] = true;
            // Grey stays grey.
            let grey: Vec<f32> = map.colour.iter().map(|row| row[..3].iter().sum()).collect();
            assert!(grey.iter().all(|sum| (0.8..=1.2).contains(sum) && (sum - grey[0]).abs() < 1e-6), "{map:?}");
            assert!(map.colour.iter().all(|row| row[3].abs() <= 0.1));
        }
        assert_eq!(seen, [[true; 4]; 2], "all eight ways");
        Ok(())
    }

    #[test]
    fn the_key_decides_and_no_chance_is_no_change() -> Result<()> {
        let xs = Key::new(2).uniform(-1.0, 1.0, (3, 3, 16, 16), &Device::Cpu)?;
        let of = |chance, key: u64| -> Result<Vec<f32>> {
            full().apply(&xs, chance, &Key::new(key))?.contiguous()?.flatten_all()?.to_vec1()
        };
        assert_eq!(of(1.0, 1)?, of(1.0, 1)?);
        assert_ne!(of(1.0, 1)?, of(1.0, 2)?);
        assert_eq!(of(0.0, 1)?, xs.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (config, name) in [
            (AugmentConfig { translation: 0.6, ..full() }, "augment.translation is 0.6"),
            (AugmentConfig { cutout: 1.0, ..full() }, "augment.cutout is 1"),
            (AugmentConfig { colour: f64::NAN, ..full() }, "augment.colour is not finite"),
            (AugmentConfig { ada_target: Some(0.0), ..full() }, "augment.ada_target is 0"),
            (AugmentConfig { ada_speed: 0, ..full() }, "augment.ada_speed is 0"),
        ] {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        full().validate().unwrap();
    }
}
