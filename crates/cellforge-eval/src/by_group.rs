//! A classifier on the images of one group after the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Confusion, Error, Proportion, Result, confusion, proportion::wilson_at};

/// A classifier on the images of one group, such as a patient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupFigures {
    /// The group.
    pub group: String,
    /// Its images.
    pub images: u64,
    /// Those that were classified rightly. The interval is Wilson's, of the images: it covers other images of this group, and says nothing
    /// of other groups.
    pub accuracy: Proportion,
    /// The same of each class, by its name; `total` 0 where the group has no image of it.
    pub recall: BTreeMap<String, Proportion>,
}

/// Judges the images of each group by themselves, in the order of the groups' names. `truth[i]` and `predicted[i]` are labels of image `i`,
/// below `classes.len()`, and `groups[i]` is its group.
///
/// # Errors
/// As [`confusion`]; [`Error::Length`] for another number of groups than images; [`Error::Level`].
///
/// ```
/// // One image of patient A and two of patient B, of which one is wrong.
/// let (classes, groups) = (["a", "b"].map(String::from), ["A", "B", "B"].map(String::from));
/// let found = cellforge_eval::by_group(&[0, 0, 1], &[0, 1, 1], &classes, &groups, 0.95)?;
/// assert_eq!((found[1].images, found[1].accuracy.rate, found[1].recall["a"].rate), (2, 0.5, 0.0));
/// # Ok::<(), cellforge_eval::Error>(())
/// ```
pub fn by_group(
    truth: &[u32],
    predicted: &[u32],
    classes: &[String],
    groups: &[String],
    level: f64,
) -> Result<Vec<GroupFigures>> {
    confusion(truth, predicted, classes.len())?;
    if groups.len() != truth.len() {
        return Err(Error::Length { what: "the array of groups", found: groups.len(), expected: truth.len() });
    }
    let mut labels: BTreeMap<&String, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
    for (group, (&truth, &predicted)) in groups.iter().zip(truth.iter().zip(predicted)) {
        let of = labels.entry(group).or_default();
        of.0.push(truth);
        of.1.push(predicted);
    }
    let rate = |successes, total| match total {
        0 => Ok(Proportion { successes, total, rate: 0.0, low: 0.0, high: 1.0 }),
        _ => wilson_at(successes, total, level),
    };
    let one = |(group, (truth, predicted)): (&String, (Vec<u32>, Vec<u32>))| {
        let found = Confusion::weighted(&truth, &predicted, None, classes.len());
        let recall = |(class, name): (usize, &String)| {
            Ok((name.clone(), rate(found.counts[class][class], found.support(class))?))
        };
        Ok(GroupFigures {
            group: group.clone(),
            images: found.total(),
            accuracy: rate(found.correct(), found.total())?,
            recall: classes.iter().enumerate().map(recall).collect::<Result<_>>()?,
        })
    };
    labels.into_iter().map(one).collect()
}
