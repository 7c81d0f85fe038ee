//! The phantom: procedural drawings of Giemsa-stained red cells, so that everything runs with no download.
//!
//! These are drawings, not patients' cells. No figure measured on them is evidence about real cells, and whatever
//! reports on them says so. They have the two classes, the names and the patients of the NIH malaria set, and its black
//! surroundings; the parasitized ones show rings, trophozoites, schizonts and gametocytes, the uninfected ones now and
//! then a stain artefact, so that a speck of purple alone does not tell them apart.

mod cell;
mod parasite;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::atomic::{Readers, write_with};
use crate::index::is_image;
use crate::rng::keyed;
use crate::zip_file::ZipFile;
use crate::{Error, ImageSize, Result, View, ViewParts};

pub use cell::Cell;

/// The phantom's classes, in label order.
pub const CLASSES: [&str; 2] = ["Parasitized", "Uninfected"];

/// Number of the phantom's first patient: far from the numbers of the NIH set.
const FIRST_PATIENT: usize = 1001;

/// What to draw. The drawings are a phantom: they come from no patient, and figures measured on them are no evidence
/// about real cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhantomConfig {
    /// Height and width, each of 16 to 1024 pixels. A cell fills the shorter side.
    pub size: ImageSize,
    /// Cells in each of the two classes.
    pub images_per_class: usize,
    /// Patients in all; a quarter of them are healthy and have uninfected cells only.
    pub patients: usize,
    /// Everything is drawn from this.
    pub seed: u64,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        Self { size: 64.into(), images_per_class: 500, patients: 40, seed: 0 }
    }
}

impl PhantomConfig {
    fn validate(&self) -> Result<()> {
        let sides = 16..=1024;
        if !sides.contains(&self.size.height) || !sides.contains(&self.size.width) {
            let reason = format!("phantom: {:#} pixels are out of range: a side is 16 to 1024", self.size);
            return Err(Error::Invalid(reason));
        }
        if self.images_per_class == 0 || self.patients == 0 {
            return Err(Error::Invalid("phantom: at least one cell per class and one patient are needed".to_owned()));
        }
        Ok(())
    }

    fn infected(&self) -> usize {
        self.patients - self.patients / 4
    }

    /// The patient of cell `index` of `class`, counted from 0; some patients have many more cells than others. The
    /// infected patients come first and have cells of both classes.
    fn patient(&self, class: u32, index: usize) -> usize {
        let among = if class == 0 { self.infected() } else { self.patients };
        // The square of a uniform number favours the first patients of a shuffled list; the shuffle is a keyed rotation.
        let draw: f64 = keyed("phantom patient", &[self.seed, u64::from(class), index as u64]).random();
        let turn = keyed("phantom turn", &[self.seed]).random_range(0..among);
        ((draw * draw * among as f64) as usize + turn) % among
    }

    /// Class, patient and index of every cell, sorted by the cell's name.
    fn list(&self) -> Vec<(String, u32, usize, usize)> {
        let mut list: Vec<_> = (0..CLASSES.len() as u32)
            .flat_map(|class| (0..self.images_per_class).map(move |index| (class, index)))
            .map(|(class, index)| {
                let patient = self.patient(class, index);
                let number = FIRST_PATIENT + patient;
                let name =
                    format!("{}/C{number}P{number}ThinF_phantom_cell_{}.png", CLASSES[class as usize], index + 1);
                (name, class, patient, index)
            })
            .collect();
        list.sort();
        list
    }
}

/// The size at which a phantom is drawn for images of `size`: the smallest multiple of it whose shorter side has 64 pixels or more, as far as
/// the longer one has 1024 at most.
#[must_use]
pub fn crop_size(size: ImageSize) -> ImageSize {
    let times = 64_usize.div_ceil(size.shorter().max(1)).min(1024 / size.longer().max(1)).max(1);
    ImageSize::new(size.height * times, size.width * times)
}

/// Draws one cell of a phantom: a function of the seed, the class (0 parasitized, 1 uninfected), the patient and the
/// index alone. It shows no real cell and is no patient's data.
///
/// The same cell drawn with another side has the same outline, colours and parasites; only its grain differs.
#[must_use]
pub fn render_cell(config: &PhantomConfig, class: u32, patient: usize, index: usize) -> Cell {
    cell::draw(config.size, config.seed, class, patient as u64, index as u64)
}

/// Draws a whole phantom, in parallel: no patient's data, no evidence about real cells. The same settings give the same
/// bytes at any thread count.
///
/// ```
/// use cellforge_data::phantom::{self, PhantomConfig};
///
/// let set = phantom::render(&PhantomConfig { size: 32.into(), images_per_class: 4, ..Default::default() })?;
/// assert_eq!((set.len(), set.image(0).len()), (8, 32 * 32 * 3));
/// # Ok::<(), cellforge_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if a setting is out of range.
pub fn render(config: &PhantomConfig) -> Result<View> {
    config.validate()?;
    let list = config.list();
    let images: Vec<Vec<u8>> =
        list.par_iter().map(|&(_, class, patient, index)| render_cell(config, class, patient, index).rgb).collect();
    View::new(ViewParts {
        classes: CLASSES.map(str::to_owned).to_vec(),
        names: list.iter().map(|cell| cell.0.clone()).collect(),
        labels: list.iter().map(|cell| cell.1).collect(),
        groups: list.iter().map(|cell| Some(format!("C{}", FIRST_PATIENT + cell.2))).collect(),
        size: config.size,
        channels: 3,
        pixels: images.concat(),
    })
}

/// Writes a phantom (drawings, no patient's data) as PNG files, one folder per class, into `dir`; with `masks`, also the
/// parasites' masks (white on black, one per cell) into `dir`'s sibling folder `NAME-masks`.
///
/// The same call may write into the same folder again, after it was broken off or with more cells.
///
/// # Errors
/// As [`render`]; [`Error::Invalid`] naming a class folder that holds images which this call does not write, be they of
/// another phantom or real cells; [`Error::Io`] naming the file that could not be written.
pub fn write_folder(config: &PhantomConfig, dir: &Path, masks: bool) -> Result<()> {
    config.validate()?;
    let mut mask_dir = dir.as_os_str().to_owned();
    mask_dir.push("-masks");
    let mask_dir = Path::new(&mask_dir);
    let list = config.list();
    let names: BTreeSet<&str> = list.iter().map(|cell| cell.0.as_str()).collect();
    let roots: Vec<&Path> = [Some(dir), masks.then_some(mask_dir)].into_iter().flatten().collect();
    for root in &roots {
        check_unmixed(root, &names)?;
    }
    for folder in roots.iter().flat_map(|root| CLASSES.map(|class| root.join(class))) {
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
    }
    list.par_iter().try_for_each(|(name, class, patient, index)| {
        let cell = render_cell(config, *class, *patient, *index);
        let path = dir.join(name);
        fs::write(&path, png(&cell.rgb, config.size, image::ExtendedColorType::Rgb8)?).map_err(Error::io(&path))?;
        if masks {
            let path = mask_dir.join(name);
            fs::write(&path, png(&cell.mask, config.size, image::ExtendedColorType::L8)?).map_err(Error::io(&path))?;
        }
        Ok(())
    })
}

/// Refuses class folders below `root` with images other than `names`: nobody could tell later which cells are whose.
fn check_unmixed(root: &Path, names: &BTreeSet<&str>) -> Result<()> {
    for class in CLASSES {
        let folder = root.join(class);
        let items = match fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(Error::io(&folder))?,
        };
        for item in items {
            let file = item.map_err(Error::io(&folder))?.file_name();
            let file = file.to_string_lossy();
            if is_image(&file) && !names.contains(format!("{class}/{file}").as_str()) {
                return Err(Error::Invalid(format!(
                    "phantom: {} already holds {file}, which is not of this phantom: remove the folder or give another",
                    folder.display()
                )));
            }
        }
    }
    Ok(())
}

/// Writes a phantom (drawings, no patient's data) as a zip in the layout of NLM's `cell_images.zip`. The same settings
/// give the same bytes.
///
/// # Errors
/// As [`write_folder`].
pub fn write_zip(config: &PhantomConfig, file: &Path) -> Result<()> {
    config.validate()?;
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    write_with(file, Readers::AsUsual, |temporary| {
        let mut archive = ZipFile::new(temporary, file);
        for chunk in config.list().chunks(256) {
            let drawn: Vec<Result<Vec<u8>>> = chunk
                .par_iter()
                .map(|&(_, class, patient, index)| {
                    png(&render_cell(config, class, patient, index).rgb, config.size, image::ExtendedColorType::Rgb8)
                })
                .collect();
            for ((name, ..), bytes) in chunk.iter().zip(drawn) {
                archive.add(format!("cell_images/{name}"), &bytes?)?;
            }
        }
        archive.finish()
    })
}

fn png(pixels: &[u8], size: ImageSize, colour: image::ExtendedColorType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, pixels, size.width as u32, size.height as u32, colour)
        .map_err(|e| Error::Invalid(format!("cannot encode a phantom cell: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> PhantomConfig {
        PhantomConfig { size: 32.into(), images_per_class: 60, patients: 8, seed: 5 }
    }

    #[test]
    fn the_same_seed_draws_the_same_bytes_at_any_thread_count() {
        let draw = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| render(&small()).unwrap().fingerprint())
        };
        assert_eq!(draw(1), draw(3));
        assert_ne!(draw(1), render(&PhantomConfig { seed: 6, ..small() }).unwrap().fingerprint());
    }

    #[test]
    fn healthy_patients_have_uninfected_cells_only() {
        let set = render(&PhantomConfig { images_per_class: 300, size: 16.into(), ..small() }).unwrap();
        assert_eq!(set.class_counts(), [300, 300]);
        let patients = |class: u32| -> BTreeSet<String> { set.class(class).groups().unwrap().into_iter().collect() };
        assert_eq!(patients(0).len(), 6);
        assert_eq!(patients(1).len(), 8);
        assert!(patients(0).is_subset(&patients(1)));
    }

    #[test]
    fn cells_are_black_outside_and_only_parasitized_ones_have_a_mask() {
        let config = PhantomConfig { size: 64.into(), ..small() };
        for index in 0..40 {
            for class in 0..2 {
                let cell = render_cell(&config, class, index % 4, index);
                assert_eq!((cell.rgb.len(), cell.mask.len()), (64 * 64 * 3, 64 * 64));
                let black = cell.rgb.chunks(3).filter(|p| **p == [0, 0, 0]).count() as f64 / 4096.0;
                assert!((0.1..0.75).contains(&black), "{black} of cell {index} is black");
                let marked = cell.mask.iter().filter(|m| **m == 255).count();
                assert_eq!(marked > 0, class == 0, "cell {index} of class {class} has {marked} parasite pixels");
                // A mask never leaves the cell.
                assert!(cell.mask.iter().zip(cell.rgb.chunks(3)).all(|(m, p)| *m == 0 || p != [0, 0, 0]));
            }
        }
    }

    #[test]
    fn a_rectangle_has_the_square_in_its_middle() {
        let of = |size| render_cell(&PhantomConfig { size, ..small() }, 0, 1, 2);
        let (square, wide) = (of(ImageSize::square(28)), of(ImageSize::new(28, 40)));
        // Six columns more on either side. Grain alone is another: it is drawn pixel by pixel.
        for y in 0..28 {
            assert_eq!(wide.mask[y * 40 + 6..y * 40 + 34], square.mask[y * 28..y * 28 + 28], "row {y}");
            assert!(wide.mask[y * 40..y * 40 + 6].iter().all(|&value| value == 0));
        }
        assert_eq!(crop_size(ImageSize::new(28, 40)), ImageSize::new(84, 120));
        assert_eq!([32, 64, 128].map(|side| crop_size(side.into())), [64, 64, 128].map(ImageSize::square));
    }

    #[test]
    fn a_zip_has_the_same_bytes_twice() {
        let dir = tempfile::tempdir().unwrap();
        let config = PhantomConfig { images_per_class: 5, ..small() };
        let [a, b] = ["a.zip", "b.zip"].map(|name| dir.path().join(name));
        write_zip(&config, &a).unwrap();
        write_zip(&config, &b).unwrap();
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }

    #[test]
    fn a_folder_reads_back_as_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let config = PhantomConfig { images_per_class: 6, ..small() };
        let folder = dir.path().join("cells");
        write_folder(&config, &folder, true).unwrap();
        let set = render(&config).unwrap();
        for i in 0..set.len() {
            let read = image::open(folder.join(set.name(i))).unwrap().into_rgb8();
            assert_eq!(read.as_raw(), set.image(i));
            assert!(dir.path().join("cells-masks").join(set.name(i)).exists());
        }
    }

    #[test]
    fn a_used_folder_takes_more_of_the_same_phantom_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let config = PhantomConfig { size: 16.into(), images_per_class: 12, ..small() };
        let folder = dir.path().join("cells");
        let count = || fs::read_dir(folder.join(CLASSES[0])).unwrap().count();
        write_folder(&PhantomConfig { images_per_class: 5, ..config }, &folder, true).unwrap();
        write_folder(&config, &folder, true).unwrap();
        write_folder(&config, &folder, true).unwrap();
        assert_eq!(count(), 12);
        for other in [
            PhantomConfig { images_per_class: 11, ..config },
            PhantomConfig { seed: 6, ..config },
            PhantomConfig { patients: 9, ..config },
        ] {
            let error = write_folder(&other, &folder, false).unwrap_err().to_string();
            assert!(error.contains("cells") && error.contains("_phantom_cell_"), "{error}");
        }
        assert_eq!(count(), 12);
        // Real cells are no place for drawings, nor are another phantom's masks for these.
        let real = dir.path().join("real");
        fs::create_dir_all(real.join(CLASSES[1])).unwrap();
        fs::write(real.join(CLASSES[1]).join("C1P1ThinF_IMG_1_cell_1.png"), "").unwrap();
        assert!(write_folder(&config, &real, false).unwrap_err().to_string().contains("C1P1ThinF_IMG_1_cell_1.png"));
        assert!(!real.join(CLASSES[0]).exists());
        fs::remove_dir_all(&folder).unwrap();
        let error = write_folder(&PhantomConfig { seed: 6, ..config }, &folder, true).unwrap_err().to_string();
        assert!(error.contains("cells-masks"), "{error}");
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for config in [
            PhantomConfig { size: 8.into(), ..small() },
            PhantomConfig { images_per_class: 0, ..small() },
            PhantomConfig { patients: 0, ..small() },
        ] {
            assert!(render(&config).is_err());
        }
    }
}
