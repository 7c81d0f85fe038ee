//! Height and width of images, and which of them networks are built for.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Channels of an image: 1 is grey, 3 is colour.
pub const CHANNELS: [usize; 2] = [1, 3];

/// The format by which a schema tells a size from another text.
pub(crate) const FORMAT: &str = "image-size";

/// Height and width of images, in pixels.
///
/// It is written as one number where both are the same, and as width x height otherwise, in settings, in checkpoints and after flags.
/// `{:#}` always writes both.
///
/// ```
/// use cellforge_settings::ImageSize;
///
/// let wide: ImageSize = "320x240".parse()?;
/// assert_eq!((wide.height, wide.width, wide.to_string()), (240, 320, "320x240".to_owned()));
/// assert_eq!(ImageSize::from(64).to_string(), "64");
/// assert_eq!(format!("{:#}", ImageSize::from(64)), "64x64");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageSize {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
}

impl ImageSize {
    /// The sides for which networks are built, in words: the rule of [`ImageSize::check`].
    pub const RULE: &str = "24, 28, 40, 56, or a multiple of 16 from 32 to 512";

    /// A size of `height` by `width` pixels.
    #[must_use]
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// A size of as many rows as columns.
    #[must_use]
    pub const fn square(side: usize) -> Self {
        Self::new(side, side)
    }

    /// Whether there are as many rows as columns. Only such images can be turned by a quarter.
    #[must_use]
    pub const fn is_square(self) -> bool {
        self.height == self.width
    }

    /// Pixels of an image. More than memory can count are as many as it can.
    #[must_use]
    pub const fn area(self) -> usize {
        self.height.saturating_mul(self.width)
    }

    /// The shorter of height and width.
    #[must_use]
    pub fn shorter(self) -> usize {
        self.height.min(self.width)
    }

    /// The longer of height and width.
    #[must_use]
    pub fn longer(self) -> usize {
        self.height.max(self.width)
    }

    /// This size, or, where its longer side is above `most`, the one of nearly the same shape whose longer side is `most`.
    #[must_use]
    pub fn within(self, most: usize) -> Self {
        let longer = self.longer();
        if longer <= most {
            return self;
        }
        let scaled = |side: usize| ((2 * side * most + longer) / (2 * longer)).max(1);
        Self::new(scaled(self.height), scaled(self.width))
    }

    /// Refuses images for which no network is built: both sides have to be 24, 28, 40, 56, or a multiple of 16 from 32 to 512.
    ///
    /// These are all sides of 3 to 7 times a power of two between 24 and 512, and others, such as the 240 of 320x240. Networks halve an
    /// image, or double a first map, two times at least.
    ///
    /// # Errors
    /// The size with the rule, in words.
    pub fn check(self) -> Result<(), String> {
        let is_trained =
            |side: usize| matches!(side, 24 | 28 | 40 | 56) || (side.is_multiple_of(16) && (32..=512).contains(&side));
        if is_trained(self.height) && is_trained(self.width) {
            return Ok(());
        }
        Err(format!("{self}: each side of an image is {}", Self::RULE))
    }

    /// The smallest size of the rule that holds this one. Sides beyond the largest become that.
    #[must_use]
    pub fn enclosing(self) -> Self {
        let side = |side: usize| {
            let known = |to: &usize| Self::square(*to).check().is_ok();
            (side..=512).find(known).unwrap_or(512)
        };
        Self::new(side(self.height), side(self.width))
    }
}

/// Refuses images that no network takes.
///
/// # Errors
/// As [`ImageSize::check`], or `channels` where it is none of [`CHANNELS`].
pub fn check_image(size: ImageSize, channels: usize) -> Result<(), String> {
    size.check().map_err(|reason| format!("image_size is {reason}"))?;
    match CHANNELS.contains(&channels) {
        true => Ok(()),
        false => Err(format!("channels is {channels}: images have 1 or 3 (grey or colour)")),
    }
}

impl From<usize> for ImageSize {
    fn from(side: usize) -> Self {
        Self::square(side)
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_square() && !f.alternate() {
            true => write!(f, "{}", self.height),
            false => write!(f, "{}x{}", self.width, self.height),
        }
    }
}

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.trim().parse::<usize>().ok().filter(|side| *side > 0);
        let found = match text.split_once(['x', 'X', '×']) {
            Some((width, height)) => side(height).zip(side(width)).map(|(height, width)| Self::new(height, width)),
            None => side(text).map(Self::square),
        };
        found
            .ok_or_else(|| format!("{text:?} is no size: write a side, such as 64, or width x height, such as 320x240"))
    }
}

impl Serialize for ImageSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.is_square() { self.height.serialize(to) } else { to.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for ImageSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ImageSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a side in pixels, or \"WIDTHxHEIGHT\"")
            }

            fn visit_u64<E: de::Error>(self, side: u64) -> Result<ImageSize, E> {
                self.visit_str(&side.to_string())
            }

            fn visit_i64<E: de::Error>(self, side: i64) -> Result<ImageSize, E> {
                self.visit_str(&side.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ImageSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for ImageSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ImageSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "format": FORMAT})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_a_number_and_a_rectangle_a_text() {
        for (size, json) in [(ImageSize::square(64), "64"), (ImageSize::new(240, 320), "\"320x240\"")] {
            assert_eq!(serde_json::to_string(&size).unwrap(), json);
            assert_eq!(serde_json::from_str::<ImageSize>(json).unwrap(), size);
        }
        assert_eq!("64x64".parse(), Ok(ImageSize::square(64)));
        assert_eq!(" 40 X 28 ".parse(), Ok(ImageSize::new(28, 40)));
        for wrong in ["", "x", "64x", "x64", "0", "0x32", "-32", "3.2", "32x32x32"] {
            assert!(wrong.parse::<ImageSize>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<ImageSize>("-1").is_err());
    }

    #[test]
    fn the_rule_has_every_small_multiple_of_a_power_of_two() {
        for side in (3..=7).flat_map(|times| (0..8).map(move |power| times << power)).chain([240, 272, 496]) {
            let good = (24..=512).contains(&side);
            assert_eq!(ImageSize::square(side).check().is_ok(), good, "{side}");
        }
        for (size, good) in [("320x240", true), ("40x28", true), ("64x50", false), ("50x64", false), ("16x32", false)] {
            assert_eq!(size.parse::<ImageSize>().unwrap().check().is_ok(), good, "{size}");
        }
    }

    #[test]
    fn shapes_are_kept_within_a_side() {
        // 240 * 32 / 320 = 24; 28 * 32 / 40 = 22.4.
        assert_eq!(ImageSize::new(240, 320).within(32), ImageSize::new(24, 32));
        assert_eq!(ImageSize::new(28, 40).within(32), ImageSize::new(22, 32));
        assert_eq!(ImageSize::new(28, 40).within(40), ImageSize::new(28, 40));
        assert_eq!(ImageSize::new(1, 1000).within(4), ImageSize::new(1, 4));
        assert_eq!(ImageSize::new(25, 600).enclosing(), ImageSize::new(28, 512));
        assert_eq!(ImageSize::square(128).enclosing(), ImageSize::square(128));
    }
}
