//! Which images a panel shows, under which ids, in which order.

use std::collections::{BTreeMap, BTreeSet};

use cellforge_data::{View, folder_name};

use super::{Key, KeyImage, PanelConfig, Source};
use crate::{Error, Result, files::hash_texts};

/// The images of a panel.
pub(super) struct Chosen {
    /// What they are, sorted by id.
    pub(super) key: Key,
    /// The pixels of each image of the key.
    pub(super) pictures: Vec<Vec<u8>>,
    pub(super) left_out: Vec<String>,
}

/// Chooses images, and deals them out by hashes under the key `secret`.
pub(super) fn choose(config: &PanelConfig, real: &View, synthetic: &View, secret: &str) -> Result<Chosen> {
    let (classes, left_out) = shared_classes(real, synthetic)?;
    if config.images < classes.len() {
        let (images, classes) = (config.images, classes.len());
        return Err(Error::PanelImages(format!("{images} of each kind are too few for {classes} classes")));
    }
    let mut images = Vec::new();
    let mut repeated = BTreeSet::new();
    for (number, class) in classes.iter().enumerate() {
        let wanted = config.images / classes.len() + usize::from(number < config.images % classes.len());
        let ranked = [(Source::Real, real), (Source::Synthetic, synthetic)].map(|(source, view)| {
            let rows: Vec<usize> = (0..view.len()).filter(|&i| same_class(view.class_of(i), class)).collect();
            (source, view, evenly(view, &rows, secret, source))
        });
        let n = ranked.iter().map(|(.., rows)| rows.len()).min().unwrap_or(0).min(wanted);
        for (source, view, rows) in ranked {
            // The first of an order by hashes: as good as any others.
            let twice = (config.repeats * n as f64).round() as usize;
            for (place, &row) in rows[..n].iter().enumerate() {
                let id = id(secret, source, row);
                if place < twice {
                    repeated.insert(id.clone());
                }
                let image = KeyImage {
                    id,
                    source,
                    class: class.clone(),
                    patient: view.group(row).filter(|_| source == Source::Real).map(str::to_owned),
                    file: view.name(row).to_owned(),
                    positions: Vec::new(),
                };
                images.push((image, view.image(row).to_vec()));
            }
        }
    }
    refuse_shared(&images)?;
    images.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    let ids: Vec<&str> = images.iter().map(|(image, _)| image.id.as_str()).collect();
    let mut positions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, id) in order(&ids, &repeated, secret).into_iter().enumerate() {
        positions.entry(id).or_default().push(place + 1);
    }
    let (mut images, pictures): (Vec<KeyImage>, Vec<Vec<u8>>) = images.into_iter().unzip();
    for image in &mut images {
        image.positions = positions.remove(&image.id).unwrap_or_default();
    }
    // A letter first: a spreadsheet would take 12e34567 for a number.
    let panel = format!("p{}", &hash_texts([secret, "panel"])[..12]);
    Ok(Chosen { key: Key { panel, images }, pictures, left_out })
}

/// The classes of the real images that both have, and those that only the real ones have.
fn shared_classes(real: &View, synthetic: &View) -> Result<(Vec<String>, Vec<String>)> {
    let used = |view: &View| -> Vec<String> {
        let counts = view.class_counts();
        view.classes().iter().zip(counts).filter(|(_, n)| *n > 0).map(|(class, _)| class.clone()).collect()
    };
    let (of_real, of_synthetic) = (used(real), used(synthetic));
    let (shared, left_out): (Vec<_>, Vec<_>) =
        of_real.iter().cloned().partition(|class| of_synthetic.iter().any(|other| same_class(other, class)));
    let stranger = of_synthetic.iter().find(|other| !of_real.iter().any(|class| same_class(other, class)));
    match stranger {
        Some(other) => Err(Error::PanelImages(format!(
            "the synthetic ones have the class {other:?}, and the real ones {}; give folders of the same names",
            if of_real.is_empty() { "no images".to_owned() } else { format!("{of_real:?}") }
        ))),
        None if shared.is_empty() => Err(Error::PanelImages("there are no synthetic ones".to_owned())),
        None => Ok((shared, left_out)),
    }
}

/// Whether a class is the one of this name, or its folder has this name.
fn same_class(name: &str, class: &str) -> bool {
    name == class || name == folder_name(class)
}

/// Refuses an image that is chosen as a real and as a synthetic one.
fn refuse_shared(images: &[(KeyImage, Vec<u8>)]) -> Result<()> {
    let real: BTreeMap<&[u8], &KeyImage> =
        images.iter().filter(|(image, _)| image.source == Source::Real).map(|(i, pixels)| (&pixels[..], i)).collect();
    let made = images.iter().filter(|(image, _)| image.source == Source::Synthetic);
    match made.filter_map(|(image, pixels)| Some((image, real.get(&pixels[..])?))).next() {
        Some((image, twin)) => Err(Error::PanelImages(format!(
            "the synthetic {} and the real {} are the same image, so that no answer is right; remove copies of real images first",
            image.file, twin.file
        ))),
        None => Ok(()),
    }
}

/// The rows in an order in which every patient comes once before any comes again; by hashes otherwise.
fn evenly(view: &View, rows: &[usize], secret: &str, source: Source) -> Vec<usize> {
    let hash = |part: &str| hash_texts([secret, "choice", source.word(), part]);
    let mut patients: BTreeMap<Option<&str>, Vec<(String, usize)>> = BTreeMap::new();
    for &row in rows {
        patients.entry(view.group(row)).or_default().push((hash(&row.to_string()), row));
    }
    let known = patients.keys().all(Option::is_some);
    let mut ranked: Vec<(usize, String, usize)> = Vec::new();
    for (patient, mut images) in patients {
        images.sort();
        let order = hash(patient.unwrap_or_default());
        // Images whose patient is not known are of no one patient.
        ranked.extend(
            images.into_iter().enumerate().map(
                |(round, (own, row))| {
                    if known { (round, order.clone(), row) } else { (0, own, row) }
                },
            ),
        );
    }
    ranked.sort();
    ranked.into_iter().map(|(.., row)| row).collect()
}

fn id(secret: &str, source: Source, row: usize) -> String {
    format!("i{}", &hash_texts([secret, "id", source.word(), &row.to_string()])[..12])
}

/// Every id, and the repeated ones a second time. First showings of these are in about the first third and second ones in the last, so that no
/// image comes again at once.
fn order(ids: &[&str], repeated: &BTreeSet<String>, secret: &str) -> Vec<String> {
    let shuffled = |label: &str, mut ids: Vec<String>| {
        ids.sort_by_cached_key(|id| hash_texts([secret, "order", label, id]));
        ids
    };
    let all = shuffled("all", ids.iter().map(|&id| id.to_owned()).collect());
    let (again, once): (Vec<String>, Vec<String>) = all.into_iter().partition(|id| repeated.contains(id));
    let first = (ids.len().div_ceil(3)).saturating_sub(again.len()).min(once.len());
    let (head, rest) = once.split_at(first);
    let (middle, tail) = rest.split_at(rest.len().div_ceil(2));
    let start = shuffled("first", [&again[..], head].concat());
    let end = shuffled("last", [&again[..], tail].concat());
    [&start[..], middle, &end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::ViewParts;

    /// `images` of each of two classes, of `patients` by turns; the pixels are distinct.
    fn set(images: usize, patients: usize, offset: u8) -> View {
        let n = 2 * images;
        View::new(ViewParts {
            classes: vec!["a".to_owned(), "b".to_owned()],
            names: (0..n).map(|i| format!("x/{i}.png")).collect(),
            labels: (0..n).map(|i| u32::from(i >= images)).collect(),
            groups: (0..n).map(|i| (patients > 0).then(|| format!("P{}", i % patients.max(1)))).collect(),
            size: 1.into(),
            channels: 3,
            pixels: (0..n).flat_map(|i| [i as u8, (i >> 8) as u8, offset]).collect(),
        })
        .unwrap()
    }

    fn config(images: usize, repeats: f64) -> PanelConfig {
        PanelConfig { images, repeats, ..PanelConfig::default() }
    }

    fn count(key: &Key, source: Source, class: &str) -> usize {
        key.images.iter().filter(|image| image.source == source && image.class == class).count()
    }

    #[test]
    fn kinds_and_classes_are_balanced_and_patients_come_evenly() {
        let key = choose(&config(13, 0.0), &set(40, 5, 0), &set(6, 0, 1), "s").unwrap().key;
        // Seven and six are wanted, and there are six synthetic ones of each class.
        for source in [Source::Real, Source::Synthetic] {
            assert_eq!((count(&key, source, "a"), count(&key, source, "b")), (6, 6), "{source:?}");
        }
        let mut patients: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for image in key.images.iter().filter(|image| image.source == Source::Real) {
            *patients.entry((&image.class, image.patient.as_deref().unwrap())).or_default() += 1;
        }
        // Six images of five patients.
        assert!(patients.len() == 10 && patients.values().all(|&n| n <= 2), "{patients:?}");
    }

    #[test]
    fn repeats_are_balanced_and_come_late() {
        for (images, repeats) in [(20, 0.1), (20, 0.5), (100, 0.1), (3, 0.5)] {
            let key = choose(&config(images, repeats), &set(60, 5, 0), &set(60, 0, 1), "s").unwrap().key;
            let twice: Vec<&KeyImage> = key.images.iter().filter(|image| image.positions.len() == 2).collect();
            let real = twice.iter().filter(|image| image.source == Source::Real).count();
            assert_eq!(2 * real, twice.len());
            assert!(!twice.is_empty() && twice.len().abs_diff((2.0 * repeats * images as f64) as usize) <= 2);
            let apart = twice.iter().map(|image| image.positions[1] - image.positions[0]).min().unwrap();
            assert!(apart > images / 4, "{apart} of {images}");
            let mut positions: Vec<usize> = key.images.iter().flat_map(|image| image.positions.clone()).collect();
            positions.sort_unstable();
            assert_eq!(positions, (1..=key.showings()).collect::<Vec<_>>());
        }
    }

    /// Neither ids nor positions tell the kind: over many keys, the mean place of a real image is that of any image.
    #[test]
    fn ids_and_order_tell_nothing() {
        let (real, synthetic) = (set(10, 5, 0), set(10, 0, 1));
        let (mut by_id, mut by_position, mut n) = (0.0, 0.0, 0.0);
        for secret in 0..200 {
            let key = choose(&config(20, 0.0), &real, &synthetic, &secret.to_string()).unwrap().key;
            for (place, image) in (1..).zip(&key.images).filter(|(_, image)| image.source == Source::Real) {
                (by_id, by_position, n) = (by_id + f64::from(place), by_position + image.positions[0] as f64, n + 1.0);
            }
        }
        // 20 of 40 places without replacement have a mean of 20.5 with variance (40^2 - 1) / 12 / 20 * (20 / 39) = 3.417; over 200 keys the
        // standard error is 0.131.
        for mean in [by_id / n, by_position / n] {
            assert!((mean - 20.5_f64).abs() < 4.0 * 0.131, "{mean}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let fails = |real: &View, synthetic: &View, config: &PanelConfig| {
            choose(config, real, synthetic, "s").err().unwrap().to_string()
        };
        let (real, synthetic) = (set(10, 5, 0), set(10, 0, 1));
        assert!(fails(&real, &set(10, 0, 0), &config(20, 0.0)).contains("are the same image"));
        assert!(fails(&real.class(0), &synthetic, &config(20, 0.0)).contains("the class \"b\""));
        assert!(fails(&real, &synthetic, &config(1, 0.0)).contains("2 classes"));
        let one = choose(&config(20, 0.0), &real, &synthetic.class(1), "s").unwrap();
        assert_eq!((one.left_out, one.key.images.len()), (vec!["a".to_owned()], 20));
    }
}
