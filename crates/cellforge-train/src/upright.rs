//! Whether images have an up and a down: small networks are asked to tell turned images from upright ones.

use std::fmt;

use cellforge_data::{Duplicates, SplitOptions, SplitRule, View, ViewParts, derive_seed, epoch_order, split};
use cellforge_eval::two_sample::{Scored, separation};
use cellforge_eval::{BootstrapOptions, Estimate};
use serde::{Deserialize, Serialize};

use crate::{ClassifierTrainConfig, Control, Orientation, Result, oriented, train_for_steps};

/// Pixels a side at which the networks see the images.
const SIDE: usize = 32;
/// The most images that are looked at.
const MOST: usize = 1000;
/// With fewer images nothing is found either way.
const LEAST: usize = 40;
/// Updates of each of the two networks.
const UPDATES: u64 = 200;
/// Images are taken to lie in any direction only where the area under the ROC curve surely lies below this.
const BOUND: f64 = 0.6;

/// How well turned images are told from upright ones, and what follows for [`Dihedral::Auto`](crate::Dihedral::Auto).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UprightCheck {
    /// Images that were judged, each by a network that saw neither it nor another one of its group.
    pub images: usize,
    /// The area under the ROC curve between upright and turned images, with a 95% interval by bootstrap over the groups. 0.5 is chance. None
    /// where there are too few images to ask.
    pub auc: Option<Estimate>,
    /// Whether the images may be shown in all orientations: the interval lies below 0.6.
    pub any_direction: bool,
}

impl fmt::Display for UprightCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (so, therefore) = if self.any_direction {
            ("in any direction", "they are shown in all orientations")
        } else {
            ("one way up", "they are shown as they lie")
        };
        match &self.auc {
            None => write!(
                f,
                "orientation: {} images are too few to tell whether they have an up and a down, so {therefore}",
                self.images
            ),
            Some(auc) => write!(
                f,
                "orientation: a network tells turned images from upright ones with an AUC of {:.2} ({:.2} to {:.2}), of {} images: they lie {so}, and {therefore}",
                auc.value, auc.low, auc.high, self.images
            ),
        }
    }
}

/// Trains two small networks to tell the images from the same ones turned by right angles or mirrored, each on half of the groups (of the
/// images, where no groups are known), and asks each about the other half. None if `control` stopped it. It takes seconds: at most 1,000
/// images are looked at, at 32 pixels a side.
///
/// Images that are equal but for their direction cannot be told, whatever the network. Such a one may also fail to learn what is there to
/// be seen. So images count as lying in any direction only where there were enough of them for an interval below 0.6.
///
/// # Errors
/// Those of [`train_for_steps`].
pub fn check_upright(images: &View, seed: u64, control: &Control) -> Result<Option<UprightCheck>> {
    // Those that keep the images' shape, but for the first, which is none.
    let turns = &Orientation::of(images.size())[1..];
    let order = epoch_order(&(0..images.len()).collect::<Vec<_>>(), derive_seed(seed, "upright/images"), 0);
    let images = images.part(&order[..order.len().min(MOST)]).resized(SIDE, images.channels())?;
    let unknown = UprightCheck { images: images.len(), auc: None, any_direction: false };
    if images.len() < LEAST {
        return Ok(Some(unknown));
    }
    let by = if images.has_groups() { SplitRule::Group } else { SplitRule::Image };
    let seed = derive_seed(seed, "upright/halves");
    // Classes are mixed: what tells turned images is to hold for all.
    let mixed = one_class(&images)?;
    let Ok(halves) = split(&mixed, &SplitOptions { by, val: 0.0, test: 0.5, seed, duplicates: Duplicates::Keep })
    else {
        return Ok(Some(unknown));
    };
    let units = images.units();
    let mut scored = Vec::new();
    for (network, (seen, asked)) in
        [(&halves.train, &halves.test), (&halves.test, &halves.train)].into_iter().enumerate()
    {
        let config = training(images.channels(), derive_seed(seed, &format!("network/{network}")))?;
        let (train, test) = (both_ways(&mixed.part(seen), turns)?, both_ways(&mixed.part(asked), turns)?);
        let Some(classifier) = train_for_steps(&config, UPDATES, &train, control, &mut [])? else { return Ok(None) };
        for (i, row) in classifier.predict(&test)?.into_iter().enumerate() {
            let (turned, unit) = (test.label(i) == 1, units[asked[i % asked.len()]]);
            scored.push(Scored { score: f64::from(row[1]), second: turned, class: 0, network, unit });
        }
    }
    let auc = separation(&scored, 1, &BootstrapOptions { seed, ..BootstrapOptions::default() })?.auc;
    Ok(Some(UprightCheck { auc: Some(auc), any_direction: auc.high < BOUND, ..unknown }))
}

/// The images as a set of one class.
fn one_class(images: &View) -> Result<View> {
    let parts = images.to_parts();
    Ok(View::new(ViewParts { labels: vec![0; images.len()], classes: vec![String::new()], ..parts })?)
}

/// Each image as often upright (class 0) as turned (class 1): once for each other orientation.
fn both_ways(images: &View, turns: &[Orientation]) -> Result<View> {
    let mut views = vec![images.clone(); turns.len()];
    for &turn in turns {
        views.push(oriented(images, turn)?);
    }
    let all = View::joined(&views)?;
    let upright = turns.len() * images.len();
    let labels = (0..all.len()).map(|i| u32::from(i >= upright)).collect();
    let classes = vec!["upright".to_owned(), "turned".to_owned()];
    Ok(View::new(ViewParts { labels, classes, ..all.to_parts() })?)
}

fn training(channels: usize, seed: u64) -> Result<ClassifierTrainConfig> {
    let config = ClassifierTrainConfig { seed, ..ClassifierTrainConfig::recipe("cnn-1")? };
    Ok(config.for_images(SIDE, channels, 2))
}
