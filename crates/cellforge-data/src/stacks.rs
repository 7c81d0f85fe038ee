//! Which images of a file that holds several are meant: pages, frames and slices alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How volumes and other files of several images are cut into images.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stacks {
    /// The axis of a volume across which it is cut into slices: 1, 2 or 3, the last by default.
    pub axis: usize,
    /// Which slices, pages or frames are images.
    pub slices: Slices,
    /// Whether the grey levels of a DICOM file that has a window (or a table of levels) of its own are what that makes of them. Otherwise they
    /// are scaled with the set's other intensities.
    pub windows: bool,
}

impl Stacks {
    /// Slices across an axis, and the windows that DICOM files have.
    #[must_use]
    pub fn new(axis: usize, slices: Slices) -> Self {
        Self { axis, slices, ..Self::default() }
    }
}

impl Default for Stacks {
    fn default() -> Self {
        Self { axis: 3, slices: Slices::All, windows: true }
    }
}

/// Which slices of a volume, pages of a TIFF or frames of a DICOM file are images.
///
/// ```
/// use cellforge_data::Slices;
///
/// assert_eq!("middle".parse::<Slices>()?, Slices::Middle);
/// assert_eq!("5".parse::<Slices>()?, Slices::Every(5));
/// assert!("0".parse::<Slices>().is_err());
/// # Ok::<(), cellforge_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slices {
    /// Each.
    #[default]
    All,
    /// The one in the middle; of an even number the second of the two.
    Middle,
    /// Each so-and-so-many, from the first on.
    Every(usize),
}

impl Slices {
    /// The places of those that are chosen of `n`.
    pub(crate) fn chosen(self, n: usize) -> Box<dyn Iterator<Item = usize>> {
        match self {
            Self::All => Box::new(0..n),
            Self::Middle => Box::new(n / 2..n.min(n / 2 + 1)),
            Self::Every(step) => Box::new((0..n).step_by(step.max(1))),
        }
    }
}

impl FromStr for Slices {
    type Err = Error;

    /// `all`, `middle`, or a number of 1 or more: each so-and-so-many.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Self::All),
            "middle" => Ok(Self::Middle),
            _ => text.parse().ok().filter(|step| *step > 0).map(Self::Every).ok_or_else(|| {
                Error::Invalid(format!(
                    "slices are all, middle, or a number of 1 or more (each so-and-so-many), not {text:?}"
                ))
            }),
        }
    }
}

impl fmt::Display for Slices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Middle => f.write_str("middle"),
            Self::Every(step) => write!(f, "{step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_chosen() {
        let chosen = |slices: Slices, n| slices.chosen(n).collect::<Vec<_>>();
        assert_eq!(chosen(Slices::All, 3), [0, 1, 2]);
        assert_eq!(chosen(Slices::Middle, 5), [2]);
        assert_eq!(chosen(Slices::Middle, 4), [2]);
        assert_eq!(chosen(Slices::Middle, 1), [0]);
        assert_eq!(chosen(Slices::Every(2), 5), [0, 2, 4]);
        assert_eq!(chosen(Slices::Middle, 0), [0; 0]);
    }
}
