//! What is known of the NIH/NLM malaria images (Rajaraman et al. 2018, PeerJ 6:e4568): where they are, and how their names tell the patient.

use std::path::PathBuf;

use cellforge_data::{GroupPattern, ImageSize, OpenOptions, View, fetch::FetchOptions};

/// Where NLM distributes the malaria images, about 337 MB.
pub const NLM_URL: &str = "https://data.lhncbc.nlm.nih.gov/public/Malaria/cell_images.zip";

/// The name of the file there.
pub const DOWNLOAD_NAME: &str = "cell_images.zip";

/// How to download NLM's zip into the file `dest`.
#[must_use]
pub fn download(dest: PathBuf) -> FetchOptions {
    FetchOptions::new(NLM_URL, dest)
}

/// The patient of an NIH/NLM malaria image, from the name of its file or slide.
///
/// The name begins with `C` and digits, and that is the patient: NLM's 200 patients are the 200 numbers after `C`. The `P` number that
/// some names have as well is another name for the same patient.
///
/// ```
/// let pattern = cellforge_study::nih::patients();
/// assert_eq!(pattern.group("C100P61ThinF_IMG_20150918_144104_cell_162.png"), Some("C100"));
/// assert_eq!(pattern.group("C37BP2_thinF_IMG_cell_1.png"), Some("C37"));
/// assert_eq!(pattern.group("C12NThinF_IMG_cell_1.png"), Some("C12"));
/// assert_eq!(pattern.group("cell_1.png"), None);
/// ```
///
/// # Panics
/// Never: the pattern is a constant that a test compiles.
#[must_use]
pub fn patients() -> GroupPattern {
    GroupPattern::new("^(C[0-9]+)").expect("a constant pattern is a regular expression")
}

/// As [`patients`], but for whole names of NLM's alone, of an image (`C..ThinF.._cell_N.png`) or of a slide (`C..thin..`): what else begins
/// with `C` and digits, such as `C0_1.png`, is somebody else's.
///
/// # Panics
/// Never: the pattern is a constant that a test compiles.
#[must_use]
pub fn whole_names() -> GroupPattern {
    let pattern = r"^(C[0-9]+)[A-Za-z0-9]*_?[Tt]hin(?:[^.]*_cell_[0-9]+\.[A-Za-z]+|[^.]*)$";
    GroupPattern::new(pattern).expect("a constant pattern is a regular expression")
}

/// How cells of `size`, or of as many pixels a side, in `channels` channels are read: the patients of NIH names are recognised.
#[must_use]
pub fn open_options(size: impl Into<ImageSize>, channels: impl Into<Option<usize>>) -> OpenOptions {
    let mut options = OpenOptions::new(size, channels);
    options.patterns = vec![whole_names()];
    options
}

/// Whether there are cells among the images that were rendered as a phantom: one among real ones is one too many.
#[must_use]
pub fn is_phantom(images: &View) -> bool {
    images.names().any(|name| file_name(name).contains("ThinF_phantom_cell_"))
}

/// Whether the images are the NIH/NLM malaria cells, by their classes and the names of their files.
#[must_use]
pub fn is_nih(images: &View) -> bool {
    let nih_name = |name: &str| file_name(name).starts_with('C') && name.contains("_cell_");
    !is_phantom(images) && images.classes() == ["Parasitized", "Uninfected"] && images.names().all(nih_name)
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nih_names_of_every_form() {
        let both = [
            ("C39P4thinF_original_IMG_1_cell_9.png", "C39"),
            ("C51AP12thinF_IMG_1_cell_9.png", "C51"),
            ("C47P8thin_Original_Motic_cell_1.png", "C47"),
            ("C47P8thinOriginalOlympusCX21_cell_1.png", "C47"),
            ("C1_thinF_IMG_1_cell_9.png", "C1"),
        ];
        let beginnings = [("C5NThinF_IMG_1_cell_9.png", "C5"), ("C5AxP3.png", "C5"), ("C5P.png", "C5")];
        for (name, patient) in both.into_iter().chain(beginnings) {
            assert_eq!(patients().group(name), Some(patient), "{name}");
        }
        for (name, patient) in both.into_iter().chain([("C12P3ThinF_phantom_cell_7.png", "C12"), ("C47P8thinA", "C47")])
        {
            assert_eq!(whole_names().group(name), Some(patient), "{name}");
        }
        for name in ["C0_1.png", "C1_cell_2.png", "C5AxP3.png", "C1thin.png", "C12_think_1.png"] {
            assert_eq!(whole_names().group(name), None, "{name}");
        }
        for name in ["", "C", "CP1.png", "c1P1.png", "xC1P1.png", "Cell_1.png"] {
            assert_eq!(patients().group(name), None, "{name}");
        }
    }
}
