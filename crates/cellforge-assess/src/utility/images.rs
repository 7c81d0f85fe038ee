//! The images of a utility study: checked, under one set of labels, and where training looks for them.

use std::collections::BTreeSet;

use cellforge_data::CellSet;

use super::UtilityData;
use crate::{Error, Result, files::hash_texts};

/// The images of a study.
pub(super) struct Pool<'a> {
    /// What is trained on: the real images in the order given, then all synthetic ones. Labels are those of the real images.
    pub(super) set: CellSet,
    /// How many of them are real.
    pub(super) real: usize,
    /// Patients of the real images, where all are known and there are two or more.
    pub(super) patients: Option<Vec<String>>,
    /// The real test images.
    pub(super) test: Judged<'a>,
    /// The synthetic images.
    pub(super) synthetic: Judged<'a>,
    /// Identifies all images and their order.
    pub(super) fingerprint: String,
}

/// Images that networks are judged on.
pub(super) struct Judged<'a> {
    pub(super) set: &'a CellSet,
    pub(super) indices: Vec<usize>,
    /// Their classes, as labels of the real images.
    pub(super) truth: Vec<u32>,
    /// Their patients, where all are known.
    pub(super) patients: Option<Vec<String>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(data: &UtilityData<'a>) -> Result<Self> {
        let classes = &data.real.classes;
        let train = Judged::new("training", data.real, data.train.to_vec(), classes)?;
        let test = Judged::new("test", data.test_set, data.test.to_vec(), classes)?;
        let all = (0..data.synthetic.len()).collect();
        let synthetic = Judged::new("synthetic", data.synthetic, all, classes)?;
        for (name, set) in [("test", data.test_set), ("synthetic", data.synthetic)] {
            check_size(name, set, data.real)?;
        }
        if std::ptr::eq(data.real, data.test_set) {
            let train: BTreeSet<usize> = data.train.iter().copied().collect();
            if let Some(index) = data.test.iter().find(|index| train.contains(index)) {
                let problem =
                    format!("{} is a training image too; give images of other patients", data.real.names[*index]);
                return Err(Error::UtilityImages { part: "test", problem });
            }
        }
        let real = train.indices.len();
        let set = joined(&train, &synthetic, classes)?;
        let chosen = serde_json::to_string(&test.indices).map_err(Error::json(std::path::Path::new("test images")))?;
        let fingerprint =
            hash_texts([set.fingerprint().as_str(), &real.to_string(), &data.test_set.fingerprint(), &chosen]);
        let several = |groups: &Vec<String>| groups.iter().any(|group| *group != groups[0]);
        let patients = train.patients.filter(several);
        Ok(Self { set, real, patients, test, synthetic, fingerprint })
    }

    /// Labels of the real images.
    pub(super) fn real_labels(&self) -> &[u32] {
        &self.set.labels[..self.real]
    }

    /// Labels of the synthetic images.
    pub(super) fn synthetic_labels(&self) -> &[u32] {
        &self.set.labels[self.real..]
    }
}

impl<'a> Judged<'a> {
    /// The images `indices` of `set`, if there are some of each of `classes` and none of others.
    fn new(part: &'static str, set: &'a CellSet, indices: Vec<usize>, classes: &[String]) -> Result<Self> {
        let wrong = |problem| Err(Error::UtilityImages { part, problem });
        if indices.is_empty() {
            return wrong("there are none".to_owned());
        }
        if let Some(index) = indices.iter().find(|index| **index >= set.len()) {
            return wrong(format!("index {index} is past the end of {} images", set.len()));
        }
        let label_of: Vec<Option<u32>> = set
            .classes
            .iter()
            .map(|class| classes.iter().position(|name| name == class).map(|label| label as u32))
            .collect();
        let mut truth = Vec::with_capacity(indices.len());
        for &index in &indices {
            let class = set.labels[index] as usize;
            match label_of[class] {
                Some(label) => truth.push(label),
                None => {
                    let (name, class) = (&set.names[index], &set.classes[class]);
                    return wrong(format!(
                        "{name} is of class {class:?}, which is none of the real images' {classes:?}"
                    ));
                }
            }
        }
        if let Some(class) = (0..classes.len()).find(|&class| !truth.contains(&(class as u32))) {
            return wrong(format!("there are none of class {:?}", classes[class]));
        }
        let patients = indices.iter().map(|&index| set.groups[index].clone()).collect();
        Ok(Self { set, indices, truth, patients })
    }
}

fn check_size(part: &'static str, set: &CellSet, real: &CellSet) -> Result<()> {
    let size = |set: &CellSet| (set.side(), set.channels());
    let ((side, channels), (real_side, real_channels)) = (size(set), size(real));
    if (side, channels) == (real_side, real_channels) {
        return Ok(());
    }
    let problem = format!(
        "they have {side}x{side} pixels in {channels} channels, the real ones {real_side}x{real_side} in {real_channels}: load both at one size"
    );
    Err(Error::UtilityImages { part, problem })
}

/// Real and synthetic images as one set.
fn joined(real: &Judged<'_>, synthetic: &Judged<'_>, classes: &[String]) -> Result<CellSet> {
    let set = real.set;
    let images = real.indices.len() + synthetic.indices.len();
    let (mut names, mut labels) = (Vec::with_capacity(images), Vec::with_capacity(images));
    let mut pixels = Vec::with_capacity(images * set.side() * set.side() * set.channels());
    for part in [real, synthetic] {
        labels.extend_from_slice(&part.truth);
        for &index in &part.indices {
            names.push(part.set.names[index].clone());
            pixels.extend_from_slice(part.set.image(index));
        }
    }
    Ok(CellSet::from_parts(classes.to_vec(), names, labels, vec![None; images], set.side(), set.channels(), pixels)?)
}
