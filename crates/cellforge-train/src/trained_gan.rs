//! GANs that were trained.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use cellforge_data::{ImageSize, View};
use cellforge_gan::{Discriminator, GanConfig, Generator};
use cellforge_nn::{ParamStore, Precision};

use crate::checkpoint::{self, Checkpoint, DISCRIMINATOR};
use crate::features::discriminator_scores;
use crate::gan::KIND;
use crate::generate::{SampleOptions, Series};
use crate::interpolate::Path as Way;
use crate::loaders::loaders;
use crate::packed::Packed;
use crate::{Error, GanState, Result, Seen, rejection};

/// A GAN that was trained. It makes images, and tells how real its discriminator takes images to be. Its networks take no gradients, so
/// that running them keeps nothing for them.
#[derive(Clone)]
pub struct TrainedGan {
    generator: Generator,
    /// Read when it is first asked for.
    discriminator: OnceLock<Discriminator>,
    state: GanState,
    device: Device,
    precision: Precision,
    source: Source,
}

/// Where its discriminator is to be found.
#[derive(Clone)]
enum Source {
    Folder(Checkpoint),
    Memory(Option<BTreeMap<String, Tensor>>),
}

loaders!(
    TrainedGan,
    "a GAN, from a checkpoint's folder, or from a run's folder: its best checkpoint, that came closest to the validation images, if it was judged as it trained"
);

impl TrainedGan {
    fn open(path: &Path, device: &Device, precision: Option<Precision>) -> Result<Self> {
        let (found, state, tensors) = Checkpoint::load(path, KIND, device)?;
        Self::new((state, tensors), Source::Folder(found), device, precision)
    }

    fn new(
        (state, tensors): (GanState, BTreeMap<String, Tensor>),
        source: Source,
        device: &Device,
        precision: Option<Precision>,
    ) -> Result<Self> {
        let precision = precision.unwrap_or(state.config.model.precision);
        let generator = network(&state, precision, tensors, device, Generator::new)?;
        let (discriminator, device) = (OnceLock::new(), device.clone());
        Ok(Self { generator, discriminator, state, device, precision, source })
    }

    /// The GAN that is built into this crate, on the CPU. Another version of this crate may have another.
    ///
    /// ```
    /// use cellforge_train::{BUILTIN_DATASHEET, TrainedGan};
    ///
    /// let gan = TrainedGan::builtin()?;
    /// let images = gan.sample(1, &gan.classes()[0], 0..3)?;
    /// assert_eq!(images.len(), 3);
    /// println!("{BUILTIN_DATASHEET}");
    /// # Ok::<(), cellforge_train::Error>(())
    /// ```
    ///
    /// # Errors
    /// None on a machine with the memory for it.
    #[cfg(feature = "builtin")]
    pub fn builtin() -> Result<Self> {
        Self::builtin_on(&Device::Cpu)
    }

    /// As [`TrainedGan::builtin`], on a device of choice.
    ///
    /// # Errors
    /// Those of the device.
    #[cfg(feature = "builtin")]
    pub fn builtin_on(device: &Device) -> Result<Self> {
        Self::unpack(crate::builtin::BUILTIN, device, None)
    }

    /// As [`TrainedGan::builtin_on`], in a precision of choice.
    ///
    /// # Errors
    /// Those of the device.
    #[cfg(feature = "builtin")]
    pub fn builtin_in(device: &Device, precision: Precision) -> Result<Self> {
        Self::unpack(crate::builtin::BUILTIN, device, Some(precision))
    }

    /// A packed GAN ([`crate::pack_gan`]) from the bytes of its `weights.safetensors`, its `discriminator.safetensors` where that was packed
    /// too, and its `state.json`, such as `include_bytes!` gives. The weights become `f32` again.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes do not fit together, [`Error::Unsuitable`] if they are of another kind or format version.
    pub fn from_bytes(weights: &[u8], discriminator: Option<&[u8]>, state: &[u8], device: &Device) -> Result<Self> {
        Self::unpack(Packed { weights, discriminator, state }, device, None)
    }

    fn unpack(packed: Packed<'_>, device: &Device, precision: Option<Precision>) -> Result<Self> {
        let (state, weights, discriminator) = packed.read(device)?;
        Self::new((state, weights), Source::Memory(discriminator), device, precision)
    }

    /// Makes the images of these numbers: image `i` is a function of the generator, `seed`, `class` and `i` alone, so that the first images
    /// of a longer series are those of a shorter one. The view has the one class, and the images' names are their numbers, counted from 1:
    /// `000001`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a class that is none of [`TrainedGan::classes`].
    pub fn sample(&self, seed: u64, class: &str, images: Range<usize>) -> Result<View> {
        self.sample_with(&SampleOptions { seed, ..SampleOptions::default() }, class, images)
    }

    /// As [`TrainedGan::sample`], with noise that is truncated, or with the discriminator's choice of images. They are a function of the
    /// options too.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range or a class that is none of [`TrainedGan::classes`]; those of
    /// [`TrainedGan::discriminator`] where it is to choose, and [`Error::Invalid`] if a score of it is not a finite number.
    pub fn sample_with(&self, options: &SampleOptions, class: &str, images: Range<usize>) -> Result<View> {
        let series = self.series(options, class)?;
        match options.keep {
            None => series.images(images),
            Some(_) => rejection::sample(&series, self.discriminator()?, options.candidates()?, images),
        }
    }

    /// Makes strips of `steps` images, from 2 to 1024, at equal distances on a path through what the generator makes. A smooth path
    /// without jumps or copies of training images is a sign that it has learned more than those; it is no proof.
    ///
    /// Without `to`, strip `i` goes from the noise of image `2 i` to that of image `2 i + 1` of [`TrainedGan::sample_with`], which are its
    /// ends, by spherical interpolation (Shoemake 1985): standard normal noise of many numbers has nearly one length, and a straight line
    /// would pass through shorter noise than the generator has ever seen (White 2016). A truncation holds at the ends.
    ///
    /// Towards another class, strip `i` keeps the noise of image `i` and goes in a straight line from the row of its class to the row of
    /// the other, which the generator takes as classes between the two.
    ///
    /// Strip `i` is a function of the generator, the options, the classes, `steps` and `i` alone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number of steps or a truncation out of range, a class that is none of [`TrainedGan::classes`], a class to go
    /// to where there is one alone, or `keep`, which is of single images.
    pub fn interpolate(
        &self,
        options: &SampleOptions,
        class: &str,
        to: Option<&str>,
        steps: usize,
        strips: Range<usize>,
    ) -> Result<Vec<View>> {
        if options.keep.is_some() {
            return Err(Error::Invalid { field: "keep", reason: "is of single images, and not of strips".to_owned() });
        }
        let series = self.series(options, class)?;
        let to = match to.map(|to| self.state.label(to)) {
            None => None,
            Some(Ok(Some((label, _)))) => Some(label),
            Some(Ok(None)) => return Err(no_such_way("the generator knows of no classes to go to".to_owned())),
            Some(Err(error)) => return Err(no_such_way(error.to_string())),
        };
        let way = Way::new(&series, to, steps)?;
        strips.map(|number| way.strip(number)).collect()
    }

    /// The logits that the discriminator gives to the images, in their order, taking all of them for images of `class`: above zero means
    /// judged real. It runs in inference mode; an image that is saved and read back has the score that it had, to the last digit.
    ///
    /// # Errors
    /// As [`TrainedGan::discriminator`]; [`Error::Invalid`] for a class that is none of [`TrainedGan::classes`]; if there are no images, or
    /// their size or channels are not the discriminator's.
    pub fn scores(&self, class: &str, images: &View) -> Result<Vec<f64>> {
        discriminator_scores(self.discriminator()?, self.state.label(class)?, images, &self.device)
    }

    /// The classes it makes images of, in label order.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.state.classes
    }

    /// Everything about it but its tensors: configuration, iterations, fingerprint of the training images.
    #[must_use]
    pub fn state(&self) -> &GanState {
        &self.state
    }

    /// How many of these images it was trained on; `None` where its checkpoint does not say, because it is packed or an earlier version wrote it,
    /// and of images of another size or number of channels, whose pixels are others.
    #[must_use]
    pub fn seen(&self, images: &View) -> Option<Seen> {
        let is_alike = (images.size(), images.channels()) == (self.image_size(), self.channels());
        self.state.seen.as_ref().filter(|_| is_alike).map(|seen| seen.among(images))
    }

    /// Height and width of its images.
    #[must_use]
    pub fn image_size(&self) -> ImageSize {
        self.state.config.model.image_size
    }

    /// Channels of its images: 1 for grey, 3 for RGB.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.state.config.model.channels
    }

    /// The network that makes images.
    #[must_use]
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The network that judges them. It is read at the first call, from the checkpoint that the generator is of.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] if there is none, as for a packed generator; [`Error::Damaged`].
    pub fn discriminator(&self) -> Result<&Discriminator> {
        if let Some(discriminator) = self.discriminator.get() {
            return Ok(discriminator);
        }
        let none = |path: &Path| {
            let file = checkpoint::file_name(DISCRIMINATOR);
            let reason = format!("it has no {file}: it was packed, and holds a generator alone");
            Error::Unsuitable { path: path.to_path_buf(), reason }
        };
        let tensors = match &self.source {
            Source::Folder(found) if self.state.may_have(DISCRIMINATOR) => {
                found.tensors(DISCRIMINATOR, &self.device)?
            }
            Source::Folder(found) => return Err(none(found.path())),
            Source::Memory(tensors) => tensors.clone().ok_or_else(|| none(Path::new("in memory")))?,
        };
        let discriminator = network(&self.state, self.precision, tensors, &self.device, Discriminator::new)?;
        Ok(self.discriminator.get_or_init(|| discriminator))
    }

    fn series<'a>(&'a self, options: &SampleOptions, class: &'a str) -> Result<Series<'a>> {
        options.validate()?;
        Ok(Series {
            generator: &self.generator,
            device: &self.device,
            seed: options.seed,
            class,
            label: self.state.label(class)?,
            latent: self.state.config.model.latent,
            truncation: options.truncation,
        })
    }
}

fn no_such_way(reason: String) -> Error {
    Error::Invalid { field: "to", reason }
}

/// A network of the state's configuration with these weights, in this precision. It takes no gradients.
pub(crate) fn network<T>(
    state: &GanState,
    precision: Precision,
    tensors: BTreeMap<String, Tensor>,
    device: &Device,
    build: impl FnOnce(&GanConfig, VarBuilder<'static>) -> candle_core::Result<T>,
) -> Result<T> {
    let model = GanConfig { precision, ..state.config.model.clone() };
    Ok(ParamStore::built(tensors, device, |vb| build(&model, vb))?)
}

impl fmt::Debug for TrainedGan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainedGan").field("state", &self.state).finish_non_exhaustive()
    }
}
