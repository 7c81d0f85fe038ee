use std::path::Path;

use candle_core::{Device, Tensor};
use cellforge_data::{View, ViewParts};
use cellforge_eval::{frechet_distance, mean_distance, prdc};
use cellforge_gan::Generator;
use cellforge_nn::{Key, one_hot};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gan_step::GanStep;
use crate::generate::images_of;
use crate::{
    Control, Error, Event, FeatureMatrix, GanTrainConfig, Observer, Phase, Result, TrainedClassifier, checkpoint,
    figures, run,
};

/// Images made at once; the last batch is filled up.
const BATCH: usize = 32;

/// The figures, in the order in which they are computed.
const FIGURES: [&str; 6] =
    [figures::FD, figures::PRECISION, figures::RECALL, figures::COVERAGE, figures::RECOGNISED, figures::DIVERSITY];

/// When and on how many images a GAN is judged while it trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorConfig {
    /// Iterations between judgements of the generator, if there is a judge. 0 is never.
    ///
    /// It is judged after the last iteration, too.
    #[schemars(range(max = 1_000_000_000))]
    pub every: u64,
    /// Generated images of each class at a judgement, more than `k`.
    ///
    /// The Fréchet distance falls with their number: compare distances of equal numbers only.
    #[schemars(range(max = 100_000))]
    pub images: usize,
    /// Nearest neighbour that counts as near, for precision, recall and coverage.
    #[schemars(range(min = 1, max = 1000))]
    pub k: usize,
}

impl Default for MonitorConfig {
    /// Off; 500 images and 5 neighbours where it is switched on.
    fn default() -> Self {
        Self { every: 0, images: 500, k: 5 }
    }
}

impl MonitorConfig {
    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        if self.every == 0 {
            return Ok(());
        }
        if self.images <= self.k {
            let reason = format!("{} is too few: {} neighbours need at least {}", self.images, self.k, self.k + 1);
            return Err(Error::Invalid { field: "monitor.images", reason });
        }
        Ok(())
    }
}

/// Whom a GAN is judged by while it trains: a classifier, and real images that the GAN is not trained on. Where the best checkpoint is
/// chosen by them, they are no longer fit for the final judgement: keep test images, and another network, for that.
#[derive(Debug, Clone)]
pub struct Judge {
    /// Tells the classes of `images` apart, in their order; best one that was trained on the images the GAN is trained on.
    pub classifier: TrainedClassifier,
    /// What tells the classifier from others, such as a checksum of its weights: a run is resumed with no other.
    pub id: String,
    /// The validation images, of the size of the generator's images: of each class that is judged, more than the monitor's `k`.
    pub images: View,
}

impl Judge {
    /// A judge with the classifier of a checkpoint folder, or of a run's folder, that computes where and in what the GAN's training does.
    ///
    /// # Errors
    /// As [`TrainedClassifier::load`]; [`Error::Unsuitable`] if the classes, size or channels of the images are not the classifier's.
    pub fn load(dir: &Path, images: &View, control: &Control) -> Result<Self> {
        let classifier = TrainedClassifier::load_in(dir, &control.device, control.precision)?;
        let unsuitable = |reason| Err(Error::Unsuitable { path: dir.to_path_buf(), reason });
        if classifier.classes() != images.classes() {
            let (known, there) = (classifier.classes().join(", "), images.classes().join(", "));
            return unsuitable(format!("it tells {known} apart, the images are of {there}"));
        }
        let (size, channels) = (classifier.image_size(), classifier.channels());
        if (size, channels) != (images.size(), images.channels()) {
            return unsuitable(format!(
                "it takes {size:#} pixels and {channels} channels, the images have {:#} and {}",
                images.size(),
                images.channels()
            ));
        }
        let id = classifier.state().weights_sha256().unwrap_or_default().to_owned();
        Ok(Self { classifier, id, images: images.clone() })
    }

    /// Identifies the classifier and the validation images.
    pub(crate) fn fingerprint(&self) -> String {
        let images = run::data_fingerprint(&[&self.images]);
        checkpoint::hex(format!("{}|{images}", self.id).as_bytes())
    }
}

/// Judges the generator every so many iterations and adds the figures to the step's:
///
/// - `fd`: the Fréchet distance between the features of generated images and of validation images (Heusel et al. 2017,
///   arXiv:1706.08500, there with Inception's); 0 or above, lower is better.
/// - `precision`: share of generated images near a validation image; `recall`: share of validation images near a generated image
///   (Kynkäänniemi et al. 2019, arXiv:1904.06991); `coverage`: share of validation images that have a generated image among what is near
///   them (Naeem et al. 2020, arXiv:2002.09797). All in [0, 1].
/// - `recognised`: share of generated images that the judge assigns to their class, in [0, 1].
/// - `diversity`: mean distance between two generated images over that between two validation images; about 1 where they are as
///   various, 0 where all generated images are one.
///
/// Figures are computed for each class from the judge's features. For several classes these are their means, and those of each class
/// follow, as `fd_Uninfected`. The images are made of the same noise at every point, and thrown away.
#[derive(Debug)]
pub struct Monitor {
    config: MonitorConfig,
    judge: TrainedClassifier,
    classes: Vec<Judged>,
    key: Key,
    latent: usize,
    device: Device,
}

/// A class and its validation images.
#[derive(Debug)]
struct Judged {
    class: String,
    /// Its number among those that the judge tells apart.
    label: usize,
    /// For a GAN of several classes, the class as the generator takes it, for a batch.
    rows: Option<Tensor>,
    reals: FeatureMatrix,
    /// Mean distance between two validation images.
    spread: f64,
}

impl Monitor {
    /// Judges a GAN of this configuration by its `monitor` settings. The features of the validation images are computed here, once.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the judge does not know the GAN's classes, or has too few validation images of one, or of another size.
    pub fn new(config: &GanTrainConfig, judge: &Judge, device: &Device) -> Result<Self> {
        let settings = &config.monitor;
        settings.validate()?;
        let invalid = |reason| Err(Error::Invalid { field: "judge", reason });
        let (model, reals) = (&config.model, &judge.images);
        if (reals.size(), reals.channels()) != (model.image_size, model.channels) {
            let (size, channels) = (reals.size(), reals.channels());
            return invalid(format!(
                "the validation images have {size:#} pixels and {channels} channels, the GAN's images {:#} and {}",
                model.image_size, model.channels
            ));
        }
        let labels = match model.classes {
            1 => match reals.classes().iter().position(|class| *class == config.class) {
                Some(label) => vec![label],
                None => {
                    return invalid(format!("it knows {}, and not {:?}", reals.classes().join(", "), config.class));
                }
            },
            of if of == reals.classes().len() => (0..of).collect(),
            of => return invalid(format!("it knows {}, the GAN is of {of} classes", reals.classes().join(", "))),
        };
        let mut classes = Vec::new();
        for label in labels {
            let class = reals.classes()[label].clone();
            let images = reals.class(label as u32);
            if images.len() <= settings.k {
                let (found, needed) = (images.len(), settings.k + 1);
                return invalid(format!("{found} validation images of class {class}: at least {needed} are needed"));
            }
            let reals = judge.classifier.features(&images)?;
            let spread = mean_distance(reals.checked()?)?;
            if spread == 0.0 {
                return invalid(format!("all validation images of class {class} have the same features"));
            }
            let rows = match model.classes {
                1 => None,
                of => Some(one_hot(&[label as u32; BATCH], of, device)?),
            };
            classes.push(Judged { class, label, rows, reals, spread });
        }
        let (judge, key, latent) = (judge.classifier.clone(), config.key().with("monitor"), model.latent);
        let monitor = Self { config: settings.clone(), judge, classes, key, latent, device: device.clone() };
        let known = monitor.logits(&monitor.classes[0].reals)?[0].len();
        if known != reals.classes().len() {
            return invalid(format!(
                "it tells {known} classes apart, the images are of {}",
                reals.classes().join(", ")
            ));
        }
        Ok(monitor)
    }

    /// The figures of a generator, by name. It is used in inference mode.
    ///
    /// # Errors
    /// [`Error::Figures`] if the judge's features of its images are not finite.
    pub fn figures(&self, generator: &Generator) -> Result<Vec<(String, f32)>> {
        let per_class: Vec<[f64; FIGURES.len()]> =
            self.classes.iter().map(|class| self.class_figures(generator, class)).collect::<Result<_>>()?;
        let mean = |at: usize| per_class.iter().map(|figures| figures[at]).sum::<f64>() / per_class.len() as f64;
        let mut found: Vec<_> =
            FIGURES.iter().enumerate().map(|(at, name)| ((*name).to_owned(), mean(at) as f32)).collect();
        if self.classes.len() > 1 {
            for (Judged { class, .. }, figures) in self.classes.iter().zip(&per_class) {
                found.extend(
                    FIGURES.iter().zip(figures).map(|(name, value)| (format!("{name}_{class}"), *value as f32)),
                );
            }
        }
        Ok(found)
    }

    fn class_figures(&self, generator: &Generator, class: &Judged) -> Result<[f64; FIGURES.len()]> {
        let images = self.images(generator, class)?;
        let found = self.judge.features(&images)?;
        let (reals, fakes) = (class.reals.checked()?, found.checked()?);
        let near = prdc(reals, fakes, self.config.k)?;
        let logits = self.logits(&found)?;
        let recognised = logits.iter().filter(|row| row.iter().all(|logit| *logit <= row[class.label])).count();
        Ok([
            frechet_distance(reals, fakes)?,
            near.precision,
            near.recall,
            near.coverage,
            recognised as f64 / images.len() as f64,
            mean_distance(fakes)? / class.spread,
        ])
    }

    /// Images of the class, always of the same noise.
    fn images(&self, generator: &Generator, class: &Judged) -> Result<View> {
        let (key, n) = (self.key.with(&class.class), self.config.images);
        let mut all = ViewParts { classes: vec![class.class.clone()], ..ViewParts::default() };
        for batch in 0..n.div_ceil(BATCH) {
            let noise = key.at(batch as u64).normal((BATCH, self.latent), &self.device)?;
            let images = images_of(generator, &noise, class.rows.as_ref())?;
            (all.size, all.channels) = (images.size, images.channels);
            all.pixels.extend(images.pixels);
        }
        all.pixels.truncate(n * all.size.area() * all.channels);
        Ok(View::new(all)?)
    }

    /// What the judge makes of features: a row of logits, one a class, for each.
    fn logits(&self, found: &FeatureMatrix) -> Result<Vec<Vec<f32>>> {
        let rows = Tensor::from_slice(&found.values, (found.len(), found.dims), &self.device)?;
        Ok(self.judge.network().logits(&rows)?.to_vec2()?)
    }
}

impl Observer<GanStep> for Monitor {
    fn phase(&self) -> Phase {
        Phase::Measure
    }

    fn wants(&self, iteration: u64, total: u64) -> bool {
        let every = self.config.every;
        every > 0 && (iteration.is_multiple_of(every) || iteration == total)
    }

    fn on_step(&mut self, step: &mut GanStep, event: &mut Event<'_>) -> Result<()> {
        if self.wants(event.position.iteration, event.total) {
            event.figures.extend(self.figures(step.generator())?);
        }
        Ok(())
    }
}
