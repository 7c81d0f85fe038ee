//! What a two-sample test found.

use std::collections::BTreeMap;

use cellforge_eval::{
    Estimate,
    two_sample::{Separation, StatisticFinding, above},
};
use serde::{Deserialize, Serialize};

use super::{Difference, TwoSampleConfig, TwoSampleData, draws::Draws, statistics};
use crate::evaluation::{Words, digits};

/// Whether synthetic images can be told from real ones.
#[derive(Clone, Debug, PartialEq)]
pub enum ToldApart {
    /// A network or a statistic tells them apart.
    Yes,
    /// Neither does, and both would have seen one of the planted differences at least.
    No,
    /// There is too little to judge by, for this reason.
    Unknown(String),
}

/// The outcome of a two-sample test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TwoSample {
    /// Which real images the synthetic ones were to be told from, in words.
    pub judged_on: String,
    /// Images of each class on each side; empty where there are too few.
    pub images_per_side: BTreeMap<String, usize>,
    /// Kish's effective number of patients of each class in a half of the real patients, the least over all halves. Images stand for patients
    /// where these are not known.
    pub effective_patients: BTreeMap<String, f64>,
    /// Whether patients of the real images are known.
    pub by_patient: bool,
    /// Why there is too little to judge by.
    pub too_few: Option<String>,
    /// What the networks found. None where none was trained.
    pub network: Option<NetworkTest>,
    /// Statistics of single images, the most telling first.
    pub statistics: Vec<StatisticTest>,
    /// Differences that were planted in real images.
    pub planted: Vec<PlantedResult>,
    /// Pictures of synthetic images, and where the network sees it.
    pub pictures: Vec<TellingImage>,
    /// Largest adjusted p-value with which a statistic tells the images apart: half of what the level of the intervals leaves.
    pub limit: f64,
}

/// What the networks found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkTest {
    /// Synthetic images against half of the real patients, over all seeds.
    pub synthetic: Separation,
    /// The other half of the real patients against the same half, of each seed.
    pub real: Vec<Separation>,
}

impl NetworkTest {
    /// Whether the network tells the synthetic images apart: by its area over all classes, by that of one class, or by the images that it finds
    /// at 1% false alarms. Each has to lie above what it is between all real halves ([`above`]).
    #[must_use]
    pub fn tells(&self) -> bool {
        told(&self.synthetic, &self.real)
    }

    /// The area of real against real: its mean over the seeds, and the ends of all their intervals.
    #[must_use]
    pub fn real_auc(&self) -> Estimate {
        over(self.real.iter().map(|real| real.auc))
    }

    /// The share of real images found at 1% false alarms, in the same way.
    #[must_use]
    pub fn real_found(&self) -> Estimate {
        over(self.real.iter().map(|real| real.found))
    }
}

/// Mean, least lower end and largest upper end.
fn over(found: impl ExactSizeIterator<Item = Estimate>) -> Estimate {
    let n = found.len().max(1) as f64;
    let start = Estimate { value: 0.0, low: f64::INFINITY, high: f64::NEG_INFINITY };
    found.fold(start, |all, one| Estimate {
        value: all.value + one.value / n,
        low: all.low.min(one.low),
        high: all.high.max(one.high),
    })
}

/// See [`NetworkTest::tells`].
pub(super) fn told(found: &Separation, real: &[Separation]) -> bool {
    above(&found.auc, real.iter().map(|real| real.auc))
        || above(&found.found, real.iter().map(|real| real.found))
        || (0..found.per_class.len()).any(|c| above(&found.per_class[c], real.iter().map(|real| real.per_class[c])))
}

/// One statistic in one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatisticTest {
    /// What it is, in words.
    pub name: String,
    /// The class.
    pub class: String,
    /// Whether it is a share, from 0 to 1.
    pub is_share: bool,
    /// Area under its ROC curve: the share of pairs in which the synthetic image has the larger value. 0 separates as well as 1.
    pub auc: Estimate,
    /// Share of synthetic images outside the central 98% of the real ones.
    pub outside: f64,
    /// Mean over the real images.
    pub real: f64,
    /// Mean over the synthetic images.
    pub synthetic: f64,
    /// The p-value, adjusted for all statistics and classes.
    pub p: f64,
}

impl StatisticTest {
    /// How well it separates, from 0.5 to 1.
    #[must_use]
    pub fn separation(&self) -> f64 {
        self.auc.value.max(1.0 - self.auc.value)
    }

    /// It with both means, for a list: "share of pixels with grey levels from 1 to 19: synthetic 2.5%, real 4.1% (AUC 0.97)".
    #[must_use]
    pub fn in_words(&self) -> String {
        let [synthetic, real] = [self.synthetic, self.real].map(|x| self.shown(x));
        format!("{}: synthetic {synthetic}, real {real} (AUC {:.2})", self.name, self.separation())
    }

    /// One of its means.
    #[must_use]
    pub fn shown(&self, mean: f64) -> String {
        if self.is_share { format!("{}%", digits(100.0 * mean)) } else { digits(mean) }
    }
}

/// Names the findings and sorts them: told ones first, then by how well they separate.
pub(super) fn named(found: &[StatisticFinding], channels: usize, classes: &[String]) -> Vec<StatisticTest> {
    let names = statistics::names(channels);
    let mut all: Vec<StatisticTest> = found
        .iter()
        .map(|one| {
            let (name, unit) = &names[one.statistic];
            StatisticTest {
                name: name.clone(),
                class: classes[one.class].clone(),
                is_share: *unit == statistics::Unit::Share,
                auc: one.auc,
                outside: one.outside,
                real: one.first,
                synthetic: one.second,
                p: one.p,
            }
        })
        .collect();
    all.sort_by(|a, b| a.p.total_cmp(&b.p).then(b.separation().total_cmp(&a.separation())));
    all
}

/// A difference that was planted in real images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlantedResult {
    /// What was done.
    pub difference: Difference,
    /// Least adjusted p-value of the statistics.
    pub statistics_p: f64,
    /// What a network found, where the statistics did not find it.
    pub network: Option<Separation>,
    /// Whether the test finds it.
    pub found: bool,
}

/// A synthetic image, and where the network sees that it is one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TellingImage {
    /// PNG file, relative to the folder of the result: the image, and the image lit where the network's score rests on it. No real image is shown.
    pub path: String,
    /// Name of the synthetic image.
    pub synthetic: String,
    /// Its class.
    pub class: String,
    /// Its score: the logarithm of the odds that it is synthetic.
    pub score: f64,
}

/// The largest p-value that tells: the other half of the error is the networks'.
pub(super) fn limit(config: &TwoSampleConfig) -> f64 {
    (1.0 - config.bootstrap.level) / 2.0
}

impl TwoSample {
    pub(super) fn new(config: &TwoSampleConfig, data: &TwoSampleData, draws: &Draws) -> Self {
        let classes = data.real.classes().iter().cloned();
        Self {
            images_per_side: classes.clone().zip(draws.per_side.iter().copied()).collect(),
            effective_patients: classes.zip(draws.effective_patients.iter().copied()).collect(),
            too_few: None,
            ..Self::too_few(config, data, String::new())
        }
    }

    pub(super) fn too_few(config: &TwoSampleConfig, data: &TwoSampleData, reason: String) -> Self {
        Self {
            judged_on: data.judged_on.clone(),
            images_per_side: BTreeMap::new(),
            effective_patients: BTreeMap::new(),
            by_patient: data.real.has_groups(),
            too_few: Some(reason),
            network: None,
            statistics: Vec::new(),
            planted: Vec::new(),
            pictures: Vec::new(),
            limit: limit(config),
        }
    }

    /// Whether the network tells the images apart.
    #[must_use]
    pub fn told_by_network(&self) -> bool {
        self.network.as_ref().is_some_and(NetworkTest::tells)
    }

    /// The statistics that tell the images apart.
    pub fn telling_statistics(&self) -> impl Iterator<Item = &StatisticTest> {
        self.statistics.iter().filter(|one| one.p <= self.limit)
    }

    /// The weakest planted difference of each kind that the test finds.
    pub fn weakest_found(&self) -> impl Iterator<Item = Difference> {
        self.planted.iter().filter(|planted| planted.found).map(|planted| planted.difference)
    }

    /// Whether the synthetic images can be told from real ones.
    #[must_use]
    pub fn told_apart(&self) -> ToldApart {
        if let Some(reason) = &self.too_few {
            ToldApart::Unknown(reason.clone())
        } else if self.told_by_network() || self.telling_statistics().next().is_some() {
            ToldApart::Yes
        } else if self.network.is_none() {
            ToldApart::Unknown("no network was trained to tell them apart".to_owned())
        } else if self.planted.is_empty() {
            ToldApart::Unknown("how strong a difference the test would have seen was not tried".to_owned())
        } else if self.weakest_found().next().is_none() {
            ToldApart::Unknown(
                "the test is too weak here: it finds none of the differences that were planted".to_owned(),
            )
        } else {
            ToldApart::No
        }
    }

    /// The answer in sentences, with the figures it rests on.
    #[must_use]
    pub fn in_words(&self, words: &Words) -> String {
        let (one, many) = (&words.one, &words.many);
        let start = match self.told_apart() {
            ToldApart::Unknown(reason) => format!("Whether they can be told from real {many} is not known: {reason}."),
            ToldApart::Yes => format!("They can be told from real {many}."),
            ToldApart::No => format!(
                "They cannot be told from real {many}, neither by a network nor by any of {} statistics.",
                self.statistics.len()
            ),
        };
        let mut sentences = vec![start];
        if let Some(network) = &self.network {
            let (synthetic, real) = (network.synthetic.auc, network.real_auc());
            sentences.push(format!(
                "A network trained for it tells them from {} with AUC {:.3} ({:.3} to {:.3}).",
                self.judged_on, synthetic.value, synthetic.low, synthetic.high
            ));
            sentences.push(format!(
                "It tells real {many} of other {} from each other with {:.3} ({:.3} to {:.3}).",
                if self.by_patient { "patients".to_owned() } else { format!("halves, one {one} a unit,") },
                real.value,
                real.low,
                real.high
            ));
        }
        let mut names: Vec<&str> = Vec::new();
        let mut telling = Vec::new();
        for statistic in self.telling_statistics() {
            if !names.contains(&statistic.name.as_str()) && telling.len() < 3 {
                names.push(&statistic.name);
                telling.push(format!("{}, {}", statistic.class, statistic.in_words()));
            }
        }
        if !telling.is_empty() {
            sentences.push(format!("Most telling: {}.", telling.join("; ")));
        }
        let found: Vec<String> = self.weakest_found().map(|difference| difference.to_string()).collect();
        if self.told_apart() == ToldApart::No {
            sentences.push(format!("In real {many} the test finds {}.", listed(&found)));
            let missed: Vec<String> = self.missed().map(|difference| difference.to_string()).collect();
            if !missed.is_empty() {
                sentences.push(format!("It does not find {}.", listed(&missed)));
            }
        }
        sentences.join(" ")
    }

    /// The strongest planted difference of each kind of which the test finds none.
    fn missed(&self) -> impl Iterator<Item = Difference> {
        let kind = |planted: &PlantedResult| std::mem::discriminant(&planted.difference);
        let last_of_kind =
            move |i: usize| self.planted.get(i + 1).is_none_or(|next| kind(next) != kind(&self.planted[i]));
        (0..self.planted.len())
            .filter(move |&i| last_of_kind(i) && !self.planted[i].found)
            .map(move |i| self.planted[i].difference)
    }
}

/// `a`, `a and b`, or `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(value: f64, half: f64) -> Estimate {
        Estimate { value, low: value - half, high: value + half }
    }

    fn separation(auc: f64, half: f64) -> Separation {
        Separation { auc: estimate(auc, half), per_class: vec![estimate(auc, half); 2], found: estimate(0.02, 0.01) }
    }

    fn result(auc: f64, p: f64, planted: &[(Difference, bool)]) -> TwoSample {
        let statistic = StatisticTest {
            name: "share of pixels with grey levels from 1 to 19".to_owned(),
            class: "a".to_owned(),
            is_share: true,
            auc: estimate(0.03, 0.01),
            outside: 0.5,
            real: 0.041,
            synthetic: 0.025,
            p,
        };
        TwoSample {
            judged_on: "the held-out images".to_owned(),
            images_per_side: [("a".to_owned(), 100)].into(),
            effective_patients: [("a".to_owned(), 8.0)].into(),
            by_patient: true,
            too_few: None,
            network: Some(NetworkTest {
                synthetic: separation(auc, 0.01),
                real: vec![separation(0.55, 0.05), separation(0.61, 0.05)],
            }),
            statistics: vec![statistic],
            planted: planted
                .iter()
                .map(|&(difference, found)| PlantedResult { difference, statistics_p: 1.0, network: None, found })
                .collect(),
            pictures: Vec::new(),
            limit: 0.025,
        }
    }

    #[test]
    fn either_part_tells_them_apart() {
        let seen =
            [(Difference::Checkerboard(1), true), (Difference::Labels(0.1), false), (Difference::Labels(0.25), false)];
        // Real against real reaches 0.66.
        assert_eq!(result(0.68, 1.0, &seen).told_apart(), ToldApart::Yes);
        assert_eq!(result(0.66, 1.0, &seen).told_apart(), ToldApart::No);
        assert_eq!(result(0.5, 0.025, &seen).told_apart(), ToldApart::Yes);
        let yes = result(0.99, 0.002, &[]).in_words(&Words::default());
        assert!(yes.starts_with("They can be told from real images."), "{yes}");
        assert!(yes.contains("AUC 0.990 (0.980 to 1.000)") && yes.contains("0.580 (0.500 to 0.660)"), "{yes}");
        assert!(yes.contains("grey levels from 1 to 19: synthetic 2.50%, real 4.10% (AUC 0.97)"), "{yes}");
    }

    #[test]
    fn cannot_be_told_says_what_would_have_been_seen() {
        let seen =
            [(Difference::Checkerboard(1), true), (Difference::Labels(0.1), false), (Difference::Labels(0.25), false)];
        let no = result(0.6, 1.0, &seen).in_words(&Words::default());
        assert!(no.contains("cannot be told") && no.contains("finds a checkerboard of 1 grey levels."), "{no}");
        assert!(no.contains("does not find wrong labels of 25%."), "{no}");
        // A test that saw nothing, or was not tried, or had too little, does not say so.
        let mut few = result(0.6, 1.0, &seen);
        few.too_few = Some("there are 5".to_owned());
        let mut alone = result(0.6, 1.0, &seen);
        alone.network = None;
        for (weak, why) in [
            (result(0.6, 1.0, &[]), "not tried"),
            (result(0.6, 1.0, &seen[1..]), "too weak"),
            (few, "there are 5"),
            (alone, "no network"),
        ] {
            let ToldApart::Unknown(reason) = weak.told_apart() else { panic!("{:?}", weak.told_apart()) };
            assert!(reason.contains(why), "{reason}");
            assert!(!weak.in_words(&Words::default()).contains("cannot be told"));
        }
    }

    #[test]
    fn a_class_alone_or_a_few_images_can_tell() {
        let mut found = result(0.6, 1.0, &[]);
        let network = found.network.as_mut().unwrap();
        network.synthetic.per_class[1] = estimate(0.7, 0.02);
        assert!(found.told_by_network());
        let mut found = result(0.6, 1.0, &[]);
        found.network.as_mut().unwrap().synthetic.found = estimate(0.2, 0.05);
        assert!(found.told_by_network());
    }
}
