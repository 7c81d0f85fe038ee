//! NumPy's arrays: `.npy`, and several in a zip, `.npz`, with the layout of `MedMNIST` (`train_images`, `train_labels` and so on).
//!
//! The header of an array is a literal of Python's with three known keys, and is read by hand: the crate that does it brings a parser of
//! all of Python's literals along.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::samples::{Kind, Number};
use super::{Contents, Frame, MAX_FRAMES, MAX_STACK_BYTES, Outcome, Slot, numbered};
use crate::decode::MAX_IMAGE_SIDE;
use crate::layout::part_of;
use crate::stacks::Stacks;

/// The most bytes that the header of an array may have.
const MAX_HEADER: usize = 64 << 10;
/// The most arrays that a file may hold.
const MAX_ARRAYS: usize = 1000;
/// What arrays of images and of labels are called, apart from the part of a split.
const LABEL_WORDS: [&str; 6] = ["labels", "label", "y", "targets", "target", "classes"];

/// An array: its name in the file, its shape, and its numbers.
pub(crate) struct Array {
    name: String,
    shape: Vec<usize>,
    number: Number,
    fortran: bool,
    data: Vec<u8>,
}

/// How images lie in an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Images {
    count: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// Whether the first axis counts images.
    lead: bool,
    /// Whether channels come before rows.
    planar: bool,
}

impl Array {
    /// Reads an `.npy` file.
    pub(crate) fn open(bytes: &[u8]) -> Outcome<Self> {
        Self::read(&mut Cursor::new(bytes), String::new(), bytes.len() as u64)
    }

    /// Reads one of at most `length` bytes.
    fn read(reader: &mut dyn Read, name: String, length: u64) -> Outcome<Self> {
        let (shape, number, fortran) = header(reader)?;
        let size = shape.iter().try_fold(number.width, |size, n| size.checked_mul(*n));
        let size = size.filter(|size| *size as u64 <= length.min(MAX_STACK_BYTES));
        let size = size.ok_or_else(|| {
            format!("an array of shape {shape:?} is larger than its file, or than {} MiB", MAX_STACK_BYTES >> 20)
        })?;
        let mut data = Vec::new();
        reader
            .take(size as u64)
            .read_to_end(&mut data)
            .map_err(|error| format!("its array cannot be read: {error}"))?;
        if data.len() < size {
            return Err(format!("it is cut short: {} of {size} bytes of an array", data.len()));
        }
        Ok(Self { name, shape, number, fortran, data })
    }

    /// How far apart, counted in numbers, neighbours along each axis lie.
    fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.shape.len()];
        let axes: Vec<usize> = (0..self.shape.len()).collect();
        let order: Vec<usize> = if self.fortran { axes } else { axes.into_iter().rev().collect() };
        for pair in order.windows(2) {
            strides[pair[1]] = strides[pair[0]] * self.shape[pair[0]];
        }
        strides
    }

    /// The number at a place, counted from the first.
    fn value(&self, at: usize) -> f32 {
        let from = at * self.number.width;
        self.number.read(&self.data[from..from + self.number.width])
    }

    fn images(&self) -> Option<Images> {
        images(&self.shape)
    }

    fn frame(&self, at: usize) -> Outcome<Frame> {
        let found = self.images().ok_or_else(|| no_images(&self.shape))?;
        let Images { count, height, width, channels, lead, planar } = found;
        if at >= count {
            return Err(format!("it has {count} images, and none of number {}", at + 1));
        }
        // Alpha says nothing that an image of a body has to tell.
        let kept = if channels == 4 { 3 } else { channels };
        let strides = self.strides();
        let rows = usize::from(lead) + usize::from(planar);
        let of_channel = if planar { strides[usize::from(lead)] } else { strides.get(rows + 2).copied().unwrap_or(0) };
        let first = if lead { at * strides[0] } else { 0 };
        let mut values = Vec::with_capacity(height * width * kept);
        for y in 0..height {
            for x in 0..width {
                let pixel = first + y * strides[rows] + x * strides[rows + 1];
                values.extend((0..kept).map(|c| self.value(pixel + c * of_channel)));
            }
        }
        let kind = if kept == 1 { "grey" } else { "RGB" };
        let mode = format!("{} {kind}", self.number.name());
        Ok(Frame { width, height, channels: kept, samples: self.number.samples(values), mode })
    }
}

/// How images lie in an array of this shape: (h, w), (n, h, w), (h, w, c), (n, h, w, c) or (n, c, h, w).
fn images(shape: &[usize]) -> Option<Images> {
    let is_channels = |n: usize| matches!(n, 1 | 3 | 4);
    let one = |height, width, channels| Images { count: 1, height, width, channels, lead: false, planar: false };
    let many = |count, height, width, channels, planar| Images { count, height, width, channels, lead: true, planar };
    let found = match *shape {
        [h, w] => one(h, w, 1),
        [h, w, c] if matches!(c, 3 | 4) => one(h, w, c),
        [n, h, w] => many(n, h, w, 1, false),
        [n, h, w, c] if is_channels(c) => many(n, h, w, c, false),
        [n, c, h, w] if is_channels(c) => many(n, h, w, c, true),
        _ => return None,
    };
    let side = crate::decode::MIN_IMAGE_SIDE as usize..=MAX_IMAGE_SIDE as usize;
    (found.count > 0 && side.contains(&found.height) && side.contains(&found.width)).then_some(found)
}

fn no_images(shape: &[usize]) -> String {
    format!("an array of shape {shape:?} holds no images")
}

/// What a file holds whose arrays have other shapes than images.
fn no_image() -> Contents {
    let why = "arrays that hold no images: (n, h, w), (n, h, w, c), (n, c, h, w), (h, w) or (h, w, c) would";
    Contents { left_out: Some(why), ..Contents::default() }
}

/// Shape, type and order of an array of numbers, with the reader at the first.
fn header(reader: &mut dyn Read) -> Outcome<(Vec<usize>, Number, bool)> {
    let (descr, shape, fortran) = description(reader)?;
    let number = number(&descr).ok_or_else(|| format!("its array is of type {descr:?}, which is no image's"))?;
    Ok((shape, number, fortran))
}

/// Type, shape and order of an array, with the reader behind its header.
fn description(reader: &mut dyn Read) -> Outcome<(String, Vec<usize>, bool)> {
    let broken = || "its header is not that of an array of NumPy's".to_owned();
    let mut fixed = [0u8; 8];
    reader.read_exact(&mut fixed).map_err(|_| broken())?;
    if &fixed[..6] != b"\x93NUMPY" {
        return Err(broken());
    }
    let mut length = [0u8; 4];
    let digits = if fixed[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..digits]).map_err(|_| broken())?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(broken());
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(|_| broken())?;
    let text = String::from_utf8(text).map_err(|_| broken())?;
    let after = |key: &str| {
        let at = text.find(&format!("'{key}'"))?;
        Some(text[at + key.len() + 2..].trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = after("descr").ok_or_else(broken)?;
    let descr = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
    let descr = descr.ok_or("its array is of records, which are no images")?;
    let fortran = after("fortran_order").ok_or_else(broken)?.starts_with("True");
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next()).ok_or_else(broken)?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> =
        sizes.map(|size| size.trim_end_matches('L').parse().map_err(|_| broken())).collect::<Outcome<_>>()?;
    if shape.len() > 8 {
        return Err(broken());
    }
    Ok((descr.to_owned(), shape, fortran))
}

/// The type that NumPy calls so, as in `<f4`.
fn number(descr: &str) -> Option<Number> {
    let mut chars = descr.chars();
    let first = chars.next()?;
    let (order, kind) = if matches!(first, '<' | '>' | '|' | '=') { (first, chars.next()?) } else { ('<', first) };
    let kind = match kind {
        'b' | '?' => Kind::Bool,
        'u' => Kind::Unsigned,
        'i' => Kind::Signed,
        'f' => Kind::Float,
        _ => return None,
    };
    let width = chars.as_str().parse().ok()?;
    let number = Number { kind, width, big_endian: order == '>' };
    number.is_known().then_some(number)
}

pub(super) fn look_npy(bytes: &[u8], stacks: &Stacks) -> Outcome<Contents> {
    let (shape, number, _) = header(&mut Cursor::new(bytes))?;
    let Some(found) = images(&shape) else { return Ok(no_image()) };
    // The images of an array are no slices of one thing, as far as anyone knows.
    Ok(Contents { is_stack: false, is_shallow: number.is_shallow(), ..Contents::stack(found.count, stacks)? })
}

fn archive(bytes: &[u8]) -> Outcome<ZipArchive<Cursor<&[u8]>>> {
    let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| format!("it is no whole .npz ({error})"))?;
    if archive.len() > MAX_ARRAYS {
        return Err(format!("it holds {} arrays, at most {MAX_ARRAYS} are read", archive.len()));
    }
    Ok(archive)
}

/// Names and shapes of the arrays of a file, in its order.
fn shapes(bytes: &[u8]) -> Outcome<Vec<(String, Option<Vec<usize>>)>> {
    let mut archive = archive(bytes)?;
    let mut found = Vec::new();
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|error| format!("its array cannot be read: {error}"))?;
        let name = entry.name().map_err(|error| error.to_string())?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        found.push((name, header(&mut entry).ok().map(|(shape, ..)| shape)));
    }
    Ok(found)
}

/// Reads the arrays that hold images, in the order of the file, and of the others those that `wanted` names.
fn arrays(bytes: &[u8], wanted: impl Fn(&str, &[usize]) -> bool) -> Outcome<Vec<Array>> {
    let mut archive = archive(bytes)?;
    let (mut found, mut total) = (Vec::new(), 0u64);
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|error| format!("its array cannot be read: {error}"))?;
        let name = entry.name().map_err(|error| error.to_string())?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let size = entry.size();
        let mut start = Vec::new();
        // The header is read twice: what it says decides whether the rest is.
        let Ok((shape, ..)) = header(&mut (&mut entry).take(MAX_HEADER as u64).by_ref_into(&mut start)) else {
            continue;
        };
        if !wanted(&name, &shape) {
            continue;
        }
        total = total.saturating_add(size);
        if total > MAX_STACK_BYTES {
            return Err(format!("its arrays take more than {} MiB", MAX_STACK_BYTES >> 20));
        }
        found.push(Array::read(&mut Cursor::new(start).chain(entry), name, size)?);
    }
    Ok(found)
}

/// Notes in `into` what is read of a reader.
trait Noting<'a, R> {
    fn by_ref_into(self, into: &'a mut Vec<u8>) -> Noted<'a, R>;
}

impl<'a, R: Read> Noting<'a, R> for R {
    fn by_ref_into(self, into: &'a mut Vec<u8>) -> Noted<'a, R> {
        Noted { from: self, into }
    }
}

struct Noted<'a, R> {
    from: R,
    into: &'a mut Vec<u8>,
}

impl<R: Read> Read for Noted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.into.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

/// The words of an array's name, lower-case: `train_images` is of `train` and `images`.
fn words(name: &str) -> Vec<String> {
    name.split(['_', '-', '.', ' ']).map(str::to_ascii_lowercase).filter(|word| !word.is_empty()).collect()
}

fn is_labels(name: &str) -> bool {
    words(name).iter().any(|word| LABEL_WORDS.contains(&word.as_str()))
}

/// The name without words for images and labels: what an array of images and that of its labels share.
fn stem(name: &str) -> Vec<String> {
    let of_images = ["images", "image", "imgs", "img", "x", "data"];
    words(name).into_iter().filter(|w| !LABEL_WORDS.contains(&w.as_str()) && !of_images.contains(&w.as_str())).collect()
}

fn holds_images(name: &str, shape: &[usize]) -> bool {
    !is_labels(name) && shape.len() > 1 && images(shape).is_some()
}

pub(super) fn open_npz(bytes: &[u8]) -> Outcome<Vec<Array>> {
    arrays(bytes, holds_images)
}

/// Image `frame` of all, array by array.
pub(super) fn frame(arrays: &[Array], mut frame: usize) -> Outcome<Frame> {
    for array in arrays {
        let count = array.images().map_or(0, |images| images.count);
        if frame < count {
            return array.frame(frame);
        }
        frame -= count;
    }
    Err("it holds fewer images".to_owned())
}

/// The images of all arrays, with the part of a split that an array's name tells, and the classes that the array of labels with the same
/// part has.
pub(super) fn look_npz(bytes: &[u8]) -> Outcome<Contents> {
    let found = shapes(bytes)?;
    let of_images: Vec<(&String, &Vec<usize>)> = found
        .iter()
        .filter_map(|(name, shape)| Some((name, shape.as_ref()?)))
        .filter(|(name, shape)| holds_images(name, shape))
        .collect();
    if of_images.is_empty() {
        return Ok(no_image());
    }
    let texts = labels(bytes, &found, &of_images)?;
    // Numbers of one length sort as they count.
    let width =
        texts.iter().flatten().flatten().filter(|text| is_number(text)).map(String::len).max().unwrap_or_default();
    let (mut slots, mut first) = (Vec::new(), 0);
    for ((name, shape), texts) in of_images.iter().zip(texts) {
        let count = images(shape).map_or(0, |images| images.count);
        if first + count > MAX_FRAMES {
            return Err(format!("it holds more than {MAX_FRAMES} images"));
        }
        let part = words(name).iter().find_map(|word| part_of(word));
        let prefix = if of_images.len() == 1 { String::new() } else { format!("{name}_") };
        slots.extend((0..count).map(|at| Slot {
            frame: first + at,
            suffix: format!("{prefix}{}", numbered(at, count)),
            label: texts.as_ref().map(|texts| padded(&texts[at], width)),
            part,
        }));
        first += count;
    }
    Ok(Contents { slots, ..Contents::default() })
}

/// The classes of the images of each array, where there is an array of labels that belongs to it: numbers, by their names where the file has such,
/// or texts. `found` has the names and shapes of all arrays.
fn labels(
    bytes: &[u8],
    found: &[(String, Option<Vec<usize>>)],
    of_images: &[(&String, &Vec<usize>)],
) -> Outcome<Vec<Option<Vec<String>>>> {
    let numbers = arrays(bytes, |name, _| is_labels(name))?;
    let names = texts(bytes, "class_names")?.unwrap_or_default();
    let named = |text: String| match text.parse::<usize>().ok().and_then(|label| names.get(label)) {
        Some(name) => name.clone(),
        None => text,
    };
    // What has more axes is of pixels.
    let is_flat = |shape: &Option<Vec<usize>>| shape.as_ref().is_none_or(|shape| shape.len() <= 2);
    let of_array = |(name, shape): &(&String, &Vec<usize>)| {
        let belongs = |(array, _): &&(String, Option<Vec<usize>>)| is_labels(array) && stem(array) == stem(name);
        let Some((array, _)) = found.iter().filter(|(_, shape)| is_flat(shape)).find(belongs) else { return Ok(None) };
        let classes = match numbers.iter().find(|numbers| numbers.name == *array) {
            Some(numbers) => classes(numbers, shape[0]).map(|classes| classes.into_iter().map(named).collect()),
            None => texts(bytes, array)?.filter(|texts| texts.len() == shape[0]),
        };
        let reason = || {
            format!(
                "its array {array:?} has no labels for the {} images of {name:?}: one number or text each, or a column of ones and zeros \
                     for each class",
                shape[0]
            )
        };
        classes.ok_or_else(reason).map(Some)
    };
    of_images.iter().map(of_array).collect()
}

/// The texts of an array `(n)` or `(n, 1)` of them, of type `U` or `S`. None where there is no such array, or it holds something else.
fn texts(bytes: &[u8], name: &str) -> Outcome<Option<Vec<String>>> {
    let mut archive = archive(bytes)?;
    let Ok(mut entry) = archive.by_name(&format!("{name}.npy")) else { return Ok(None) };
    let (descr, shape, _) = description(&mut entry)?;
    if descr.contains('O') {
        return Err(format!(
            "its array {name:?} holds objects of Python's, which are not read: save it as numbers or as texts"
        ));
    }
    let of_bytes = descr.strip_prefix("|S").map(|width| (width, 1));
    let of_points = || descr.strip_prefix(['<', '>'])?.strip_prefix('U').map(|width| (width, 4));
    let Some((width, unit)) = of_bytes.or_else(of_points) else { return Ok(None) };
    let width = width.parse::<usize>().ok().filter(|width| *width > 0).and_then(|width| width.checked_mul(unit));
    let (Some(width), [count] | [count, 1]) = (width, shape.as_slice()) else { return Ok(None) };
    let size = width.checked_mul(*count).filter(|size| *size as u64 <= entry.size().min(MAX_STACK_BYTES));
    let Some(size) = size else { return Ok(None) };
    let mut data = Vec::new();
    entry.take(size as u64).read_to_end(&mut data).map_err(|error| format!("its array cannot be read: {error}"))?;
    let order = if descr.starts_with('>') { u32::from_be_bytes } else { u32::from_le_bytes };
    let text = |text: &[u8]| -> String {
        let points = text.chunks_exact(unit).map(|point| match *point {
            [a, b, c, d] => order([a, b, c, d]),
            _ => u32::from(point[0]),
        });
        points.filter_map(char::from_u32).take_while(|point| *point != '\0').collect()
    };
    Ok(Some(data.chunks_exact(width).map(text).collect()))
}

/// A number with zeros before it, up to a width; any other text as it is.
fn padded(text: &str, width: usize) -> String {
    if is_number(text) { format!("{text:0>width$}") } else { text.to_owned() }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The classes of `n` images by an array of labels: whole numbers, or the places of the ones where there are several columns. None where the
/// array has another shape.
fn classes(array: &Array, n: usize) -> Option<Vec<String>> {
    let columns: usize = array.shape.get(1..)?.iter().product();
    if array.shape[0] != n || columns == 0 || columns > 1000 || array.shape.len() > 2 {
        return None;
    }
    let strides = array.strides();
    let value = |i: usize, c: usize| array.value(i * strides[0] + strides.get(1).map_or(0, |stride| c * stride));
    let class = |i: usize| {
        if columns == 1 {
            return format!("{}", value(i, 0));
        }
        let set: Vec<String> = (0..columns).filter(|c| value(i, *c) > 0.5).map(|c| c.to_string()).collect();
        if set.is_empty() { "none".to_owned() } else { set.join("+") }
    };
    Some((0..n).map(class).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::formats::Samples;
    use crate::split::SplitPart;
    use std::io::Write;

    /// An `.npy` file.
    pub(crate) fn npy(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Vec<u8> {
        let fortran = if fortran { "True" } else { "False" };
        let shape: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
        let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({}), }}\n", shape.join(" "));
        let length = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], text.as_bytes(), data].concat()
    }

    pub(crate) fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn bytes_of(frame: Frame) -> Vec<u8> {
        let Samples::Bytes(bytes) = frame.samples else { panic!("not bytes") };
        bytes
    }

    #[test]
    fn shapes_say_where_images_are() {
        let counts = |shape: &[usize]| images(shape).map(|i| (i.count, i.height, i.width, i.channels, i.planar));
        assert_eq!(counts(&[28, 30]), Some((1, 28, 30, 1, false)));
        assert_eq!(counts(&[7, 28, 30]), Some((7, 28, 30, 1, false)));
        assert_eq!(counts(&[28, 30, 3]), Some((1, 28, 30, 3, false)));
        assert_eq!(counts(&[7, 28, 30, 3]), Some((7, 28, 30, 3, false)));
        assert_eq!(counts(&[7, 3, 28, 30]), Some((7, 28, 30, 3, true)));
        assert_eq!(counts(&[7, 28, 30, 1]), Some((7, 28, 30, 1, false)));
        for shape in [&[5][..], &[], &[2, 2], &[0, 28, 28], &[3, 28, 28, 28], &[4, 99_999]] {
            assert_eq!(counts(shape), None, "{shape:?}");
        }
    }

    #[test]
    fn orders_of_axes_are_undone() {
        let c: Vec<u8> = (0..2 * 4 * 5 * 3).collect();
        let plain = Array::open(&npy("|u1", false, &[2, 4, 5, 3], &c)).unwrap();
        assert_eq!(bytes_of(plain.frame(1).unwrap()), c[60..]);
        let value = |n: usize, y: usize, x: usize, ch: usize| c[((n * 4 + y) * 5 + x) * 3 + ch];
        let (mut fortran, mut planar) = (Vec::new(), Vec::new());
        for ch in 0..3 {
            for x in 0..5 {
                for y in 0..4 {
                    fortran.extend((0..2).map(|n| value(n, y, x, ch)));
                }
            }
        }
        for n in 0..2 {
            for ch in 0..3 {
                for y in 0..4 {
                    planar.extend((0..5).map(|x| value(n, y, x, ch)));
                }
            }
        }
        let fortran = Array::open(&npy("|u1", true, &[2, 4, 5, 3], &fortran)).unwrap();
        let planar = Array::open(&npy("|u1", false, &[2, 3, 4, 5], &planar)).unwrap();
        for array in [fortran, planar] {
            assert_eq!(bytes_of(array.frame(1).unwrap()), c[60..]);
            assert!(array.frame(2).is_err());
        }
        let grey = Array::open(&npy(">i2", false, &[4, 4], &(-1i16).to_be_bytes().repeat(16))).unwrap();
        let Samples::Deep(values, _) = grey.frame(0).unwrap().samples else { panic!("not deep") };
        assert_eq!(values, [-1.0; 16]);
    }

    #[test]
    fn the_layout_of_medmnist_has_parts_and_classes() {
        let images = |n: usize, from: u8| {
            npy("|u1", false, &[n, 4, 5], &(0..n * 20).map(|i| from + (i / 20) as u8).collect::<Vec<_>>())
        };
        let labels = |values: &[u8]| npy("|u1", false, &[values.len(), 1], values);
        let bytes = npz(&[
            ("train_images", images(3, 0)),
            ("val_images", images(1, 10)),
            ("test_images", images(2, 20)),
            ("train_labels", labels(&[0, 1, 10])),
            ("val_labels", labels(&[1])),
            ("test_labels", labels(&[10, 0])),
        ]);
        let contents = look_npz(&bytes).unwrap();
        let found: Vec<_> =
            contents.slots.iter().map(|s| (s.suffix.as_str(), s.label.as_deref().unwrap(), s.part.unwrap())).collect();
        assert_eq!(found[0], ("train_images_1", "00", SplitPart::Train));
        assert_eq!(found[2], ("train_images_3", "10", SplitPart::Train));
        assert_eq!(found[3], ("val_images_1", "01", SplitPart::Val));
        assert_eq!(found[5], ("test_images_2", "00", SplitPart::Test));
        let arrays = open_npz(&bytes).unwrap();
        assert_eq!(arrays.len(), 3);
        assert_eq!(bytes_of(frame(&arrays, 5).unwrap()), [21; 20]);
        assert!(frame(&arrays, 6).is_err());
    }

    #[test]
    fn several_labels_an_image_are_one_class() {
        let images = npy("|u1", false, &[2, 4, 5], &[0; 40]);
        let bytes = npz(&[("x", images), ("y", npy("|u1", false, &[2, 3], &[1, 0, 1, 0, 0, 0]))]);
        let labels: Vec<_> = look_npz(&bytes).unwrap().slots.into_iter().map(|slot| slot.label.unwrap()).collect();
        assert_eq!(labels, ["0+2", "none"]);
    }

    #[test]
    fn labels_are_texts_or_numbers_or_an_error() {
        let look = |labels: Vec<u8>| {
            let images = npy("|u1", false, &[2, 4, 5], &[0; 40]);
            let contents = look_npz(&npz(&[("images", images), ("labels", labels)]))?;
            Ok::<_, String>(contents.slots.into_iter().map(|slot| slot.label).collect::<Vec<_>>())
        };
        let some = |labels: [&str; 2]| Ok(labels.map(|label| Some(label.to_owned())).to_vec());
        let points = |texts: &[&str], width: usize| -> Vec<u8> {
            let of = |text: &&str| {
                let mut points: Vec<u32> = text.chars().map(u32::from).collect();
                points.resize(width, 0);
                points.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>()
            };
            texts.iter().flat_map(of).collect()
        };
        assert_eq!(look(npy("<U6", false, &[2], &points(&["benign", "größe"], 6))), some(["benign", "größe"]));
        assert_eq!(look(npy("|S2", false, &[2, 1], b"abc\0")), some(["ab", "c"]));
        assert_eq!(look(npy("<i2", false, &[2], &[0xFF, 0xFF, 0, 0])), some(["-1", "0"]));
        // Pixels are no labels, whatever they are called.
        assert_eq!(look(npy("|u1", false, &[2, 4, 5], &[0; 40])), Ok(vec![None, None]));
        assert!(look(npy("|O", false, &[2], &[0; 16])).unwrap_err().contains("objects"));
        for wrong in [npy("|u1", false, &[3], &[0; 3]), npy("<U1", false, &[1], &[65, 0, 0, 0])] {
            assert!(look(wrong).unwrap_err().contains("no labels for the 2 images of \"images\""));
        }
    }

    #[test]
    fn what_is_no_array_says_so() {
        let good = npy("|u1", false, &[2, 4, 4], &[0; 32]);
        for kept in [0, 5, 9, 20, good.len() - 1] {
            assert!(Array::open(&good[..kept]).is_err(), "cut to {kept}");
        }
        assert!(Array::open(&npy("|u1", false, &[1 << 40, 1 << 40], &[])).is_err());
        assert!(Array::open(&npy("|O", false, &[2, 4, 4], &[0; 32])).is_err());
        assert!(Array::open(&npy("<f3", false, &[2, 4, 4], &[0; 96])).is_err());
        assert!(look_npy(&npy("<f4", false, &[10], &[0; 40]), &Stacks::default()).unwrap().slots.is_empty());
        assert!(look_npz(&npz(&[("ids", npy("<f4", false, &[10], &[0; 40]))])).unwrap().slots.is_empty());
        assert!(look_npz(b"PK\x03\x04").is_err());
    }
}
