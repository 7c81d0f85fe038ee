//! Images as the search for copies looks at them: small, and with their texture brought out.

use cellforge_data::View;
use cellforge_train::pixel_features;
use rayon::prelude::*;

use crate::{Result, numeric::blur};

/// Side to which images are averaged: single pixels, and noise on them, count for less, and the search stays quick.
pub(super) const SIDE: usize = 32;
/// Spreads of the two blurs whose difference is the texture, in pixels of such an image.
const FINE: f32 = 0.8;
const COARSE: f32 = 3.0;

/// Images of one size, `(n, side, side, channels)` in [0, 1], and their filtered brightness, `(n, side, side)`.
pub(super) struct Small {
    pub(super) side: usize,
    pub(super) channels: usize,
    values: Vec<f32>,
    texture: Vec<f32>,
}

impl Small {
    /// The images averaged to 32 pixels a side, or as they are where they have fewer.
    pub(super) fn new(images: &View) -> Result<Self> {
        let (side, channels) = (images.side().min(SIDE), images.channels());
        let values = pixel_features(images, side)?.values;
        let texture = values.par_chunks(side * side * channels).flat_map_iter(|image| texture(image, side, channels));
        Ok(Self { side, channels, texture: texture.collect(), values })
    }

    /// Adds images of the same size behind these.
    pub(super) fn extend(&mut self, others: &Self) {
        self.values.extend_from_slice(&others.values);
        self.texture.extend_from_slice(&others.texture);
    }

    pub(super) fn len(&self) -> usize {
        self.texture.len() / (self.side * self.side)
    }

    /// Image `i`, `(side, side, channels)`.
    pub(super) fn image(&self, i: usize) -> &[f32] {
        let size = self.side * self.side * self.channels;
        &self.values[i * size..][..size]
    }

    /// The texture of image `i`, `(side, side)`.
    pub(super) fn texture(&self, i: usize) -> &[f32] {
        let size = self.side * self.side;
        &self.texture[i * size..][..size]
    }
}

/// The mean over channels, less what is coarse in it: the difference of two blurs. Large shapes, which all images of a kind share,
/// would else decide which images are near. The filter is the same in every direction, so that a turned image has the turned texture.
fn texture(image: &[f32], side: usize, channels: usize) -> Vec<f32> {
    let grey: Vec<f32> = image.chunks(channels).map(|pixel| pixel.iter().sum::<f32>() / channels as f32).collect();
    let scale = side as f32 / SIDE as f32;
    let (fine, coarse) = (blur(&grey, side, 1, FINE * scale), blur(&grey, side, 1, COARSE * scale));
    fine.iter().zip(&coarse).map(|(fine, coarse)| fine - coarse).collect()
}
