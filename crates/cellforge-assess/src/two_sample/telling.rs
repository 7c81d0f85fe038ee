//! Where a network sees that an image is synthetic, and pictures of it.

use std::path::Path;

use cellforge_data::{ImageSize, Readers, View, ViewParts, save_grid};
use cellforge_train::{RunDir, TrainedClassifier};

use super::{
    TellingImage,
    runs::{Map, framed, scores},
};
use crate::{Error, Result};

/// Covers across and down an image, half overlapping.
const PLACES: usize = 15;

/// For the `count` images of each class of the second set with the highest scores: how far the score falls where a place is covered by its
/// own mean colour (Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, section 4.2). Positions are those in `images`.
pub(super) fn maps(
    network: &TrainedClassifier,
    images: &View,
    score: &[f32],
    count: usize,
) -> cellforge_train::Result<Vec<Map>> {
    let (size, channels, classes) = (images.size(), images.channels(), images.classes().len());
    let mut chosen = Vec::new();
    for class in classes / 2..classes {
        let mut of_class = images.class_indices(class as u32);
        of_class.sort_by(|&a, &b| score[b].total_cmp(&score[a]).then(a.cmp(&b)));
        chosen.extend(of_class.into_iter().take(count));
    }
    let [down, across] = [size.height, size.width].map(|side| side / (PLACES + 1));
    let mut maps = Vec::new();
    for image in chosen {
        let mut pixels = Vec::with_capacity(PLACES * PLACES * images.image(image).len());
        for place in 0..PLACES * PLACES {
            let corner = (place / PLACES * down, place % PLACES * across);
            let cover = ImageSize::new(2 * down, 2 * across);
            pixels.extend(covered(images.image(image), size, channels, corner, cover));
        }
        let labels = vec![images.label(image); PLACES * PLACES];
        let view = View::new(ViewParts {
            classes: images.classes().to_vec(),
            labels,
            size,
            channels,
            pixels,
            ..ViewParts::default()
        })?;
        let falls = scores(network, &view)?.into_iter().map(|covered| score[image] - covered).collect();
        maps.push(Map { image, score: score[image], places: PLACES, falls });
    }
    Ok(maps)
}

/// The image with a part of the size `cover`, from row `top` and column `left` on, replaced by its own mean colour.
fn covered(image: &[u8], size: ImageSize, channels: usize, (top, left): (usize, usize), cover: ImageSize) -> Vec<u8> {
    let mut pixels = image.to_vec();
    let rows = top..top + cover.height;
    let inside = || rows.clone().flat_map(|y| (left..left + cover.width).map(move |x| (y * size.width + x) * channels));
    for c in 0..channels {
        let sum: usize = inside().map(|at| usize::from(image[at + c])).sum();
        let mean = ((sum + cover.area() / 2) / cover.area().max(1)) as u8;
        inside().for_each(|at| pixels[at + c] = mean);
    }
    pixels
}

/// Draws each image beside itself, dark but for the places whose cover lets the score fall most. The folder then holds nothing else.
pub(super) fn save(maps: &[Map], synthetic: &View, out: &Path) -> Result<Vec<TellingImage>> {
    let folder = RunDir::new(out).telling();
    if folder.is_dir() {
        std::fs::remove_dir_all(&folder).map_err(Error::io("empty the folder", &folder))?;
    }
    let (size, channels) = (synthetic.size().enclosing(), synthetic.channels());
    let mut saved = Vec::new();
    for (number, map) in maps.iter().enumerate() {
        let image = framed(synthetic.image(map.image), synthetic.size(), channels, size);
        let mut pixels = image.clone();
        pixels.extend(lit(&image, size, channels, map));
        let path = RunDir::telling_picture(number + 1);
        save_grid(
            &out.join(&path),
            &View::new(ViewParts { size, channels, pixels, ..ViewParts::default() })?,
            2,
            Readers::Owner,
        )?;
        saved.push(TellingImage {
            path,
            synthetic: synthetic.name(map.image).to_owned(),
            class: synthetic.class_of(map.image).to_owned(),
            score: f64::from(map.score),
        });
    }
    Ok(saved)
}

/// The image, at a quarter of its brightness where covers change nothing and at its own where they change most.
fn lit(image: &[u8], size: ImageSize, channels: usize, map: &Map) -> Vec<u8> {
    let most = map.falls.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    // A pixel lies under up to four covers, which begin every `1 / (places + 1)` of the side and are two such steps wide.
    let light = |x: usize, y: usize| {
        let step = |at: usize, side: usize| at * (map.places + 1) / side;
        let under = |at: usize, side: usize| step(at, side).saturating_sub(1)..=step(at, side).min(map.places - 1);
        let (mut sum, mut covers) = (0.0, 0.0);
        for row in under(y, size.height) {
            for column in under(x, size.width) {
                sum += map.falls[row * map.places + column].max(0.0);
                covers += 1.0;
            }
        }
        0.25 + 0.75 * (sum / f32::max(covers, 1.0) / most).min(1.0)
    };
    let pixel = |i: usize| light(i % size.width, i / size.width);
    image.iter().enumerate().map(|(i, &x)| (f32::from(x) * pixel(i / channels)).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_have_the_mean_colour() {
        let image: Vec<u8> = (0..16).collect();
        // 5, 6, 9 and 10 have the mean 7.5, rounded up.
        let found = covered(&image, 4.into(), 1, (1, 1), 2.into());
        assert_eq!(found, [0, 1, 2, 3, 4, 8, 8, 7, 8, 8, 8, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn the_telling_place_stays_bright() {
        let mut map = Map { image: 0, score: 1.0, places: PLACES, falls: vec![0.0; PLACES * PLACES] };
        map.falls[0] = 2.0;
        let found = lit(&[200; 32 * 32], 32.into(), 1, &map);
        // The first two pixels lie under the first cover alone; those of the far corner under none that tells.
        assert_eq!((found[0], found[32 * 32 - 1]), (200, 50));
    }
}
