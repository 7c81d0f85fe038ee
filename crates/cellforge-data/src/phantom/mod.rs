//! The phantom: procedural drawings of Giemsa-stained red cells, so that everything runs with no download.
//!
//! These are drawings, not patients' cells. No figure measured on them is evidence about real cells, and whatever
//! reports on them says so. They have the two classes, the names and the patients of the NIH malaria set, and its black
//! surroundings; the parasitized ones show rings, trophozoites, schizonts and gametocytes, the uninfected ones now and
//! then a stain artefact, so that a speck of purple alone does not tell them apart.

mod cell;
mod parasite;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;

use crate::rng::keyed;
use crate::{CellSet, Error, Result};

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
    /// Pixels a side, 16 to 1024.
    pub side: usize,
    /// Cells in each of the two classes.
    pub cells_per_class: usize,
    /// Patients in all; a quarter of them are healthy and have uninfected cells only.
    pub patients: usize,
    /// Everything is drawn from this.
    pub seed: u64,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        Self { side: 64, cells_per_class: 500, patients: 40, seed: 0 }
    }
}

impl PhantomConfig {
    fn validate(&self) -> Result<()> {
        if !(16..=1024).contains(&self.side) {
            return Err(Error::Invalid(format!("phantom: a side of {} pixels is out of range: 16 to 1024", self.side)));
        }
        if self.cells_per_class == 0 || self.patients == 0 {
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
            .flat_map(|class| (0..self.cells_per_class).map(move |index| (class, index)))
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

/// Draws one cell of a phantom: a function of the seed, the class (0 parasitized, 1 uninfected), the patient and the
/// index alone. It shows no real cell and is no patient's data.
///
/// The same cell drawn with another `side` has the same outline, colours and parasites; only its grain differs.
#[must_use]
pub fn render_cell(config: &PhantomConfig, class: u32, patient: usize, index: usize) -> Cell {
    cell::draw(config.side, config.seed, class, patient as u64, index as u64)
}

/// Draws a whole phantom, in parallel: no patient's data, no evidence about real cells. The same settings give the same
/// bytes at any thread count.
///
/// ```
/// use cellforge_data::phantom::{self, PhantomConfig};
///
/// let set = phantom::render(&PhantomConfig { side: 32, cells_per_class: 4, ..Default::default() })?;
/// assert_eq!((set.len(), set.image(0).len()), (8, 32 * 32 * 3));
/// # Ok::<(), cellforge_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if a setting is out of range.
pub fn render(config: &PhantomConfig) -> Result<CellSet> {
    config.validate()?;
    let list = config.list();
    let images: Vec<Vec<u8>> =
        list.par_iter().map(|&(_, class, patient, index)| render_cell(config, class, patient, index).rgb).collect();
    CellSet::from_parts(
        CLASSES.map(str::to_owned).to_vec(),
        list.iter().map(|cell| cell.0.clone()).collect(),
        list.iter().map(|cell| cell.1).collect(),
        list.iter().map(|cell| Some(format!("C{}", FIRST_PATIENT + cell.2))).collect(),
        config.side,
        3,
        images.concat(),
    )
}

/// Writes a phantom (drawings, no patient's data) as PNG files, one folder per class, into `dir`; with `masks`, also the parasites' masks (white on
/// black, one per cell) into `dir`'s sibling folder `NAME-masks`.
///
/// # Errors
/// As [`render`], and [`Error::Io`] naming the file that could not be written.
pub fn write_folder(config: &PhantomConfig, dir: &Path, masks: bool) -> Result<()> {
    config.validate()?;
    let mut mask_dir = dir.as_os_str().to_owned();
    mask_dir.push("-masks");
    let mask_dir = Path::new(&mask_dir);
    for class in CLASSES {
        for root in [Some(dir), masks.then_some(mask_dir)].into_iter().flatten() {
            let folder = root.join(class);
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
    }
    config.list().par_iter().try_for_each(|(name, class, patient, index)| {
        let cell = render_cell(config, *class, *patient, *index);
        let path = dir.join(name);
        fs::write(&path, png(&cell.rgb, config.side, image::ExtendedColorType::Rgb8)?).map_err(Error::io(&path))?;
        if masks {
            let path = mask_dir.join(name);
            fs::write(&path, png(&cell.mask, config.side, image::ExtendedColorType::L8)?).map_err(Error::io(&path))?;
        }
        Ok(())
    })
}

/// Writes a phantom (drawings, no patient's data) as a zip in the layout of NLM's `cell_images.zip`. The same settings
/// give the same bytes.
///
/// # Errors
/// As [`write_folder`].
pub fn write_zip(config: &PhantomConfig, file: &Path) -> Result<()> {
    config.validate()?;
    let failed = |e: zip::result::ZipError| Error::Zip { path: file.to_path_buf(), reason: e.to_string() };
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
    let mut archive = zip::ZipWriter::new(BufWriter::new(temporary));
    // PNG does not compress any further, and a fixed time keeps the bytes the same.
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for chunk in config.list().chunks(256) {
        let drawn: Vec<Result<Vec<u8>>> = chunk
            .par_iter()
            .map(|&(_, class, patient, index)| {
                png(&render_cell(config, class, patient, index).rgb, config.side, image::ExtendedColorType::Rgb8)
            })
            .collect();
        for ((name, ..), bytes) in chunk.iter().zip(drawn) {
            archive.start_file(format!("cell_images/{name}"), options).map_err(failed)?;
            archive.write_all(&bytes?).map_err(Error::io(file))?;
        }
    }
    let temporary = archive.finish().map_err(failed)?.into_inner().map_err(|e| Error::io(file)(e.into_error()))?;
    temporary.as_file().sync_all().map_err(Error::io(file))?;
    readable(temporary.as_file()).map_err(Error::io(file))?;
    temporary.persist(file).map_err(|e| Error::io(file)(e.error))?;
    Ok(())
}

/// Temporary files are private to their owner; what is kept is as readable as any new file.
fn readable(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    let _ = file;
    Ok(())
}

fn png(pixels: &[u8], side: usize, colour: image::ExtendedColorType) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    image::ImageEncoder::write_image(encoder, pixels, side as u32, side as u32, colour)
        .map_err(|e| Error::Invalid(format!("cannot encode a phantom cell: {e}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> PhantomConfig {
        PhantomConfig { side: 32, cells_per_class: 60, patients: 8, seed: 5 }
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
        let set = render(&PhantomConfig { cells_per_class: 300, side: 16, ..small() }).unwrap();
        assert_eq!(set.class_counts(), [300, 300]);
        let patients = |class: u32| -> std::collections::BTreeSet<String> {
            set.class_indices(class).iter().map(|i| set.groups[*i].clone().unwrap()).collect()
        };
        assert_eq!(patients(0).len(), 6);
        assert_eq!(patients(1).len(), 8);
        assert!(patients(0).is_subset(&patients(1)));
    }

    #[test]
    fn cells_are_black_outside_and_only_parasitized_ones_have_a_mask() {
        let config = PhantomConfig { side: 64, ..small() };
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
    fn a_zip_has_the_same_bytes_twice() {
        let dir = tempfile::tempdir().unwrap();
        let config = PhantomConfig { cells_per_class: 5, ..small() };
        let [a, b] = ["a.zip", "b.zip"].map(|name| dir.path().join(name));
        write_zip(&config, &a).unwrap();
        write_zip(&config, &b).unwrap();
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }

    #[test]
    fn a_folder_reads_back_as_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let config = PhantomConfig { cells_per_class: 6, ..small() };
        let folder = dir.path().join("cells");
        write_folder(&config, &folder, true).unwrap();
        let set = render(&config).unwrap();
        for i in 0..set.len() {
            let read = image::open(folder.join(&set.names[i])).unwrap().into_rgb8();
            assert_eq!(read.as_raw(), set.image(i));
            assert!(dir.path().join("cells-masks").join(&set.names[i]).exists());
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for config in [
            PhantomConfig { side: 8, ..small() },
            PhantomConfig { cells_per_class: 0, ..small() },
            PhantomConfig { patients: 0, ..small() },
        ] {
            assert!(render(&config).is_err());
        }
    }
}
