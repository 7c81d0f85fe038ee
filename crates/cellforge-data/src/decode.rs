//! From image files to `u8` pixels of one size, in parallel.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use crate::cache::{self, Kept};
use crate::duplicates::Duplicates;
use crate::fit::fitted;
use crate::formats::{Format, Frame, Opened, Outcome, Samples, formats};
use crate::index::{Entry, Index, Skipped};
use crate::intensity::{Gathered, Intensities};
use crate::source::{MAX_FILE_BYTES, Reader, Source};
use crate::view::{Facts, Original, Pixels, Stored};
use crate::{Error, Fit, ImageSize, OpenOptions, Result, View};

/// The largest side an image file may have, in pixels.
pub const MAX_IMAGE_SIDE: u32 = 8192;
/// The most memory that the pixels of one image may take on their way to an image: 256 MiB, reckoned from the image's header as
/// its own pixels, a copy of them as RGBA and one as RGB, 8 bits each. That is RGB of 5,181 pixels a side, or RGBA in 16 bits of
/// 4,230. The file's own bytes are not counted.
///
/// Decoders of PNG and TIFF keep within the same limit. Those of JPEG and BMP know none: the coefficients of a progressive JPEG,
/// up to 8 bytes a pixel, are the most that comes on top.
pub const MAX_IMAGE_BYTES: u64 = 256 << 20;
/// The smallest side an image file may have: below this there is no image to see.
pub const MIN_IMAGE_SIDE: u32 = 4;
/// The sides an image can be resized to.
pub const SIDES: std::ops::RangeInclusive<usize> = 4..=1024;

/// Images decoded between two writes; the order of images, and which bad one is reported, do not depend on it.
const CHUNK: usize = 512;
/// Files at most whose images are looked at to learn of their shapes.
const SHAPES: usize = 200;
/// Files at most whose images are looked at for colours.
const COLOURS: usize = 32;
/// Grey levels that a set of images should span at least, or a warning tells that it is nearly of one.
const SMALL_SPAN: u8 = 64;

impl View {
    /// Decodes the images of an index, or maps the cache that an earlier call left.
    ///
    /// Images are turned as their EXIF data say, alpha is laid over black, grey becomes RGB or the other way round, and images of another
    /// size are resized with a Lanczos filter of 3 lobes, within 2/255 of Pillow; [`OpenOptions::fit`] says what becomes of another shape. Intensities beyond 8 bits become grey levels by one rule
    /// for the set: see [`OpenOptions::window`]. The rule is kept in [`View::facts`].
    ///
    /// Without a number of channels the images are grey if none of them shows a colour, which is known for sure only when all are decoded. Where
    /// one of the first that are looked at shows a colour, nothing is decoded twice.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options out of range; [`Error::Memory`] for more images than may be held; [`Error::BadImage`] for the first image (in order of name) that cannot be
    /// used, unless `skip_bad`; [`Error::EmptyClass`] where no image of a class can; [`Error::HostileZip`] always;
    /// [`Error::Io`].
    pub fn load(index: &Index, options: &OpenOptions) -> Result<Self> {
        let source = Source::open(&index.root)?;
        if options.channels.is_some() {
            return Self::load_from(&source, index, options);
        }
        let in_channels = |channels| OpenOptions { channels: Some(channels), ..options.clone() };
        if !shows_colour(&source, index, options) {
            let images = Self::load_from(&source, index, &in_channels(1))?;
            if images.facts().originals.iter().all(|kind| kind.is_grey) {
                return Ok(images);
            }
        }
        Self::load_from(&source, index, &in_channels(3))
    }

    /// As [`View::load`], of an open source.
    fn load_from(source: &Source, index: &Index, options: &OpenOptions) -> Result<Self> {
        check_shape(options.size, options.used_channels())?;
        check_window(options.window)?;
        let fit = options.fit.settled(&shapes(source, index, options), options.size);
        let options = &OpenOptions { fit, ..options.clone() };
        let (kept, pixels) = match &options.cache_dir {
            Some(dir) => {
                let key = cache::key(source, index, options)?;
                cache::open_or_build(dir, &key, options, |sink| decode_all(source, index, options, sink))?
            }
            None => {
                check_memory(index.entries.len(), options)?;
                let mut bytes = Vec::new();
                bytes.reserve_exact(index.entries.len() * image_bytes(options));
                let kept = decode_all(source, index, options, &mut |image| {
                    bytes.extend_from_slice(image);
                    Ok(())
                })?;
                (kept, Pixels::Memory(bytes))
            }
        };
        warn_of(&kept);
        let entries = || kept.places.iter().map(|place| &index.entries[*place]);
        let facts = Facts {
            layout: index.layout.clone(),
            left_out: index.left_out.clone(),
            intensities: kept.intensities.clone(),
            originals: kept.originals.clone(),
            fit,
        };
        let view = Stored {
            classes: index.classes.clone(),
            names: entries().map(|entry| entry.name.clone()).collect(),
            labels: entries().map(|entry| entry.class as u32).collect(),
            groups: entries().map(|entry| entry.group.clone()).collect(),
            parts: entries().map(|entry| entry.part).collect(),
            skipped: index.skipped.iter().chain(&kept.skipped).cloned().collect(),
            facts,
            size: options.size,
            channels: options.used_channels(),
            pixels,
        }
        .into_view()?;
        let view = if options.duplicates == Duplicates::Drop { view.without_twins()? } else { view };
        if let Some(class) = view.class_counts().iter().position(|count| *count == 0) {
            let class = index.classes[class].clone();
            return Err(Error::EmptyClass { path: index.root.clone(), class, left_out: Vec::new() });
        }
        Ok(view)
    }
}

/// Refuses images whose pixels would take more memory than they may.
fn check_memory(images: usize, options: &OpenOptions) -> Result<()> {
    let bytes = (images as u64).saturating_mul(image_bytes(options) as u64);
    match options.memory {
        Some(limit) if bytes > limit => {
            let (size, channels) = (options.size, options.used_channels());
            Err(Error::Memory { images, size, channels, bytes, limit })
        }
        _ => Ok(()),
    }
}

/// Tells of intensities of which little would be seen.
fn warn_of(kept: &Kept) {
    match (&kept.intensities, kept.span) {
        (Some(found), _) if found.use_small_part() => tracing::warn!(
            "99% of the intensities lie between {} and {}, a small part of the range {found} by which they are scaled: the images show little \
             contrast",
            found.middle.0,
            found.middle.1
        ),
        (None, Some((low, high))) if high - low < SMALL_SPAN => tracing::warn!(
            "the images have grey levels from {low} to {high} of 0 to 255 alone, and show little contrast"
        ),
        _ => {}
    }
}

fn check_window(window: Option<(f64, f64)>) -> Result<()> {
    match window {
        Some((low, high)) if !(low.is_finite() && high.is_finite() && low < high) => {
            Err(Error::Invalid(format!("a window goes from a low intensity to a higher one, not from {low} to {high}")))
        }
        _ => Ok(()),
    }
}

fn check_shape(size: ImageSize, channels: usize) -> Result<()> {
    if !SIDES.contains(&size.height) || !SIDES.contains(&size.width) {
        let (low, high) = SIDES.into_inner();
        return Err(Error::Invalid(format!("images of {size:#} pixels cannot be made: a side is {low} to {high}")));
    }
    if !matches!(channels, 1 | 3) {
        return Err(Error::Invalid(format!("images have 1 or 3 channels, not {channels}")));
    }
    Ok(())
}

/// Resizes an image as images are: stretched to `size` with a Lanczos filter of 3 lobes, within 2/255 of Pillow.
///
/// `pixels` holds `width * height * channels` bytes and the result those of `size`, row by row, channels last; `channels`
/// is 1 or 3.
///
/// # Errors
/// [`Error::Invalid`] where `pixels` has another length or is empty, a side is not within [`SIDES`], or `channels` is neither 1
/// nor 3.
pub fn resize(
    pixels: &[u8],
    width: usize,
    height: usize,
    channels: usize,
    size: impl Into<ImageSize>,
) -> Result<Vec<u8>> {
    let size = size.into();
    check_shape(size, channels)?;
    let wanted = width.checked_mul(height).and_then(|area| area.checked_mul(channels));
    if pixels.is_empty() || wanted != Some(pixels.len()) {
        let bytes = pixels.len();
        return Err(Error::Invalid(format!("an image of {width}x{height}x{channels} is not made of {bytes} bytes")));
    }
    fitted(pixels.to_vec(), ImageSize::new(height, width), channels, size, Fit::Stretch).map_err(Error::Invalid)
}

/// Bytes of one decoded image.
pub(crate) fn image_bytes(options: &OpenOptions) -> usize {
    options.size.area() * options.used_channels()
}

/// An image of the set's size, and what it was before.
struct Decoded {
    pixels: Vec<u8>,
    original: Original,
}

/// Widths and heights of some of the images, where they decide how images are fitted.
fn shapes(source: &Source, index: &Index, options: &OpenOptions) -> Vec<(usize, usize)> {
    if options.fit != Fit::Auto {
        return Vec::new();
    }
    of_some(source, index, options, SHAPES, |file, frame| file.shape(frame).ok())
}

/// Whether one of some of the images shows a colour.
fn shows_colour(source: &Source, index: &Index, options: &OpenOptions) -> bool {
    let has_colour = |file: &Opened, frame| {
        let frame = file.frame(frame).ok()?;
        let is_grey = match &frame.samples {
            Samples::Bytes(bytes) => is_grey(bytes),
            Samples::Deep(values, _) => is_grey(values),
        };
        Some(frame.channels == 3 && !is_grey)
    };
    of_some(source, index, options, COLOURS, has_colour).contains(&true)
}

/// What is seen of the first image of some files, at most `most`, evenly spread over the set. One that cannot be read says so when it is
/// decoded.
fn of_some<T: Send>(
    source: &Source,
    index: &Index,
    options: &OpenOptions,
    most: usize,
    look: impl Fn(&Opened, usize) -> Option<T> + Sync,
) -> Vec<T> {
    let decoder = Decoder { source, index, options, intensities: None, done: AtomicU64::new(0) };
    let runs = by_file(&index.entries);
    let some: Vec<&Range<usize>> = runs.iter().step_by(runs.len().div_ceil(most).max(1)).collect();
    let seen = |reader: &mut Reader<'_>, run: &&Range<usize>| {
        let entry = &index.entries[run.start];
        look(&decoder.opened(reader, entry).ok()?, entry.frame)
    };
    some.par_iter().map_init(|| source.reader(), seen).flatten().collect()
}

/// Whether RGB pixels show no colour.
fn is_grey<T: PartialEq>(values: &[T]) -> bool {
    values.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2])
}

/// The entries of each file, which lie together.
pub(crate) fn by_file(entries: &[Entry]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in 0..entries.len() {
        match runs.last_mut() {
            Some(run) if entries[run.start].file == entries[at].file => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// What decoding an index takes.
struct Decoder<'a> {
    source: &'a Source,
    index: &'a Index,
    options: &'a OpenOptions,
    intensities: Option<Intensities>,
    done: AtomicU64,
}

/// Decodes every entry in order into `sink`, an image at a time.
fn decode_all(
    source: &Source,
    index: &Index,
    options: &OpenOptions,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Kept> {
    let mut decoder = Decoder { source, index, options, intensities: None, done: AtomicU64::new(0) };
    decoder.intensities = decoder.gathered().rule(options.window);
    let mut kept = Kept { intensities: decoder.intensities.clone(), ..Kept::default() };
    let mut originals: BTreeMap<Original, usize> = BTreeMap::new();
    let mut take = |place: usize, image: Result<Decoded>, kept: &mut Kept| match image {
        Ok(Decoded { pixels, original }) => {
            let (low, high) = kept.span.unwrap_or((255, 0));
            kept.span = Some(pixels.iter().fold((low, high), |(low, high), v| (low.min(*v), high.max(*v))));
            *originals.entry(original).or_default() += 1;
            kept.places.push(place);
            sink(&pixels)
        }
        Err(Error::BadImage { name, reason, .. }) if options.skip_bad => {
            kept.skipped.push(Skipped { name, reason });
            Ok(())
        }
        Err(error) => Err(error),
    };
    let runs = by_file(&index.entries);
    let mut rest = runs.as_slice();
    while let Some(first) = rest.first() {
        if first.len() > CHUNK {
            // One file of many images is opened once.
            match decoder.opened(&mut source.reader(), &index.entries[first.start]) {
                Err(error) => take(first.start, Err(error), &mut kept)?,
                Ok(opened) => {
                    for places in chunks(first) {
                        let images: Vec<_> =
                            places.clone().into_par_iter().map(|at| decoder.image(&opened, at)).collect();
                        places.zip(images).try_for_each(|(place, image)| take(place, image, &mut kept))?;
                    }
                }
            }
            rest = &rest[1..];
            continue;
        }
        let mut images = 0;
        let many = rest.iter().take_while(|run| {
            images += run.len();
            run.len() <= CHUNK && images <= CHUNK
        });
        let (batch, later) = rest.split_at(many.count().max(1));
        let decoded: Vec<Vec<(usize, Result<Decoded>)>> =
            batch.par_iter().map_init(|| source.reader(), |reader, run| decoder.file(reader, run)).collect();
        decoded.into_iter().flatten().try_for_each(|(place, image)| take(place, image, &mut kept))?;
        rest = later;
    }
    let total = index.entries.len() as u64;
    options.progress.iter().for_each(|progress| progress.tell(total, Some(total)));
    let of = |(original, images): (Original, usize)| Original { images, ..original };
    kept.originals = originals.into_iter().map(of).collect();
    Ok(kept)
}

/// A range in pieces of [`CHUNK`].
fn chunks(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let end = range.end;
    range.clone().step_by(CHUNK).map(move |start| start..(start + CHUNK).min(end))
}

impl Decoder<'_> {
    fn bad(&self, name: &str, reason: String) -> Error {
        Error::BadImage { path: self.index.root.clone(), name: name.to_owned(), reason }
    }

    /// What the images have in common that may have more than 8 bits. One that cannot be read says so when it is decoded.
    fn gathered(&self) -> Gathered {
        let entries = &self.index.entries;
        let runs: Vec<Range<usize>> =
            by_file(entries).into_iter().filter(|run| entries[run.start].may_be_deep).collect();
        let share = Gathered::share(runs.iter().map(Range::len).sum());
        let add = |mut all: Gathered, one: Gathered| {
            all.add(one);
            all
        };
        let of_run = |reader: &mut Reader<'_>, run: &Range<usize>| {
            let Ok(opened) = self.opened(reader, &entries[run.start]) else { return Gathered::default() };
            let images = run.clone().into_par_iter().filter_map(|at| {
                let frame = opened.frame(entries[at].frame).ok()?;
                Gathered::of(&frame.samples, share)
            });
            images.reduce(Gathered::default, add)
        };
        runs.par_iter().map_init(|| self.source.reader(), of_run).reduce(Gathered::default, add)
    }

    /// The file of an entry, to be decoded image by image.
    fn opened(&self, reader: &mut Reader<'_>, entry: &Entry) -> Result<Opened> {
        let bytes = reader.read(&entry.file, entry.format.map_or(MAX_FILE_BYTES, Format::max_bytes))?;
        let bad = |reason| self.bad(&entry.file, reason);
        match entry.format {
            _ if bytes.is_empty() => Err(bad("the file is empty (0 bytes)".to_owned())),
            None => {
                Err(bad(format!("its content is not {}, whatever its name says", formats().replace(" and ", " or "))))
            }
            Some(format) => Opened::new(bytes, format, &self.options.stacks).map_err(bad),
        }
    }

    /// The images of one file, each with its place; one error for all where the file cannot be opened.
    fn file(&self, reader: &mut Reader<'_>, run: &Range<usize>) -> Vec<(usize, Result<Decoded>)> {
        match self.opened(reader, &self.index.entries[run.start]) {
            Ok(opened) => run.clone().map(|at| (at, self.image(&opened, at))).collect(),
            Err(error) => vec![(run.start, Err(error))],
        }
    }

    fn image(&self, opened: &Opened, at: usize) -> Result<Decoded> {
        let entry = &self.index.entries[at];
        let image =
            opened.frame(entry.frame).and_then(|frame| finished(frame, self.intensities.as_ref(), self.options));
        let total = self.index.entries.len() as u64;
        if let Some(progress) = &self.options.progress {
            // The end is told of once, when all is written.
            let done = (self.done.fetch_add(1, Ordering::Relaxed) + 1).min(total.saturating_sub(1));
            progress.tell(done, Some(total));
        }
        image.map_err(|reason| self.bad(&entry.name, reason))
    }
}

/// A frame as an image of the set's size: row by row, channels last. The error is the reason in words.
fn finished(frame: Frame, intensities: Option<&Intensities>, options: &OpenOptions) -> Outcome<Decoded> {
    let Frame { width, height, channels: stored, samples, mode } = frame;
    if width.min(height) < MIN_IMAGE_SIDE as usize {
        return Err(format!("it is too small ({width}x{height}, at least {MIN_IMAGE_SIDE}x{MIN_IMAGE_SIDE})"));
    }
    let bytes = match (samples, intensities) {
        (Samples::Bytes(bytes), _) => bytes,
        (Samples::Deep(values, _), Some(rule)) => values.into_iter().map(|value| rule.level(value)).collect(),
        (Samples::Deep(..), None) => return Err("its samples have more bits than its header says".to_owned()),
    };
    let grey = stored == 1 || is_grey(&bytes);
    let original = Original { width, height, mode, is_grey: grey, images: 0 };
    let pixels = match (stored, options.used_channels()) {
        (1, 3) => bytes.into_iter().flat_map(|value| [value; 3]).collect(),
        (3, 1) => luma(&bytes),
        _ => bytes,
    };
    let from = ImageSize::new(height, width);
    Ok(Decoded { pixels: fitted(pixels, from, options.used_channels(), options.size, options.fit)?, original })
}

/// ITU-R 601 luma in 16-bit fixed point; grey stays as it is.
fn luma(rgb: &[u8]) -> Vec<u8> {
    let weigh = |p: &[u8]| 19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 0x8000;
    rgb.chunks_exact(3).map(|p| (weigh(p) >> 16) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::Stacks;
    use crate::view::hex;
    use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
    use sha2::{Digest, Sha256};
    use std::io::Cursor;

    /// An image file of its own, 16 bits scaled by all that they may be.
    fn decode(bytes: &[u8], side: usize, channels: usize) -> Outcome<Vec<u8>> {
        let options = OpenOptions { fit: Fit::Stretch, ..OpenOptions::new(side, channels) };
        let format = Format::of(bytes, "").ok_or("not PNG")?;
        let frame = Opened::new(bytes.to_vec(), format, &Stacks::default())?.frame(0)?;
        let rule = Gathered::of(&frame.samples, 1000).and_then(|found| found.rule(Some((0.0, 65535.0))));
        Ok(finished(frame, rule.as_ref(), &options)?.pixels)
    }

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_kind_of_pixel_becomes_rgb() {
        let png = |image: DynamicImage| decode(&encode(image, ImageFormat::Png), 4, 3).unwrap()[..3].to_vec();
        assert_eq!(png(ImageBuffer::from_pixel(4, 4, Rgb([9u8, 8, 7])).into()), [9, 8, 7]);
        assert_eq!(png(ImageBuffer::from_pixel(4, 4, Luma([5u8])).into()), [5, 5, 5]);
        // 100 * 128 / 255 = 50.2; full transparency leaves black.
        assert_eq!(png(ImageBuffer::from_pixel(4, 4, Rgba([100u8, 0, 255, 128])).into()), [50, 0, 128]);
        assert_eq!(png(ImageBuffer::from_pixel(4, 4, LumaA([200u8, 0])).into()), [0, 0, 0]);
        // 16 bits: 257 * 77 is 77 of 255.
        assert_eq!(png(ImageBuffer::from_pixel(4, 4, Rgb([257u16 * 77, 0, 65535])).into()), [77, 0, 255]);
        assert_eq!(png(ImageBuffer::from_pixel(4, 4, Luma([257u16 * 3])).into()), [3, 3, 3]);
    }

    #[test]
    fn one_channel_is_luma_and_leaves_grey_alone() {
        // Pillow: Image.new("RGB", (4, 4), (10, 200, 60)).convert("L") is 127.
        let image: DynamicImage = ImageBuffer::from_pixel(4, 4, Rgb([10u8, 200, 60])).into();
        assert_eq!(decode(&encode(image, ImageFormat::Png), 4, 1).unwrap()[0], 127);
        assert!((0..=255).all(|v| luma(&[v, v, v]) == [v]));
    }

    #[test]
    fn every_format_decodes_and_resizes() {
        let image: DynamicImage = ImageBuffer::from_pixel(30, 20, Rgb([200u8, 100, 50])).into();
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff] {
            let bytes = encode(image.clone(), format);
            let image = decode(&bytes, 8, 3).unwrap();
            assert_eq!(image.len(), 8 * 8 * 3, "{format:?}");
            assert!(image[0].abs_diff(200) <= 2 && image[1].abs_diff(100) <= 2, "{format:?}: {:?}", &image[..3]);
            for kept in [bytes.len() / 2, bytes.len() - 40] {
                assert!(decode(&bytes[..kept], 8, 3).is_err(), "{format:?} cut to {kept} bytes");
            }
        }
    }

    #[test]
    fn reasons_are_in_words() {
        let reason = |bytes: &[u8]| decode(bytes, 8, 3).unwrap_err();
        assert!(reason(b"just some text").contains("not PNG"));
        let one = encode(ImageBuffer::from_pixel(1, 1, Rgb([1u8, 2, 3])), ImageFormat::Png);
        assert!(reason(&one).contains("1x1"));
    }

    #[test]
    fn huge_dimensions_are_refused_before_they_are_allocated() {
        let whole = encode(ImageBuffer::from_pixel(8, 8, Rgb([1u8, 2, 3])), ImageFormat::Bmp);
        let claiming = |side: u32| {
            // A BMP keeps its width and height at these places of its header.
            let mut bytes = whole.clone();
            bytes[18..22].copy_from_slice(&side.to_le_bytes());
            bytes[22..26].copy_from_slice(&side.to_le_bytes());
            decode(&bytes, 8, 3).unwrap_err()
        };
        assert!(claiming(100_000).contains("cannot be decoded"));
        // 6,000 * 6,000 * 3 bytes are 103 MiB, but with 7 more bytes a pixel for the copies they are 343.
        let reason = claiming(6000);
        assert!(reason.contains("6000x6000") && reason.contains("343 MiB, at most 256"), "{reason}");
    }

    #[test]
    fn resizing_is_what_decoding_does() {
        let image = ImageBuffer::from_fn(13, 21, |x, y| Rgb([(x * 19) as u8, (y * 12) as u8, ((x * y) % 256) as u8]));
        let pixels = image.as_raw().clone();
        assert_eq!(resize(&pixels, 13, 21, 3, 8).unwrap(), decode(&encode(image, ImageFormat::Png), 8, 3).unwrap());
        assert_eq!(resize(&[7; 16], 4, 4, 1, 4).unwrap(), [7; 16]);
        assert_eq!(resize(&[7; 16], 4, 4, 1, 6).unwrap(), [7; 36]);
        for (width, height, channels, side) in
            [(4, 5, 1, 8), (0, 0, 1, 8), (4, 4, 1, 2), (4, 2, 2, 8), (usize::MAX, 2, 1, 8)]
        {
            assert!(resize(&[7; 16], width, height, channels, side).is_err(), "{width}x{height}x{channels} to {side}");
        }
        assert!(resize(&[], 0, 4, 1, 8).is_err());
    }

    #[test]
    fn what_decoding_yields_is_pinned() {
        const PINNED: (u32, &str) = (3, "233a0e922d964985f6163c736a87e8d4c113fbc4175cd9332384f316c415ac75");
        let value = |x: u32, y: u32, channel: u32| x * 3701 + y * 10_103 + channel * 5903 + x * y * 701;
        let (eight, sixteen) =
            (|x, y, channel| value(x, y, channel) as u8, |x, y, channel| value(x, y, channel) as u16);
        let images: [DynamicImage; 6] = [
            ImageBuffer::from_fn(17, 23, |x, y| Luma([eight(x, y, 0)])).into(),
            ImageBuffer::from_fn(16, 16, |x, y| Rgb([eight(x, y, 0), eight(x, y, 1), eight(x, y, 2)])).into(),
            ImageBuffer::from_fn(31, 12, |x, y| Rgba([eight(x, y, 0), eight(x, y, 1), eight(x, y, 2), eight(x, y, 3)]))
                .into(),
            ImageBuffer::from_fn(9, 40, |x, y| LumaA([eight(x, y, 0), eight(x, y, 1)])).into(),
            ImageBuffer::from_fn(21, 11, |x, y| Luma([sixteen(x, y, 0)])).into(),
            ImageBuffer::from_fn(8, 19, |x, y| Rgb([sixteen(x, y, 0), sixteen(x, y, 1), sixteen(x, y, 2)])).into(),
        ];
        let mut hash = Sha256::new();
        for image in images {
            let bytes = encode(image, ImageFormat::Png);
            for (side, channels) in [(16, 3), (16, 1), (7, 3), (24, 1)] {
                hash.update(decode(&bytes, side, channels).unwrap());
            }
        }
        let found = hex(&hash.finalize());
        assert_eq!(
            (cache::VERSION, found.as_str()),
            PINNED,
            "decoding yields other bytes: raise VERSION in cache.rs, or old caches are taken for new, and pin both here"
        );
    }
}
