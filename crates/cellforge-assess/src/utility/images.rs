//! The images of a utility study: checked, under one set of labels, and where training looks for them.

use cellforge_data::View;

use super::UtilityData;
use crate::{Error, Result, files::hash_texts};

/// All images. Labels are those of the real images.
pub(super) struct Pool {
    /// What is trained on: the real images in the order given, then all synthetic ones.
    pub(super) view: View,
    /// How many of them are real.
    pub(super) real: usize,
    /// Patients of the real images, where all are known and there are two or more.
    pub(super) patients: Option<Vec<String>>,
    /// The real test images.
    pub(super) test: TestImages,
    /// The synthetic images.
    pub(super) synthetic: TestImages,
    /// Identifies all images and their order.
    pub(super) fingerprint: String,
}

/// Images that networks are tested on.
pub(super) struct TestImages {
    pub(super) images: View,
    /// Their classes.
    pub(super) truth: Vec<u32>,
    /// Their patients, where all are known.
    pub(super) patients: Option<Vec<String>>,
}

impl TestImages {
    fn new(images: View) -> Self {
        Self { truth: images.labels(), patients: images.groups(), images }
    }
}

impl Pool {
    pub(super) fn new(data: &UtilityData) -> Result<Self> {
        let classes = data.real.classes();
        if let [class] = classes {
            let problem = format!("they are of class {class:?} alone: a classifier tells two classes or more");
            return Err(Error::UtilityImages { part: "training", problem });
        }
        let train = checked("training", &data.real, classes)?;
        let test = checked("test", &data.test, classes)?;
        let synthetic = checked("synthetic", &data.synthetic, classes)?;
        for (name, images) in [("test", &test), ("synthetic", &synthetic)] {
            check_size(name, images, &train)?;
        }
        if let Some(shared) = test.first_shared(&train) {
            let problem = format!("{} is a training image too; give images of other patients", test.name(shared));
            return Err(Error::UtilityImages { part: "test", problem });
        }
        let real = train.len();
        let view = View::joined(&[train.clone(), synthetic.clone()])?;
        let fingerprint = hash_texts([view.fingerprint().as_str(), &real.to_string(), &test.fingerprint()]);
        let several = |groups: &Vec<String>| groups.iter().any(|group| *group != groups[0]);
        let patients = train.groups().filter(several);
        Ok(Self {
            view,
            real,
            patients,
            test: TestImages::new(test),
            synthetic: TestImages::new(synthetic),
            fingerprint,
        })
    }

    /// Labels of the real images.
    pub(super) fn real_labels(&self) -> Vec<u32> {
        self.view.first(self.real).labels()
    }

    /// Labels of the synthetic images.
    pub(super) fn synthetic_labels(&self) -> &[u32] {
        &self.synthetic.truth
    }
}

/// The images with the labels of `classes`, if there are some of each of them and none of others.
fn checked(part: &'static str, images: &View, classes: &[String]) -> Result<View> {
    let wrong = |problem| Err(Error::UtilityImages { part, problem });
    if images.is_empty() {
        return wrong("there are none".to_owned());
    }
    if let Some(stray) = (0..images.len()).find(|&i| !classes.iter().any(|class| class == images.class_of(i))) {
        let (name, class) = (images.name(stray), images.class_of(stray));
        return wrong(format!("{name} is of class {class:?}, which is none of the real images' {classes:?}"));
    }
    let images = images.relabelled(classes)?;
    match images.class_counts().iter().position(|&count| count == 0) {
        Some(class) => wrong(format!("there are none of class {:?}", classes[class])),
        None => Ok(images),
    }
}

fn check_size(part: &'static str, images: &View, real: &View) -> Result<()> {
    let size = |images: &View| (images.size(), images.channels());
    let ((side, channels), (real_side, real_channels)) = (size(images), size(real));
    if (side, channels) == (real_side, real_channels) {
        return Ok(());
    }
    let problem = format!(
        "they have {side}x{side} pixels in {channels} channels, the real ones {real_side}x{real_side} in {real_channels}: load both at one size"
    );
    Err(Error::UtilityImages { part, problem })
}
