//! Many images in one.

use image::{Rgb, RgbImage};

use crate::generate::Images;

/// Pixels between images.
const GAP: usize = 2;

/// Lays out `images` row by row in `columns` columns with a thin white line between them; grey becomes RGB.
///
/// ```
/// use cellforge_train::{Images, sample_grid};
/// let images = Images { side: 8, channels: 1, pixels: vec![0; 3 * 64] };
/// // Two columns and two rows of 8 pixels with a gap of 2.
/// assert_eq!(sample_grid(&images, 2).dimensions(), (18, 18));
/// ```
pub fn sample_grid(images: &Images, columns: usize) -> RgbImage {
    let columns = columns.clamp(1, images.len().max(1));
    let rows = images.len().div_ceil(columns).max(1);
    let pitch = images.side + GAP;
    let size = |images: usize| (images * pitch - GAP) as u32;
    let mut grid = RgbImage::from_pixel(size(columns), size(rows), Rgb([255; 3]));
    for index in 0..images.len() {
        let (left, top) = (index % columns * pitch, index / columns * pitch);
        for (at, pixel) in images.image(index).chunks_exact(images.channels).enumerate() {
            let colour = if pixel.len() >= 3 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] };
            let (x, y) = (left + at % images.side, top + at / images.side);
            grid.put_pixel(x as u32, y as u32, Rgb(colour));
        }
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_go_row_by_row() {
        let images = Images { side: 1, channels: 3, pixels: (1..=9).collect() };
        let grid = sample_grid(&images, 2);
        assert_eq!(grid.dimensions(), (4, 4));
        assert_eq!(grid.get_pixel(0, 0).0, [1, 2, 3]);
        assert_eq!(grid.get_pixel(3, 0).0, [4, 5, 6]);
        assert_eq!(grid.get_pixel(0, 3).0, [7, 8, 9]);
        assert_eq!(grid.get_pixel(1, 1).0, [255; 3]);
    }
}
