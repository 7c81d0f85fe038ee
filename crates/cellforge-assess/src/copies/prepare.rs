//! Images as the search for copies looks at them: small, and with their texture brought out.

use cellforge_data::{ImageSize, View};
use cellforge_train::pixel_features;
use rayon::prelude::*;

use crate::{
    Result,
    numeric::{blur, median},
};

/// Longer side to which images are averaged: single pixels, and noise on them, count for less, and the search stays quick.
pub(crate) const SIDE: usize = 32;
/// Spreads of the two blurs whose difference is the texture, in pixels of such an image.
const FINE: f32 = 0.8;
const COARSE: f32 = 3.0;
/// Images by which the usual detail is known.
const DETAILED: usize = 256;

/// Images of one size, `(n, height, width, channels)` in [0, 1], and their filtered brightness, `(n, height, width)`.
pub(super) struct Small {
    pub(super) size: ImageSize,
    pub(super) channels: usize,
    values: Vec<f32>,
    texture: Vec<f32>,
    /// How much fine detail each has ([`detail`]).
    details: Vec<f32>,
}

impl Small {
    /// The images averaged to 32 pixels along the longer side, or as they are where they have fewer.
    pub(super) fn new(images: &View) -> Result<Self> {
        let (size, channels) = (images.size().within(SIDE), images.channels());
        let values = pixel_features(images, size)?.values;
        let texture = values.par_chunks(size.area() * channels).flat_map_iter(|image| texture(image, size, channels));
        let details = values.par_chunks(size.area() * channels).map(|image| detail(image, size, channels));
        Ok(Self { size, channels, texture: texture.collect(), details: details.collect(), values })
    }

    /// Adds images of the same size behind these.
    pub(super) fn extend(&mut self, others: &Self) {
        self.values.extend_from_slice(&others.values);
        self.texture.extend_from_slice(&others.texture);
        self.details.extend_from_slice(&others.details);
    }

    pub(super) fn len(&self) -> usize {
        self.texture.len() / self.size.area()
    }

    /// Image `i`, `(height, width, channels)`.
    pub(super) fn image(&self, i: usize) -> &[f32] {
        let size = self.size.area() * self.channels;
        &self.values[i * size..][..size]
    }

    /// Image `i`, blurred.
    pub(super) fn blurred(&self, i: usize, sigma: f32) -> Vec<f32> {
        blur(self.image(i), self.size, self.channels, sigma)
    }

    /// How much fine detail image `i` has.
    pub(super) fn detail(&self, i: usize) -> f32 {
        self.details[i]
    }

    /// The median of how much fine detail some of the images have when they are blurred.
    pub(super) fn usual_detail(&self, sigma: f32) -> f32 {
        let some: Vec<usize> = (0..self.len()).step_by(self.len().div_ceil(DETAILED).max(1)).collect();
        let of = |&i: &usize| f64::from(detail(&self.blurred(i, sigma), self.size, self.channels));
        median(some.par_iter().map(of).collect()) as f32
    }

    /// The texture of image `i`, `(height, width)`.
    pub(super) fn texture(&self, i: usize) -> &[f32] {
        let size = self.size.area();
        &self.texture[i * size..][..size]
    }
}

/// The mean over channels.
fn grey(image: &[f32], channels: usize) -> Vec<f32> {
    image.chunks(channels).map(|pixel| pixel.iter().sum::<f32>() / channels as f32).collect()
}

/// How much of the variance of an image lies in what a blur of one pixel takes away. Noise and sharpness raise it, a blur lowers it.
fn detail(image: &[f32], size: ImageSize, channels: usize) -> f32 {
    let grey = grey(image, channels);
    let mean = grey.iter().sum::<f32>() / grey.len() as f32;
    let fine: f32 = grey.iter().zip(&blur(&grey, size, 1, 1.0)).map(|(a, b)| (a - b).powi(2)).sum();
    let all: f32 = grey.iter().map(|value| (value - mean).powi(2)).sum();
    fine / all.max(1e-9)
}

/// The mean over channels, less what is coarse in it: the difference of two blurs. Large shapes, which all images of a kind share,
/// would else decide which images are near. The filter is the same in every direction, so that a turned image has the turned texture.
fn texture(image: &[f32], size: ImageSize, channels: usize) -> Vec<f32> {
    let grey = grey(image, channels);
    let scale = size.longer() as f32 / SIDE as f32;
    let (fine, coarse) = (blur(&grey, size, 1, FINE * scale), blur(&grey, size, 1, COARSE * scale));
    fine.iter().zip(&coarse).map(|(fine, coarse)| fine - coarse).collect()
}
