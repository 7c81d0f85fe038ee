//! Which images a network has seen in its training.

use cellforge_data::View;
use serde::{Deserialize, Serialize};

/// The images that a run learns from, known by their pixels ([`View::pixel_hash`]), eight bytes an image.
///
/// Names say nothing: an image keeps its pixels in another folder, and another image may take its name. Pixels are those that the network
/// gets, so that a set is compared at the network's side and channels. Nobody can draw an image from its hash, but whoever has an image can
/// tell whether it is among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenImages {
    /// What was trained on, by the network that it started from too.
    pub train: PixelHashes,
    /// What the best epoch was chosen by.
    pub val: PixelHashes,
}

/// Hashes in ascending order, each once; in a file 16 hexadecimal digits each, in one text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PixelHashes(Vec<u64>);

/// How many images of a set a network has seen in its training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Images of the set.
    pub images: usize,
    /// Those that the network was trained on.
    pub train: usize,
    /// Those that its best epoch was chosen by.
    pub val: usize,
}

impl SeenImages {
    /// Those of a run.
    pub(crate) fn new(train: &View, val: &View) -> Self {
        Self { train: PixelHashes::new(train), val: PixelHashes::new(val) }
    }

    /// These and those of the network that this one started from.
    pub(crate) fn and(mut self, earlier: Option<&Self>) -> Self {
        if let Some(Self { train, val }) = earlier {
            self.train = PixelHashes::sorted([self.train.0, train.0.clone()].concat());
            self.val = PixelHashes::sorted([self.val.0, val.0.clone()].concat());
        }
        self
    }

    /// How many of these images were seen.
    #[must_use]
    pub fn among(&self, images: &View) -> Seen {
        let hashes = hashes(images);
        let count = |of: &PixelHashes| hashes.iter().filter(|hash| of.contains(**hash)).count();
        Seen { images: images.len(), train: count(&self.train), val: count(&self.val) }
    }
}

fn hashes(images: &View) -> Vec<u64> {
    (0..images.len()).map(|i| images.pixel_hash(i)).collect()
}

impl PixelHashes {
    fn new(images: &View) -> Self {
        Self::sorted(hashes(images))
    }

    fn sorted(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        Self(hashes)
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, hash: u64) -> bool {
        self.0.binary_search(&hash).is_ok()
    }

    /// Number of different images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Hexadecimal digits of a hash.
const DIGITS: usize = 16;

impl From<PixelHashes> for String {
    fn from(hashes: PixelHashes) -> Self {
        hashes.0.iter().map(|hash| format!("{hash:0DIGITS$x}")).collect()
    }
}

impl TryFrom<String> for PixelHashes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("hashes of images are {DIGITS} hexadecimal digits each");
        let (all, rest) = text.as_bytes().as_chunks::<DIGITS>();
        let one = |digits: &[u8; DIGITS]| {
            let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
            u64::from_str_radix(text, 16).ok()
        };
        let hashes: Option<Vec<u64>> = all.iter().map(one).collect();
        hashes.filter(|_| rest.is_empty()).map(Self::sorted).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellforge_data::phantom::{self, PhantomConfig};

    #[test]
    fn images_are_known_again_by_their_pixels() {
        let all = phantom::render(&PhantomConfig { size: 16.into(), images_per_class: 6, ..PhantomConfig::default() })
            .unwrap();
        let seen = SeenImages::new(&all.part(&[0, 1, 2, 3, 7]), &all.part(&[4, 8]));
        assert_eq!(seen.among(&all), Seen { images: 12, train: 5, val: 2 });
        // In a set of other names and classes; an image that is there twice counts twice.
        let again = View::from_rgb([3, 3, 4, 9].map(|i| all.rgb(i))).unwrap();
        assert_eq!(seen.among(&again), Seen { images: 4, train: 2, val: 1 });
        // A grey level of one pixel makes another image.
        let changed = again.mapped(16, 3, |image| Ok([&[image[0] ^ 1], &image[1..]].concat())).unwrap();
        assert_eq!(seen.among(&changed), Seen { images: 4, train: 0, val: 0 });

        let text = serde_json::to_string(&seen).unwrap();
        // 16 digits an image, and as few beside.
        assert_eq!(text.len(), 7 * 16 + r#"{"train":"","val":""}"#.len());
        assert_eq!(serde_json::from_str::<SeenImages>(&text).unwrap(), seen);
        for bad in ["0", "00000000000000000", "000000000000000g", "+000000000000001", "\u{e9}00000000000000"] {
            assert!(PixelHashes::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
