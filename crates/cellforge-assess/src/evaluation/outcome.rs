//! What an evaluation found: the fields of `evaluation.json`, which `SCHEMA.md` of this crate describes.

use std::collections::BTreeMap;

use cellforge_data::ImageSize;
use cellforge_eval::{
    Estimate, Fidelity, ImageScore, Interval, Prdc,
    privacy::{Finding, Privacy},
};
use cellforge_train::Seen;
use serde::{Deserialize, Serialize};

use super::{Comparison, EvaluationConfig, Provenance, Words};
use crate::{
    Versions, copies::CopiesPart, reidentification::Reidentification, two_sample::TwoSample, utility::Utility,
};

/// The version of `evaluation.json`. It grows by one whenever a field is removed, renamed or changes its meaning.
pub const EVALUATION_SCHEMA: u32 = 4;

/// What synthetic images are worth, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// [`EVALUATION_SCHEMA`] at the time of writing.
    pub schema_version: u32,
    /// The answers to the four questions, drawn from the figures below.
    pub verdicts: Vec<Verdict>,
    /// What images were compared by.
    pub features: FeatureInfo,
    /// Names of the classes that are compared, in the order of the real images: those of the synthetic ones.
    pub classes: Vec<String>,
    /// The images that were compared.
    pub sets: SetsInfo,
    /// Copies of training images among the synthetic ones.
    pub copies: CopiesPart,
    /// Do they look real, and do they cover what is real?
    pub fidelity: Option<FidelityPart>,
    /// The same by other features, in the order in which they were given; empty where `fidelity` was not measured.
    #[serde(default)]
    pub other_features: Vec<OtherFeatures>,
    /// Can they be told from real images?
    pub two_sample: Option<TwoSample>,
    /// Do they leak a patient?
    pub privacy: Option<PrivacyPart>,
    /// Can a model be trained on them?
    pub utility: Option<UtilityPart>,
    /// Parts that were not measured, by name (`fidelity`, `two_sample`, `privacy`, `utility`, `discriminator`), and why.
    pub not_measured: BTreeMap<String, String>,
    /// The images in the plane of their two largest principal components.
    pub scatter: Scatter,
    /// Pictures of the closest pairs.
    pub pairs: Vec<PairImage>,
    /// What the images are called.
    pub words: Words,
    /// Where the images come from.
    pub provenance: Provenance,
    /// The settings.
    pub settings: EvaluationConfig,
    /// What it was computed with.
    pub versions: Versions,
    /// Seconds that each part took when it was last computed.
    pub seconds: BTreeMap<String, f64>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `realism`, `coverage`, `utility` or `privacy`.
    pub about: String,
    /// The question.
    pub question: String,
    /// The answer in a word.
    pub answer: Answer,
    /// The answer in one or two sentences, with the figures it rests on.
    pub sentence: String,
}

/// An answer in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The intervals show that it is as one would wish.
    Good,
    /// Partly so.
    Caution,
    /// The intervals show that it is not.
    Bad,
    /// The intervals are too wide to tell, or it was not measured.
    Unknown,
}

impl Answer {
    /// It in a text: "good", "with care", "bad" or "cannot tell".
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Caution => "with care",
            Self::Bad => "bad",
            Self::Unknown => "cannot tell",
        }
    }
}

/// Where features come from. Two families that agree say more than two networks of one: they have not learned the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureFamily {
    /// A classifier that was trained on real images of the same kind, on their classes.
    Classifier,
    /// No network.
    Pixels,
    /// A network that learned in the run, from real images without their classes.
    #[serde(rename = "self_supervised")]
    SelfSupervised,
    /// Inception-v3, trained on the classes of photographs.
    Inception,
    /// DINOv2, trained on photographs without labels.
    DinoV2,
    /// Another program's, of which nothing is known.
    Supplied,
}

/// What images were compared by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// Where they come from.
    pub family: FeatureFamily,
    /// Short name, e.g. `resnet512`, `pixels` or `inception`.
    pub name: String,
    /// Name of the Fréchet distance of these features, e.g. `fd_resnet512`; `fid` for Inception-v3 alone.
    pub metric: String,
    /// Numbers per image.
    pub dims: usize,
    /// Where they come from, in words.
    pub source: String,
    /// How many images of each set (`real`, `holdout`, `synthetic`) the network was trained on; none where it is not a classifier, or its
    /// checkpoint does not say.
    pub seen: Option<BTreeMap<String, Seen>>,
}

impl FeatureInfo {
    /// Whether a classifier whose features these are was trained on the images that it compares, in sentences; `None` for other features.
    #[must_use]
    pub fn seen_in_words(&self, words: &Words) -> Option<String> {
        if self.family != FeatureFamily::Classifier {
            return None;
        }
        let many = &words.many;
        let Some(seen) = &self.seen else {
            return Some(format!(
                "Whether the network of these features was trained on any of these {many} cannot be known: its checkpoint does not \
                 record it."
            ));
        };
        let list = |of: fn(&Seen) -> usize| -> Option<String> {
            let one = |(set, seen): (&String, &Seen)| {
                let set = if set == "holdout" { "held-out" } else { set };
                (of(seen) > 0).then(|| format!("{} of the {} {set} {many}", of(seen), seen.images))
            };
            let found: Vec<String> = seen.iter().filter_map(one).collect();
            (!found.is_empty()).then(|| found.join(" and on "))
        };
        let trained = match list(|seen| seen.train) {
            Some(list) => format!(
                "The network of these features was trained on {list}. It has learned these, so it may find less of a difference, or of a \
                 leak, than there is."
            ),
            None => format!("The network of these features was trained on none of these {many}."),
        };
        let chosen = list(|seen| seen.val).map(|list| format!(" Its best epoch was chosen on {list}."));
        let judged = seen
            .get("holdout")
            .is_some_and(|seen| seen.train > 0)
            .then(|| format!(" Held-out {many} that it has seen are no fair reference: take a network that has not."));
        Some([Some(trained), chosen, judged].into_iter().flatten().collect())
    }
}

/// How close the synthetic images come to the real ones by other features than the main ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherFeatures {
    /// What images were compared by.
    pub features: FeatureInfo,
    /// The figures.
    pub fidelity: FidelityPart,
}

impl SetInfo {
    /// What of this set was not compared, in words, where that is anything.
    pub(crate) fn left_out_in_words(&self) -> Option<String> {
        let all: Vec<String> = self.left_out.iter().map(|(class, n)| format!("{n} {class}")).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

impl Evaluation {
    /// What is known of how each set was read, a sentence each: what lies beside its images, and how their intensities became grey levels.
    #[must_use]
    pub fn reading(&self) -> Vec<String> {
        let all = [
            ("training", Some(&self.sets.real)),
            ("held-out", self.sets.holdout.as_ref()),
            ("synthetic", Some(&self.sets.synthetic)),
        ];
        let mut told = Vec::new();
        for (name, set) in all.into_iter().filter_map(|(name, set)| Some((name, set?))) {
            let many = &self.words.many;
            if !set.not_read.is_empty() {
                told.push(format!("Left out beside the {name} {many}: {}.", set.not_read.join("; ")));
            }
            if let Some(intensities) = &set.intensities {
                told.push(format!("Intensities of the {name} {many}, from black to white: {intensities}."));
            }
        }
        told
    }

    /// What was not compared, because there are no synthetic images of its class; `None` where nothing was left out.
    #[must_use]
    pub fn left_out(&self) -> Option<String> {
        let sets = [("real", Some(&self.sets.real)), ("held-out", self.sets.holdout.as_ref())];
        let of = |(name, set): (&str, Option<&SetInfo>)| {
            Some(format!("{} of the {name} {}", set?.left_out_in_words()?, self.words.many))
        };
        let found: Vec<String> = sets.into_iter().filter_map(of).collect();
        (!found.is_empty())
            .then(|| format!("{}, of which there are no synthetic {}", found.join(" and "), self.words.many))
    }

    /// The families of features by which fidelity was measured, each once, that of the main ones first.
    #[must_use]
    pub fn families(&self) -> Vec<FeatureFamily> {
        let main = self.fidelity.as_ref().map(|_| self.features.family);
        let mut families = Vec::new();
        for family in main.into_iter().chain(self.other_features.iter().map(|other| other.features.family)) {
            if !families.contains(&family) {
                families.push(family);
            }
        }
        families
    }
}

/// The images that were compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetsInfo {
    /// Size of the images in pixels: a number for squares, and otherwise a text of width x height.
    pub side: ImageSize,
    /// 3 for colour, 1 for grey.
    pub channels: usize,
    /// The images that the generators learned from.
    pub real: SetInfo,
    /// Images of other patients.
    pub holdout: Option<SetInfo>,
    /// The synthetic images.
    pub synthetic: SetInfo,
    /// By what names become pseudonyms in the report: a hash of the training images that stands in no report.
    #[serde(default)]
    pub pseudonym_key: String,
    /// Whether no synthetic image bears the name of a real one or of a patient, so that a report can call it by its name.
    #[serde(default)]
    pub own_names: bool,
    /// Patients with images in both `real` and `holdout`; 0 is as it should be. None where patients are not known.
    pub shared_patients: Option<usize>,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetInfo {
    /// Where the images come from.
    pub source: String,
    /// Images used, by class.
    pub images_per_class: BTreeMap<String, usize>,
    /// Images used.
    pub images: usize,
    /// Images there were, before `max_images`.
    pub available: usize,
    /// Images of classes that were not compared, because the synthetic images have none of them. Copies were looked for among them too.
    pub left_out: BTreeMap<String, usize>,
    /// What lies beside the images and is none of them, counted by ending and reason, in words.
    #[serde(default)]
    pub not_read: Vec<String>,
    /// How intensities of more than 8 bits became grey levels, in words, where there are such.
    #[serde(default)]
    pub intensities: Option<String>,
    /// Patients of the images used, where all are known.
    pub patients: Option<usize>,
    /// Kish's effective number of these patients, `(Σ nᵢ)² / Σ nᵢ²` for `nᵢ` images of patient `i`: as many patients with one number of
    /// images would tell as much.
    pub effective_patients: Option<f64>,
    /// Patients with images of each class.
    pub patients_per_class: Option<BTreeMap<String, usize>>,
    /// Kish's effective number of the patients of each class.
    pub effective_patients_per_class: Option<BTreeMap<String, f64>>,
    /// SHA-256 of the images used, with their labels, names and groups.
    pub fingerprint: String,
}

/// How close the synthetic images come to the real ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FidelityPart {
    /// Images of each class on each side of every comparison. Distances depend on the numbers of images, so all comparisons have the same.
    pub images_per_side: BTreeMap<String, usize>,
    /// How the sets of real images were drawn that are compared with each other.
    pub floor: FloorInfo,
    /// All classes together.
    pub pooled: FidelityScope,
    /// Each class by itself.
    pub per_class: BTreeMap<String, FidelityScope>,
    /// Every synthetic image beside the real images of its class: the held-out ones of `against_holdout`, or without these the real
    /// ones of `against_real`.
    pub images: Vec<ScoredImage>,
}

impl FidelityPart {
    /// What tables show: all classes together, where there are several, then each.
    #[must_use]
    pub fn scopes<'a>(&'a self, classes: &'a [String]) -> Vec<(&'a str, &'a FidelityScope)> {
        let all = (classes.len() != 1).then_some(("All classes", &self.pooled));
        let each = classes.iter().filter_map(|class| Some((class.as_str(), self.per_class.get(class)?)));
        all.into_iter().chain(each).collect()
    }
}

/// How the sets of real images were drawn that are compared with each other: one of as many effective patients as the holdout has (half
/// of them where the holdout has more, or there is none), and the rest, without a patient in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorInfo {
    /// Number of such pairs.
    pub draws: usize,
    /// Whether the two sets have different patients; otherwise patients are not known and images were dealt out.
    pub by_patient: bool,
    /// Kish's effective number of patients of the two sets, in the mean of all pairs.
    pub effective_patients: [Option<f64>; 2],
}

/// Real against real images, of one pair: the rest against the set that is as large as the holdout. All as measured, without intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorDraw {
    /// The Fréchet distance as measured.
    pub frechet: f64,
    /// Precision, recall, density and coverage.
    #[serde(flatten)]
    pub prdc: Prdc,
}

/// One synthetic image beside real ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoredImage {
    /// Its name.
    pub image: String,
    /// Its class.
    pub class: String,
    /// Its realism and its rarity.
    #[serde(flatten)]
    pub score: ImageScore,
}

/// The comparisons of one scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FidelityScope {
    /// Images on each side.
    pub images: usize,
    /// Synthetic images against real ones that the generator has seen, of as many patients as the holdout has: it can come nearer to them
    /// than other patients do.
    pub against_real: Fidelity,
    /// Real against real: real images of the other patients against the same ones.
    pub floor: Fidelity,
    /// Synthetic images against held-out ones.
    pub against_holdout: Option<Fidelity>,
    /// Real against held-out: the real images of the other patients against the held-out ones.
    pub real_against_holdout: Option<Fidelity>,
    /// The feature likelihood divergence ([`cellforge_eval::fld`]) of the synthetic images: fitted to the real images of the other
    /// patients, judged on the held-out ones. None without these, or where one of the sets is of a single patient.
    pub fld: Option<Estimate>,
    /// The same of the real images of `against_real`.
    pub fld_real: Option<Estimate>,
    /// Real against real, once for each pair of sets without a patient in common.
    pub floors: Vec<FloorDraw>,
    /// The least and the largest Fréchet distance of `floors`, as measured: to be held against `frechet_measured`.
    pub floor_range: Interval,
    /// The figures that verdicts rest on, each against that of real images. Verdicts take them of each class by itself.
    pub comparisons: Vec<Comparison>,
}

impl FidelityScope {
    /// What verdicts rest on, synthetic and real: both against the held-out images, which neither has seen, where there are some; else
    /// against those of the real ones that are as many patients.
    #[must_use]
    pub fn judged(&self) -> [&Fidelity; 2] {
        match (&self.against_holdout, &self.real_against_holdout) {
            (Some(synthetic), Some(real)) => [synthetic, real],
            _ => [&self.against_real, &self.floor],
        }
    }

    /// Which real images the pair of [`judged`](Self::judged) stands against, as a heading has it: `against held-out` or `against real`.
    #[must_use]
    pub fn judged_against(&self) -> &'static str {
        if self.against_holdout.is_some() { "against held-out" } else { "against real" }
    }
}

/// Whether the synthetic images give away whom the generators learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrivacyPart {
    /// One finding per test, adjusted for their number.
    pub findings: Vec<Finding>,
    /// All figures.
    pub figures: Privacy,
    /// Whether images of unseen patients can be told by patient, and the training patients to whom synthetic images are linked most.
    /// None where that was not measured.
    pub reidentification: Option<Reidentification>,
}

/// Whether a classifier can be trained on the synthetic images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UtilityPart {
    /// Which real images the networks were judged on, in words.
    pub judged_on: String,
    /// All figures.
    pub figures: Utility,
}

/// Images in the plane of two principal components, which were computed from the real images shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Share of the real images' variance along each of the two axes.
    pub explained: [f64; 2],
    /// Real images: x, y and label (a position in `classes`); at most 600.
    pub real: Vec<(f64, f64, u32)>,
    /// Held-out images.
    pub holdout: Vec<(f64, f64, u32)>,
    /// Synthetic images.
    pub synthetic: Vec<(f64, f64, u32)>,
}

/// A picture of a synthetic image beside the training image nearest to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairImage {
    /// Space in which the two are near; `copies` for a copy, whose distances are those of the search for copies.
    pub space: String,
    /// PNG file, relative to the folder of `evaluation.json`: the synthetic image, turned as it is nearest, and the training image.
    pub path: String,
    /// Name of the synthetic image.
    pub synthetic: String,
    /// Name of the training image.
    pub real: String,
    /// Distance of the two.
    pub distance: f64,
    /// Distance of the synthetic image to the nearest held-out image.
    pub holdout_distance: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_has_seen_is_said() {
        let info = |family, seen: Option<&[(&str, usize, usize)]>| FeatureInfo {
            family,
            name: "resnet512".to_owned(),
            metric: "fd_resnet512".to_owned(),
            dims: 512,
            source: String::new(),
            seen: seen.map(|sets| {
                let of = |&(set, train, val): &(&str, usize, usize)| (set.to_owned(), Seen { images: 100, train, val });
                sets.iter().map(of).collect()
            }),
        };
        let said = |seen: Option<&[(&str, usize, usize)]>| {
            info(FeatureFamily::Classifier, seen).seen_in_words(&Words::default()).unwrap()
        };
        assert!(said(None).contains("cannot be known"));
        assert!(said(Some(&[("real", 0, 0)])).ends_with("was trained on none of these images."));
        let usual = said(Some(&[("holdout", 0, 0), ("real", 80, 10), ("synthetic", 0, 0)]));
        assert!(usual.contains("trained on 80 of the 100 real images. "), "{usual}");
        assert!(usual.ends_with("Its best epoch was chosen on 10 of the 100 real images."), "{usual}");
        let wrong = said(Some(&[("holdout", 3, 0), ("real", 80, 0)]));
        assert!(wrong.contains("on 3 of the 100 held-out images and on 80 of the 100 real images."), "{wrong}");
        assert!(wrong.contains("no fair reference"), "{wrong}");
        assert_eq!(info(FeatureFamily::Pixels, None).seen_in_words(&Words::default()), None);
    }
}
