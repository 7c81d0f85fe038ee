//! What an evaluation is given: images, words for them, and where they come from.

use std::{path::PathBuf, str::FromStr};

use cellforge_data::View;
use serde::{Deserialize, Serialize};

use super::features::SETTING;
use crate::Error;

/// What images are compared by.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeatureSource {
    /// The features of a trained classifier's last layer: the folder of a checkpoint, of a run, or of a study (its residual network).
    Classifier(PathBuf),
    /// The pixels, averaged to a small image.
    Pixels,
    /// An encoder that learns in the run, from real images without their classes.
    SelfSupervised,
    /// Inception-v3 with the weights of this file: the `.pth` of pytorch-fid or torch-fidelity, or a safetensors file.
    Inception(PathBuf),
    /// DINOv2 with the weights of this file: a safetensors file, or a `.pth` or `.bin` of PyTorch.
    DinoV2(PathBuf),
    /// Features that another program computed: a safetensors file with matrices `real`, `synthetic` and perhaps `holdout`, one row per
    /// image, in the order of the images' names within each set.
    File(PathBuf),
}

impl FeatureSource {
    /// The texts that name a source, as the setting `inputs.features` takes them.
    pub const FORMS: &'static str =
        "resnet:DIR, pixels, self-supervised, inception:FILE, dinov2:FILE and safetensors:FILE";
}

impl FromStr for FeatureSource {
    type Err = Error;

    /// Reads one of [`FeatureSource::FORMS`]; `cnn:DIR` and `classifier:DIR` are `resnet:DIR`, of whatever kind the network is.
    ///
    /// # Errors
    /// [`Error::Setting`] for any other text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            None if text == "pixels" => Self::Pixels,
            None if text == "self-supervised" => Self::SelfSupervised,
            Some(("resnet" | "cnn" | "classifier", path)) if !path.is_empty() => Self::Classifier(path.into()),
            Some(("inception", path)) if !path.is_empty() => Self::Inception(path.into()),
            Some(("dinov2", path)) if !path.is_empty() => Self::DinoV2(path.into()),
            Some(("safetensors", path)) if !path.is_empty() => Self::File(path.into()),
            _ => {
                let problem = format!("{text:?} is none of {}", Self::FORMS);
                return Err(Error::Setting { setting: SETTING, problem });
            }
        })
    }
}

/// A set of images and its source.
#[derive(Clone, Debug)]
pub struct Part {
    /// The images.
    pub images: View,
    /// Where they come from, in words.
    pub source: String,
}

impl Part {
    /// Images that come from `source`.
    pub fn new(images: View, source: impl Into<String>) -> Self {
        Self { images, source: source.into() }
    }
}

/// What is evaluated. All sets have images of one size. Classes are known by name, or by the folder of that name: those of the synthetic
/// images are compared, be it one alone, and the other sets have each of them.
#[derive(Clone, Debug)]
pub struct EvaluationInputs {
    /// The real images that the generators learned from.
    pub real: Part,
    /// Real images of other patients, which no generator saw.
    pub holdout: Option<Part>,
    /// The synthetic images.
    pub synthetic: Part,
    /// What images are compared by, the main ones first: verdicts rest on them. By the others fidelity is measured as well.
    pub features: Vec<FeatureSource>,
    /// The discriminator of each class, for the test of membership by its score: folders of trained GANs. Empty leaves the test out.
    pub discriminators: Vec<PathBuf>,
    /// What the images are called in verdicts, in the report and in the data sheet.
    pub words: Words,
    /// Where the images come from, for the report and the data sheet.
    pub provenance: Provenance,
}

impl EvaluationInputs {
    /// Synthetic images against real ones, with no held-out images and no discriminators; nothing is known about their source.
    #[must_use]
    pub fn new(real: Part, synthetic: Part, features: FeatureSource) -> Self {
        Self {
            real,
            holdout: None,
            synthetic,
            features: vec![features],
            discriminators: Vec::new(),
            words: Words::default(),
            provenance: Provenance::default(),
        }
    }
}

/// What the images are called in prose.
///
/// ```
/// use cellforge_assess::evaluation::Words;
///
/// let words = Words::from_noun("radiograph").unwrap();
/// assert_eq!((words.one.as_str(), words.many.as_str()), ("radiograph", "radiographs"));
/// assert_eq!(Words::from_noun("biopsy/biopsies").unwrap().many, "biopsies");
/// assert_eq!(Words::default().many, "images");
/// assert!(Words::from_noun("biopsy/").is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// One of them, e.g. `image`.
    pub one: String,
    /// Several, e.g. `images`.
    pub many: String,
}

impl Words {
    /// The noun for one image, whose plural ends in s, or both forms as `one/many`. None where a form is empty.
    #[must_use]
    pub fn from_noun(noun: &str) -> Option<Self> {
        let (one, many) = match noun.split_once('/') {
            Some((one, many)) => (one.trim().to_owned(), many.trim().to_owned()),
            None => (noun.trim().to_owned(), format!("{}s", noun.trim())),
        };
        let whole = |word: &str| !word.is_empty() && !word.contains(['/', '\n', '\r']);
        (whole(&one) && whole(&many)).then_some(Self { one, many })
    }

    /// The plural as the first word of a sentence.
    #[must_use]
    pub fn many_at_start(&self) -> String {
        let mut letters = self.many.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    }
}

impl Default for Words {
    fn default() -> Self {
        Self { one: "image".to_owned(), many: "images".to_owned() }
    }
}

/// Where the images come from, as the caller knows it. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// What made the synthetic images, in words.
    pub generator: Option<String>,
    /// The seed of the generation.
    pub seed: Option<u64>,
    /// How many of the held-out images the generator was trained on, where that is known.
    #[serde(default)]
    pub holdout_seen: Option<usize>,
    /// The command that repeats the evaluation; empty where there is none.
    pub command: String,
    /// What must be read before any figure: banners of the report and quotations of the data sheet.
    pub notices: Vec<Notice>,
    /// Licence and citation of the real images, for the data sheet.
    pub licence: Option<String>,
    /// Whether a program drew the real images. They show no patient, so pictures of them may be shared.
    pub drawn_by_program: bool,
}

/// What must be read before any figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The point of it, in a few words with a full stop.
    pub title: String,
    /// The rest, in sentences.
    pub sentence: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_have_a_plural() {
        assert_eq!(Words::from_noun("image"), Some(Words::default()));
        assert_eq!(Words::from_noun(" slice / slices "), Words::from_noun("slice"));
        for bad in ["", " ", "/", "a/", "/b", "a/b/c", "two\nlines"] {
            assert_eq!(Words::from_noun(bad), None, "{bad:?}");
        }
        assert_eq!(Words::from_noun("œil/yeux").unwrap().many_at_start(), "Yeux");
    }
}
