//! The images of an evaluation: matched classes, a choice of whole patients, known patients.

use std::collections::{BTreeMap, BTreeSet};

use cellforge_data::{Duplicates, ImageSize, SplitOptions, SplitRule, View, folder_name, split};
use cellforge_eval::effective_groups;
use sha2::{Digest, Sha256};

use super::{Part, SetInfo};
use crate::{
    Error, Result,
    files::{hash_texts, hex},
};

/// The images of one part that are used.
pub(super) struct SetImages {
    /// Those of the classes that are compared, with these classes.
    pub(super) view: View,
    /// Their patients, where all are known.
    pub(super) patients: Option<Vec<String>>,
    /// Which images of the part they are.
    pub(super) rows: Vec<usize>,
    /// Images of the part, of all classes.
    pub(super) available: usize,
    /// The images of all classes, with those of the part: a copy may be of any.
    pub(super) whole: View,
    /// Their patients, where all are known.
    pub(super) whole_patients: Option<Vec<String>>,
    pub(super) info: SetInfo,
}

/// The classes that real and synthetic images have, in the order of the real ones.
///
/// # Errors
/// [`Error::EvaluationImages`] for a synthetic class that is none of the real ones.
pub(super) fn compared_classes(real: &View, synthetic: &View) -> Result<Vec<String>> {
    let classes = with_images(real);
    let made = with_images(synthetic);
    let unknown: Vec<&str> =
        made.iter().filter(|name| !classes.iter().any(|class| is_named(class, name))).map(String::as_str).collect();
    if !unknown.is_empty() {
        let problem = format!(
            "they are of {}, which is no class of the real images ({}); give them the names of the same classes",
            unknown.join(", "),
            classes.join(", ")
        );
        return Err(Error::EvaluationImages { part: "synthetic", problem });
    }
    Ok(classes.into_iter().filter(|class| made.iter().any(|name| is_named(class, name))).collect())
}

/// A hash of the pixels of images, which is that of no other list of what they hold.
pub(super) fn pseudonym_key(images: &View) -> String {
    let mut hash = Sha256::new_with_prefix("names of these images and of their patients");
    (0..images.len()).for_each(|i| hash.update(images.image(i)));
    hex(&hash.finalize())
}

/// Whether no synthetic image has the name of a real one in its path, or a patient's.
pub(super) fn own_names(real: &SetImages, holdout: Option<&SetImages>, synthetic: &View) -> bool {
    let mut known = BTreeSet::new();
    for set in [Some(real), holdout].into_iter().flatten() {
        known.extend((0..set.whole.len()).map(|i| {
            let name = set.whole.name(i);
            words(without_ending(name.rsplit('/').next().unwrap_or(name)))
        }));
        known.extend(set.whole_patients.iter().flatten().map(|patient| words(patient)));
    }
    known.remove(&Vec::new());
    let longest = known.iter().map(Vec::len).max().unwrap_or(0);
    // Names of classes stand in both.
    let classes: Vec<Vec<String>> = synthetic.classes().iter().map(|class| words(class)).collect();
    (0..synthetic.len()).all(|i| {
        let words = words(without_ending(synthetic.name(i)));
        let has = |from: usize| {
            let mut runs = (from + 1..=words.len().min(from + longest)).map(|to| &words[from..to]);
            runs.any(|run| known.contains(run) && !classes.iter().any(|class| class == run))
        };
        !(0..words.len()).any(has)
    })
}

/// A name without what follows its last dot.
fn without_ending(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The words and numbers of a name.
fn words(name: &str) -> Vec<String> {
    let parts = name.split(|letter: char| !letter.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect()
}

/// The classes that have images.
fn with_images(images: &View) -> Vec<String> {
    let counts = images.class_counts();
    images.classes().iter().zip(counts).filter(|(_, count)| *count > 0).map(|(class, _)| class.clone()).collect()
}

/// Whether a class or a folder of this name is the class, as [`View::relabelled`] has it.
fn is_named(class: &str, name: &str) -> bool {
    name == class || name == folder_name(class)
}

impl SetImages {
    /// Takes the images of a part, at most `max_images` of each class (0 takes all). Those of `classes` are compared, with labels that are
    /// positions in it; the others are left out.
    pub(super) fn new(
        name: &'static str,
        part: &Part,
        classes: &[String],
        (size, channels): (ImageSize, usize),
        max_images: usize,
        seed: u64,
    ) -> Result<Self> {
        let fail = |problem: String| Error::EvaluationImages { part: name, problem };
        let images = &part.images;
        if images.is_empty() {
            return Err(fail("there are none".to_owned()));
        }
        if (images.size(), images.channels()) != (size, channels) {
            return Err(fail(format!(
                "images have {:#} pixels and {} channels, those of the real images {:#} and {}",
                images.size(),
                images.channels(),
                size,
                channels
            )));
        }
        let own = images.classes();
        let compared: Vec<bool> = own.iter().map(|name| classes.iter().any(|class| is_named(class, name))).collect();
        let is_compared = |i: usize| compared[images.label(i) as usize];
        let chosen = choose(images, max_images, seed);
        let rows: Vec<usize> = chosen.iter().copied().filter(|&i| is_compared(i)).collect();
        let whole = images.part(&chosen);
        let view = images.part(&rows).relabelled(classes)?;
        if let Some(class) = view.class_counts().iter().position(|&n| n == 0) {
            return Err(fail(format!(
                "there is none of class {:?}; they are of {}",
                classes[class],
                with_images(images).join(", ")
            )));
        }
        let counts = own.iter().zip(images.class_counts()).zip(&compared);
        let left_out = counts
            .filter(|((_, count), compared)| *count > 0 && !**compared)
            .map(|((class, count), _)| (class.clone(), count))
            .collect();
        let patients = view.groups();
        let images_per_class: BTreeMap<String, usize> = classes.iter().cloned().zip(view.class_counts()).collect();
        let by_class = |label: usize, patients: &[String]| -> Vec<String> {
            view.class_indices(label as u32).into_iter().map(|row| patients[row].clone()).collect()
        };
        let each_class = |patients: &Vec<String>| -> Vec<(String, Vec<String>)> {
            classes.iter().cloned().enumerate().map(|(label, name)| (name, by_class(label, patients))).collect()
        };
        let per_class = patients.as_ref().map(each_class);
        let counted = |patients: &[String]| patients.iter().collect::<BTreeSet<_>>().len();
        let info = SetInfo {
            source: part.source.clone(),
            images_per_class,
            images: view.len(),
            available: (0..images.len()).filter(|&i| is_compared(i)).count(),
            left_out,
            not_read: images.facts().told().map(ToString::to_string).collect(),
            intensities: images.facts().intensities.as_ref().map(ToString::to_string),
            patients: patients.as_deref().map(counted),
            effective_patients: patients.as_deref().map(effective_groups),
            patients_per_class: per_class
                .as_ref()
                .map(|all| all.iter().map(|(class, patients)| (class.clone(), counted(patients))).collect()),
            effective_patients_per_class: per_class
                .as_ref()
                .map(|all| all.iter().map(|(class, patients)| (class.clone(), effective_groups(patients))).collect()),
            fingerprint: view.fingerprint(),
        };
        let whole_patients = whole.groups();
        Ok(Self { view, patients, rows, available: images.len(), whole, whole_patients, info })
    }

    /// Whether all images in which copies are looked for are compared, and so have features.
    pub(super) fn is_whole(&self) -> bool {
        self.view.len() == self.whole.len()
    }

    pub(super) fn groups(&self) -> Option<&[String]> {
        self.patients.as_deref()
    }

    /// Whether all patients are known, and there are two or more.
    pub(super) fn several_patients(&self) -> bool {
        self.info.patients.is_some_and(|patients| patients > 1)
    }
}

/// At most `max` images of each class, in their old order: whole patients where all are known, in an order drawn from the seed and the
/// patients' names. A patient who is the first of a class is taken however many images that makes.
fn choose(images: &View, max: usize, seed: u64) -> Vec<usize> {
    if max == 0 {
        return (0..images.len()).collect();
    }
    let known = images.groups().is_some();
    let unit = |i: usize| images.group(i).filter(|_| known).unwrap_or_else(|| images.name(i));
    let mut units: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for i in 0..images.len() {
        units.entry(unit(i)).or_default().push(i);
    }
    let mut units: Vec<_> = units.into_iter().map(|(name, members)| (rank(seed, name), members)).collect();
    units.sort();
    let mut kept = Vec::new();
    let mut counts = vec![0; images.classes().len()];
    for (_, members) in units {
        let mut own = vec![0; counts.len()];
        members.iter().for_each(|&i| own[images.label(i) as usize] += 1);
        let fits = counts.iter().zip(&own).all(|(count, own)| *own == 0 || count + own <= max);
        let first = counts.iter().zip(&own).any(|(count, own)| *own > 0 && *count == 0);
        if fits || first {
            counts.iter_mut().zip(&own).for_each(|(count, own)| *count += own);
            kept.extend(members);
        }
    }
    kept.sort_unstable();
    kept
}

/// A place in a random order that depends on the seed and the name alone.
pub(crate) fn rank(seed: u64, name: &str) -> String {
    hash_texts([seed.to_string().as_str(), name])
}

/// `n` of the rows in an order drawn from the seed and the images' names, then sorted.
pub(crate) fn pick(images: &View, rows: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let mut ranked: Vec<(String, usize)> = rows.iter().map(|&row| (rank(seed, images.name(row)), row)).collect();
    ranked.sort();
    let mut kept: Vec<usize> = ranked.into_iter().take(n).map(|(_, row)| row).collect();
    kept.sort_unstable();
    kept
}

/// Splits the rows of a set in two: `share` of each class, as nearly as whole patients allow where several are known, and the rest.
pub(super) fn parted(images: &SetImages, share: f64, seed: u64) -> Result<[Vec<usize>; 2]> {
    let by = if images.several_patients() { SplitRule::Group } else { SplitRule::Image };
    let parts = split(&images.view, &SplitOptions { by, val: 0.0, test: share, seed, duplicates: Duplicates::Keep })
        .map_err(|error| Error::EvaluationImages { part: "real", problem: error.to_string() })?;
    Ok([parts.test, parts.train])
}

/// Patients with images in both sets, where they are known.
pub(super) fn shared_patients(a: &SetImages, b: &SetImages) -> Option<usize> {
    let of = |images: &SetImages| images.patients.as_ref().map(|p| p.iter().cloned().collect::<BTreeSet<String>>());
    Some(of(a)?.intersection(&of(b)?).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;

    fn set(groups: bool) -> View {
        // Patient i of 6 has 3 images of each of two classes.
        let n = 36;
        View::new(ViewParts {
            classes: vec!["a".to_owned(), "b".to_owned()],
            names: (0..n).map(|i| format!("{i:02}")).collect(),
            labels: (0..n).map(|i| u32::from(i >= n / 2)).collect(),
            groups: (0..n).map(|i| groups.then(|| format!("P{}", i % 6))).collect(),
            size: 1.into(),
            channels: 1,
            pixels: (0..n as u8).collect(),
        })
        .unwrap()
    }

    #[test]
    fn whole_patients_are_chosen() {
        let set = set(true);
        let kept = choose(&set, 7, 1);
        // Two patients with three images of each class fit into seven.
        assert_eq!(kept.len(), 12);
        let patients: BTreeSet<_> = kept.iter().map(|&i| set.group(i)).collect();
        assert_eq!(patients.len(), 2);
        assert_ne!(kept, choose(&set, 7, 3));
        assert_eq!(choose(&set, 0, 1).len(), 36);
        // The first patient stays whole however few are asked for.
        assert_eq!(choose(&set, 1, 1).len(), 6);
    }

    #[test]
    fn without_patients_images_are_chosen() {
        let kept = choose(&set(false), 7, 1);
        assert_eq!(kept.len(), 14);
    }

    #[test]
    fn no_patient_is_on_both_sides() {
        let whole = set(true);
        let part = Part::new(whole.clone(), "test");
        let images = SetImages::new("real", &part, whole.classes(), (1.into(), 1), 0, 1).unwrap();
        // Of six patients with as many images each, one is nearer to a fifth than two.
        let [aside, rest] = parted(&images, 0.2, 1).unwrap();
        assert_eq!((aside.len(), rest.len()), (6, 30));
        // Six patients with three images of each class: all count in full.
        assert_eq!((images.info.patients, images.info.effective_patients), (Some(6), Some(6.0)));
        assert_eq!(images.info.patients_per_class.as_ref().unwrap()["a"], 6);
        assert_eq!(images.info.effective_patients_per_class.as_ref().unwrap()["b"], 6.0);
        let of = |rows: &[usize]| rows.iter().map(|&i| whole.group(i)).collect::<BTreeSet<_>>();
        assert!(of(&aside).is_disjoint(&of(&rest)));
    }

    #[test]
    fn folders_stand_for_their_classes() {
        let classes = vec!["x y".to_owned(), "z".to_owned()];
        let named =
            |names: [String; 2]| View::new(ViewParts { classes: names.into(), ..set(false).to_parts() }).unwrap();
        let images = |view| SetImages::new("synthetic", &Part::new(view, "test"), &classes, (1.into(), 1), 0, 1);
        let found = images(named(["z".to_owned(), folder_name("x y")])).unwrap();
        assert_eq!((found.view.label(0), found.view.label(35), found.view.classes()), (1, 0, &classes[..]));
        // Of a class that nothing is compared with nothing is taken, but what it is left out of says so.
        let one = images(named(["x y".to_owned(), "q".to_owned()])).err().unwrap().to_string();
        assert!(one.contains("none of class \"z\"; they are of x y, q"), "{one}");
        let only = ["z".to_owned()];
        let view = named(["q".to_owned(), "z".to_owned()]);
        let found = SetImages::new("real", &Part::new(view, "test"), &only, (1.into(), 1), 0, 1).unwrap();
        assert_eq!((found.view.len(), found.rows[0], found.available, found.whole.len()), (18, 18, 36, 36));
        assert_eq!(found.info.left_out, BTreeMap::from([("q".to_owned(), 18)]));
        assert_eq!((found.info.available, found.view.classes()), (18, &only[..]));
    }

    #[test]
    fn classes_that_both_have_are_compared() {
        let named = |a: &str, b: &str| {
            View::new(ViewParts { classes: vec![a.into(), b.into()], ..set(false).to_parts() }).unwrap()
        };
        let real = named("x y", "z");
        assert_eq!(compared_classes(&real, &named("z", &folder_name("x y"))).unwrap(), ["x y", "z"]);
        assert_eq!(compared_classes(&real, &named("z", "q").class(0)).unwrap(), ["z"]);
        // A class without an image is none.
        assert_eq!(compared_classes(&real, &named("z", "q").first(18)).unwrap(), ["z"]);
        let error = compared_classes(&real, &named("q", "z")).unwrap_err().to_string();
        assert!(error.contains("of q, which is no class of the real images (x y, z)"), "{error}");
    }
}
