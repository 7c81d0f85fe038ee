//! Known differences, planted in real images to see which of them the test finds.

use std::fmt;

use cellforge_data::{ImageSize, View, ViewParts, epoch_order};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Result, numeric::blur};

/// A difference between sets of images that were equal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "strength", rename_all = "lowercase")]
pub enum Difference {
    /// So many grey levels are added to every second pixel, as on a checkerboard, and taken from the others.
    Checkerboard(u8),
    /// A Gaussian blur with this standard deviation, in pixels.
    Blur(f64),
    /// This share of the images has a bright square, a sixteenth of the shorter side wide, at a random place.
    Square(f64),
    /// This share of the images of each class has the label of the next one.
    Labels(f64),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Checkerboard(levels) => write!(f, "a checkerboard of {levels} grey levels"),
            Self::Blur(sigma) => write!(f, "a blur of {sigma} pixels"),
            Self::Square(share) => write!(f, "a small bright square in {:.0}% of them", 100.0 * share),
            Self::Labels(share) => write!(f, "wrong labels of {:.0}%", 100.0 * share),
        }
    }
}

/// The differences of each kind, weakest first. Wrong labels take two classes.
pub(super) fn differences(classes: usize) -> Vec<Vec<Difference>> {
    let mut kinds = vec![
        [1, 2, 4].map(Difference::Checkerboard).to_vec(),
        [0.3, 0.5, 0.8].map(Difference::Blur).to_vec(),
        [0.05, 0.1, 0.3].map(Difference::Square).to_vec(),
    ];
    if classes > 1 {
        kinds.push([0.1, 0.25, 0.5].map(Difference::Labels).to_vec());
    }
    kinds
}

/// The images with the difference. The same seed changes the same ones.
///
/// # Errors
/// None is known: the images are of one size.
pub fn plant(images: &View, difference: Difference, seed: u64) -> Result<View> {
    let (size, channels) = (images.size(), images.channels());
    let mut labels = images.labels();
    let some = |share: f64, class: u32| -> Vec<usize> {
        let order = epoch_order(&images.class_indices(class), seed, u64::from(class));
        order[..(share * order.len() as f64).round() as usize].to_vec()
    };
    let classes = images.classes().len() as u32;
    let mut chosen = vec![true; images.len()];
    match difference {
        Difference::Square(share) => {
            chosen.fill(false);
            (0..classes).flat_map(|class| some(share, class)).for_each(|i| chosen[i] = true);
        }
        Difference::Labels(share) => {
            chosen.fill(false);
            for class in 0..classes {
                for i in some(share, class) {
                    labels[i] = (class + 1) % classes;
                }
            }
        }
        Difference::Checkerboard(_) | Difference::Blur(_) => {}
    }
    let places = epoch_order(&(0..images.len()).collect::<Vec<_>>(), seed, u64::from(u32::MAX));
    let pixels: Vec<Vec<u8>> = (0..images.len())
        .into_par_iter()
        .map(|i| {
            let image = images.image(i);
            if !chosen[i] {
                return image.to_vec();
            }
            match difference {
                Difference::Checkerboard(levels) => checkerboard(image, size, channels, levels),
                Difference::Blur(sigma) => blurred(image, size, channels, sigma),
                Difference::Square(_) => square(image, size, channels, places[i]),
                Difference::Labels(_) => image.to_vec(),
            }
        })
        .collect();
    Ok(View::new(ViewParts { pixels: pixels.concat(), labels, ..images.to_parts() })?)
}

fn checkerboard(image: &[u8], size: ImageSize, channels: usize, levels: u8) -> Vec<u8> {
    let change = |(i, &x): (usize, &u8)| {
        let pixel = i / channels;
        if (pixel % size.width + pixel / size.width).is_multiple_of(2) {
            x.saturating_add(levels)
        } else {
            x.saturating_sub(levels)
        }
    };
    image.iter().enumerate().map(change).collect()
}

fn blurred(image: &[u8], size: ImageSize, channels: usize, sigma: f64) -> Vec<u8> {
    let values: Vec<f32> = image.iter().map(|&x| f32::from(x)).collect();
    blur(&values, size, channels, sigma as f32).into_iter().map(|x| x.round().clamp(0.0, 255.0) as u8).collect()
}

/// A square of full brightness in the first channel and none in the others, at place number `place`.
fn square(image: &[u8], of: ImageSize, channels: usize, place: usize) -> Vec<u8> {
    let size = (of.shorter() / 16).max(1);
    // 0.618 of the range after each other: no two places in a row are near.
    let spread = |x: f64, side: usize| ((x * 0.618_033_988_749_895).fract() * (side - size + 1) as f64) as usize;
    let (left, top) = (spread(place as f64, of.width), spread(place as f64 * 3.0 + 0.5, of.height));
    let mut changed = image.to_vec();
    for y in top..top + size {
        for x in left..left + size {
            let at = (y * of.width + x) * channels;
            changed[at..at + channels].fill(0);
            changed[at] = 255;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> View {
        View::new(ViewParts {
            classes: vec!["a".to_owned(), "b".to_owned()],
            labels: (0..20).map(|i| i % 2).collect(),
            size: 16.into(),
            channels: 3,
            pixels: vec![100; 20 * 16 * 16 * 3],
            ..ViewParts::default()
        })
        .unwrap()
    }

    #[test]
    fn each_difference_is_what_it_says() {
        let images = images();
        let board = plant(&images, Difference::Checkerboard(4), 1).unwrap();
        assert_eq!(board.image(0)[..9], [104, 104, 104, 96, 96, 96, 104, 104, 104]);
        // Of a flat image a blur changes nothing; of a step it makes a slope with the same mean.
        assert_eq!(plant(&images, Difference::Blur(0.8), 1).unwrap().image(3), images.image(3));
        let step: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 0 } else { 200 }).collect();
        let soft = blurred(&step, 8.into(), 1, 0.5);
        assert!(soft[3] > 10 && soft[4] < 190 && soft[3] + soft[4] == 200, "{soft:?}");
        let squares = plant(&images, Difference::Square(0.3), 1).unwrap();
        let changed = (0..20).filter(|&i| squares.image(i) != images.image(i)).count();
        assert_eq!(changed, 6);
        let labels = plant(&images, Difference::Labels(0.5), 1).unwrap();
        let wrong = (0..20).filter(|&i| labels.label(i) != images.label(i)).count();
        assert_eq!((wrong, labels.pixels() == images.pixels()), (10, true));
        assert_eq!(labels, plant(&images, Difference::Labels(0.5), 1).unwrap());
    }
}
