//! Images as tensors, and back.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::{Augment, ImageSize, Result, View, ViewParts};

/// How bytes become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// `x / 127.5 - 1`, in [-1, 1]: the GAN's.
    SignedUnit,
    /// `x / 255`, in [0, 1]: the classifiers'.
    Unit,
}

impl Scale {
    /// The number that `byte` stands for.
    #[must_use]
    pub fn apply(self, byte: u8) -> f32 {
        match self {
            Self::SignedUnit => f32::from(byte) / 127.5 - 1.0,
            Self::Unit => f32::from(byte) / 255.0,
        }
    }

    /// The byte nearest to what `value` stands for, ends included.
    #[must_use]
    pub fn byte(self, value: f32) -> u8 {
        let byte = match self {
            Self::SignedUnit => (value + 1.0) * 127.5,
            Self::Unit => value * 255.0,
        };
        byte.round().clamp(0.0, 255.0) as u8
    }
}

/// Some images as tensors.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Images, (b, c, h, w) in f32.
    pub images: Tensor,
    /// Class of each, (b) in u32.
    pub labels: Tensor,
    /// Which images of the stored set these are: their rows ([`View::row`]).
    pub indices: Vec<usize>,
}

impl Batch {
    /// Gathers the images at these positions of a view. With `augment`, each is changed as its seed, its epoch and the image's row say.
    ///
    /// # Errors
    /// Those of the device the tensors go to.
    ///
    /// # Panics
    /// If a position names no image.
    pub fn gather(
        view: &View,
        positions: &[usize],
        scale: Scale,
        augment: Option<(&Augment, u64, u64)>,
        device: &Device,
    ) -> Result<Self> {
        let labels: Vec<u32> = positions.iter().map(|&i| view.label(i)).collect();
        Ok(Self {
            images: gather(view, positions, scale, augment, device)?,
            labels: Tensor::from_vec(labels, positions.len(), device)?,
            indices: positions.iter().map(|&i| view.row(i)).collect(),
        })
    }
}

impl View {
    /// All images, (n, channels, height, width) in f32.
    ///
    /// # Errors
    /// Those of the device the tensor goes to.
    pub fn tensor(&self, scale: Scale, device: &Device) -> Result<Tensor> {
        gather(self, &(0..self.len()).collect::<Vec<_>>(), scale, None, device)
    }

    /// The images of a tensor (n, channels, height, width), of one class without a name. [`ViewParts::from_tensor`] lets one add labels,
    /// groups and names.
    ///
    /// ```
    /// use candle_core::Device;
    /// use cellforge_data::{Scale, View, ViewParts};
    ///
    /// let view = View::new(ViewParts { size: 4.into(), channels: 3, pixels: (0..96).collect(), ..ViewParts::default() })?;
    /// let tensor = view.tensor(Scale::SignedUnit, &Device::Cpu)?; // (2, 3, 4, 4) in [-1, 1]
    /// assert_eq!(View::from_tensor(&tensor, Scale::SignedUnit)?.pixels(), view.pixels());
    /// # Ok::<(), cellforge_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ViewParts::from_tensor`].
    pub fn from_tensor(images: &Tensor, scale: Scale) -> Result<Self> {
        Self::new(ViewParts::from_tensor(images, scale)?)
    }
}

impl ViewParts {
    /// The size and pixels of a tensor (n, channels, height, width) in the range of `scale`; a value becomes the nearest byte, and one
    /// outside of the range its end.
    ///
    /// # Errors
    /// [`Error::Candle`](crate::Error::Candle) for a tensor of another number of dimensions.
    pub fn from_tensor(images: &Tensor, scale: Scale) -> Result<Self> {
        let (_, channels, height, width) = images.dims4()?;
        let values = images.permute((0, 2, 3, 1))?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?; // b, h, w, c
        let pixels = values.into_iter().map(|value| scale.byte(value)).collect();
        Ok(Self { size: ImageSize::new(height, width), channels, pixels, ..Self::default() })
    }
}

/// Images as (b, channels, height, width) in f32.
fn gather(
    view: &View,
    positions: &[usize],
    scale: Scale,
    augment: Option<(&Augment, u64, u64)>,
    device: &Device,
) -> Result<Tensor> {
    let (size, channels) = (view.size(), view.channels());
    let area = size.area();
    let mut values = vec![0f32; positions.len() * channels * area];
    values.par_chunks_mut((channels * area).max(1)).zip(positions).for_each(|(planes, &i)| {
        let changed;
        let image = match augment {
            Some((augment, seed, epoch)) => {
                changed = augment.apply(view.image(i), size, channels, seed, epoch, view.row(i) as u64);
                &changed
            }
            None => view.image(i),
        };
        for (channel, plane) in planes.chunks_exact_mut(area).enumerate() {
            for (value, byte) in plane.iter_mut().zip(image[channel..].iter().step_by(channels)) {
                *value = scale.apply(*byte);
            }
        }
    });
    Ok(Tensor::from_vec(values, (positions.len(), channels, size.height, size.width), device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize) -> View {
        View::new(ViewParts {
            classes: vec!["a".into(), "b".into()],
            labels: (0..n as u32).map(|i| i % 2).collect(),
            size: 4.into(),
            channels: 3,
            pixels: (0..n * 16 * 3).map(|i| (i * 37 % 256) as u8).collect(),
            ..ViewParts::default()
        })
        .unwrap()
    }

    #[test]
    fn every_byte_comes_back() {
        for scale in [Scale::SignedUnit, Scale::Unit] {
            assert!((0..=255).all(|byte| scale.byte(scale.apply(byte)) == byte));
            assert_eq!((scale.byte(-3.0), scale.byte(3.0), scale.byte(f32::NAN)), (0, 255, 0));
        }
    }

    #[test]
    fn a_part_is_augmented_as_the_images_of_the_whole_are() {
        let whole = set(9);
        let augment = Some((&Augment { rotation: 90.0, ..Augment::default() }, 3, 1));
        let values = |view: &View, positions: &[usize]| {
            let batch = Batch::gather(view, positions, Scale::Unit, augment, &Device::Cpu).unwrap();
            (batch.indices, batch.images.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        assert_eq!(values(&whole.part(&[8, 2, 5]), &[2, 0]), values(&whole, &[5, 8]));
        assert_eq!(values(&whole.class(1), &[3]), values(&whole, &[7]));
    }

    #[test]
    fn gather_puts_channels_first_and_scales() {
        let set = set(3);
        let batch = Batch::gather(&set, &[2, 0], Scale::SignedUnit, None, &Device::Cpu).unwrap();
        assert_eq!(batch.images.dims(), [2, 3, 4, 4]);
        assert_eq!(batch.labels.to_vec1::<u32>().unwrap(), [0, 0]);
        let values = batch.images.get(0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Pixel 5, channel 1 of image 2.
        assert_eq!(values[16 + 5], f32::from(set.image(2)[5 * 3 + 1]) / 127.5 - 1.0);
        assert_eq!((Scale::SignedUnit.apply(0), Scale::SignedUnit.apply(255)), (-1.0, 1.0));
        assert_eq!((Scale::Unit.apply(0), Scale::Unit.apply(255)), (0.0, 1.0));
    }

    #[test]
    fn augmented_batches_do_not_depend_on_the_thread_count() {
        let set = set(9);
        let all: Vec<usize> = (0..9).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let augment = Augment::default();
            let batch = pool.install(|| Batch::gather(&set, &all, Scale::Unit, Some((&augment, 1, 2)), &Device::Cpu));
            batch.unwrap().images.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(run(1), run(3));
    }
}
