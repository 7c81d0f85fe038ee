//! The images of an evaluation: matched classes, a choice of whole patients, known patients.

use std::collections::{BTreeMap, BTreeSet};

use cellforge_data::{CellSet, SplitBy, SplitOptions, folder_name, split};

use super::{Part, SetInfo};
use crate::{Error, Result, files::hash_texts};

/// The images of one set that are used, with the classes of the evaluation.
pub(super) struct SetImages {
    /// Only the images that are used.
    pub(super) set: CellSet,
    /// Their patients, where all are known.
    pub(super) patients: Option<Vec<String>>,
    /// Which rows of the part they are.
    pub(super) rows: Vec<usize>,
    /// Images of the part.
    pub(super) available: usize,
    pub(super) info: SetInfo,
}

impl SetImages {
    /// Takes the images of a part, at most `max_images` of each class (0 takes all), with labels that are positions in `classes`.
    pub(super) fn new(
        name: &'static str,
        part: &Part<'_>,
        classes: &[String],
        (side, channels): (usize, usize),
        max_images: usize,
        seed: u64,
    ) -> Result<Self> {
        let fail = |problem: String| Error::EvaluationImages { part: name, problem };
        if part.indices.is_empty() {
            return Err(fail("there are none".to_owned()));
        }
        let mut set = part.set.subset(part.indices);
        if (set.side(), set.channels()) != (side, channels) {
            return Err(fail(format!(
                "images have {0}x{0} pixels and {1} channels, those of the real images {2}x{2} and {3}",
                set.side(),
                set.channels(),
                side,
                channels
            )));
        }
        relabel(&mut set, classes).map_err(fail)?;
        let counts = set.class_counts();
        if let Some(class) = counts.iter().position(|&n| n == 0) {
            return Err(fail(format!("there is none of class {:?}", classes[class])));
        }
        let rows = choose(&set, max_images, seed);
        let available = set.len();
        let set = if rows.len() < available { set.subset(&rows) } else { set };
        let patients: Option<Vec<String>> = set.groups.iter().cloned().collect();
        let cells_per_class: BTreeMap<String, usize> = classes.iter().cloned().zip(set.class_counts()).collect();
        let info = SetInfo {
            source: part.source.to_owned(),
            cells_per_class,
            images: set.len(),
            available,
            patients: patients.as_ref().map(|patients| patients.iter().collect::<BTreeSet<_>>().len()),
            fingerprint: set.fingerprint(),
        };
        Ok(Self { set, patients, rows, available, info })
    }

    pub(super) fn groups(&self) -> Option<&[String]> {
        self.patients.as_deref()
    }

    /// Whether all patients are known, and there are two or more.
    pub(super) fn several_patients(&self) -> bool {
        self.info.patients.is_some_and(|patients| patients > 1)
    }
}

/// Gives a set the classes of another, which its own match by name or by the folder of that name.
fn relabel(set: &mut CellSet, classes: &[String]) -> std::result::Result<(), String> {
    let label = |name: &String| {
        let known = |class: &String| class == name || folder_name(class) == *name;
        classes.iter().position(known).map(|at| at as u32)
    };
    let labels: Option<Vec<u32>> = set.classes.iter().map(label).collect();
    match labels {
        Some(labels) if labels.len() == classes.len() => {
            set.labels.iter_mut().for_each(|l| *l = labels[*l as usize]);
            set.classes = classes.to_vec();
            Ok(())
        }
        _ => Err(format!(
            "the classes are {}, those of the real images are {}; give folders of the same names",
            set.classes.join(", "),
            classes.join(", ")
        )),
    }
}

/// At most `max` images of each class, in their old order: whole patients where all are known, in an order that hangs on the seed and the
/// patients' names. A patient who is the first of a class is taken however many images that makes.
fn choose(set: &CellSet, max: usize, seed: u64) -> Vec<usize> {
    if max == 0 {
        return (0..set.len()).collect();
    }
    let known = set.groups.iter().all(Option::is_some);
    let unit = |i: usize| set.groups[i].as_ref().filter(|_| known).unwrap_or(&set.names[i]);
    let mut units: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    for i in 0..set.len() {
        units.entry(unit(i)).or_default().push(i);
    }
    let mut units: Vec<_> = units.into_iter().map(|(name, images)| (rank(seed, name), images)).collect();
    units.sort();
    let mut kept = Vec::new();
    let mut counts = vec![0; set.classes.len()];
    for (_, images) in units {
        let mut own = vec![0; counts.len()];
        images.iter().for_each(|&i| own[set.labels[i] as usize] += 1);
        let fits = counts.iter().zip(&own).all(|(count, own)| *own == 0 || count + own <= max);
        let first = counts.iter().zip(&own).any(|(count, own)| *own > 0 && *count == 0);
        if fits || first {
            counts.iter_mut().zip(&own).for_each(|(count, own)| *count += own);
            kept.extend(images);
        }
    }
    kept.sort_unstable();
    kept
}

/// A place in a random order that hangs on the seed and the name alone.
pub(super) fn rank(seed: u64, name: &str) -> String {
    hash_texts([seed.to_string().as_str(), name])
}

/// `n` of the rows in an order that hangs on the seed and the images' names, then sorted.
pub(super) fn pick(set: &CellSet, rows: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let mut ranked: Vec<(String, usize)> = rows.iter().map(|&row| (rank(seed, &set.names[row]), row)).collect();
    ranked.sort();
    let mut kept: Vec<usize> = ranked.into_iter().take(n).map(|(_, row)| row).collect();
    kept.sort_unstable();
    kept
}

/// Splits the rows of a set in two: `share` of each class, as nearly as whole patients allow where several are known, and the rest.
pub(super) fn parted(images: &SetImages, share: f64, seed: u64) -> Result<[Vec<usize>; 2]> {
    let by = if images.several_patients() { SplitBy::Group } else { SplitBy::Image };
    let parts = split(&images.set, &SplitOptions { by, val: 0.0, test: share, seed })
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

    fn set(groups: bool) -> CellSet {
        // Patient i of 6 has 3 images of each of two classes.
        let n = 36;
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let names = (0..n).map(|i| format!("{i:02}")).collect();
        let labels = (0..n).map(|i| u32::from(i >= n / 2)).collect();
        let groups = (0..n).map(|i| groups.then(|| format!("P{}", i % 6))).collect();
        CellSet::from_parts(classes, names, labels, groups, 1, 1, (0..n as u8).collect()).unwrap()
    }

    #[test]
    fn whole_patients_are_chosen() {
        let set = set(true);
        let kept = choose(&set, 7, 1);
        // Two patients with three images of each class fit into seven.
        assert_eq!(kept.len(), 12);
        let patients: BTreeSet<_> = kept.iter().map(|&i| set.groups[i].clone()).collect();
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
        let part = Part { set: &whole, indices: &(0..36).collect::<Vec<_>>(), source: "test" };
        let images = SetImages::new("real", &part, &whole.classes, (1, 1), 0, 1).unwrap();
        // Of six patients with as many images each, one is nearer to a fifth than two.
        let [aside, rest] = parted(&images, 0.2, 1).unwrap();
        assert_eq!((aside.len(), rest.len()), (6, 30));
        let of = |rows: &[usize]| rows.iter().map(|&i| whole.groups[i].clone()).collect::<BTreeSet<_>>();
        assert!(of(&aside).is_disjoint(&of(&rest)));
    }

    #[test]
    fn folders_stand_for_their_classes() {
        let mut other = set(false);
        let classes = vec!["x y".to_owned(), "z".to_owned()];
        other.classes = vec!["z".to_owned(), folder_name("x y")];
        relabel(&mut other, &classes).unwrap();
        assert_eq!((other.labels[0], other.labels[35], &other.classes), (1, 0, &classes));
        other.classes = vec!["z".to_owned(), "q".to_owned()];
        assert!(relabel(&mut other, &classes).unwrap_err().contains("q"));
    }
}
