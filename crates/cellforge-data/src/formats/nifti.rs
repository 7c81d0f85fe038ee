//! NIfTI-1 and NIfTI-2 volumes of either order of bytes, plain or compressed with gzip, cut into slices.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use nifti::{NiftiHeader, NiftiType};

use super::samples::{Kind, Number};
use super::{Contents, Depth, Frame, MAX_STACK_BYTES, Outcome, Samples};
use crate::decode::MAX_IMAGE_SIDE;
use crate::stacks::Stacks;

/// Bytes of a header of NIfTI-1, which begins with this number.
const HEADER_1: usize = 348;
/// Those of NIfTI-2.
const HEADER_2: usize = 540;

/// A volume, or several one after the other where there are more than three axes.
pub(crate) struct Volume {
    /// Voxels along x, y and z, and the product of all further axes.
    dim: [usize; 4],
    /// The axis that is cut across: 0, 1 or 2.
    axis: usize,
    number: Number,
    /// Numbers a voxel: 1, or 3 for colours.
    channels: usize,
    slope: f32,
    intercept: f32,
    data: Vec<u8>,
}

/// The whole content, unpacked where it is packed, and no more than `limit` bytes of it.
fn unpacked(bytes: &[u8], limit: u64) -> Outcome<Vec<u8>> {
    let mut data = Vec::new();
    let read = match bytes {
        [0x1F, 0x8B, ..] => MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut data),
        _ => bytes.take(limit).read_to_end(&mut data),
    };
    read.map_err(|error| format!("it cannot be unpacked ({error})"))?;
    Ok(data)
}

/// What a header says of the voxels.
struct Told {
    dim: [usize; 4],
    number: Number,
    channels: usize,
    offset: usize,
    slope: f32,
    intercept: f32,
}

/// Whether a file that begins with `head` is of NIfTI-2, and if so, whether big-endian.
fn second(head: &[u8]) -> Option<bool> {
    let (size, magic) = (head.get(..4)?, head.get(4..8)?);
    let big_endian = size == (HEADER_2 as u32).to_be_bytes();
    let is_second = big_endian || size == (HEADER_2 as u32).to_le_bytes();
    (is_second && matches!(magic, b"n+2\0" | b"ni2\0")).then_some(big_endian)
}

fn told(start: &[u8]) -> Outcome<Told> {
    match second(start) {
        Some(big_endian) => told_2(start, big_endian),
        None => told_1(start),
    }
}

const ELSEWHERE: &str = "its voxels lie in another file (.img), which is not read: save it as one .nii";

fn told_1(start: &[u8]) -> Outcome<Told> {
    let broken = |reason: String| format!("its header is not that of a NIfTI-1 volume ({reason})");
    if start.len() < HEADER_1 {
        return Err(broken(format!("it has {} bytes", start.len())));
    }
    let header = NiftiHeader::from_reader(start).map_err(|error| broken(error.to_string()))?;
    if &header.magic != b"n+1\0" {
        return Err(ELSEWHERE.to_owned());
    }
    let sizes = header.dim().map_err(|error| broken(error.to_string()))?;
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size)).collect();
    let offset = if header.vox_offset.is_finite() { header.vox_offset.max(HEADER_1 as f32) as u64 } else { 0 };
    let big_endian = header.endianness == nifti::Endianness::Big;
    Told::new(&sizes, &header, big_endian, offset.max(HEADER_1 as u64), (header.scl_slope, header.scl_inter))
}

/// The header of NIfTI-2, of which the crate `nifti` reads none, as the standard's `nifti2.h` has it.
fn told_2(start: &[u8], big_endian: bool) -> Outcome<Told> {
    let broken = |reason: String| format!("its header is not that of a NIfTI-2 volume ({reason})");
    if start.len() < HEADER_2 {
        return Err(broken(format!("it has {} bytes", start.len())));
    }
    if &start[4..8] != b"n+2\0" {
        return Err(ELSEWHERE.to_owned());
    }
    let field = |at: usize| {
        let bytes: [u8; 8] = std::array::from_fn(|byte| start[at + byte]);
        if big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
    };
    let (axes, sizes) = (field(16) as i64, (1..8).map(|axis| field(16 + 8 * axis) as i64));
    if !(1..=7).contains(&axes) {
        return Err(broken(format!("it has {axes} axes")));
    }
    let sizes = sizes.take(axes as usize).map(|size| match usize::try_from(size) {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(broken(format!("an axis has {size} voxels"))),
    });
    let kind = [start[12], start[13]];
    let datatype = if big_endian { i16::from_be_bytes(kind) } else { i16::from_le_bytes(kind) };
    let header = NiftiHeader { datatype, ..NiftiHeader::default() };
    let offset = field(168).clamp(HEADER_2 as u64, i64::MAX as u64);
    let scaling = (f64::from_bits(field(176)) as f32, f64::from_bits(field(184)) as f32);
    Told::new(&sizes.collect::<Outcome<Vec<_>>>()?, &header, big_endian, offset, scaling)
}

impl Told {
    /// From the sizes of all axes, a header that has the type of voxels, where they begin, and slope and intercept.
    fn new(
        sizes: &[usize],
        header: &NiftiHeader,
        big_endian: bool,
        offset: u64,
        (slope, intercept): (f32, f32),
    ) -> Outcome<Self> {
        let mut dim = [1usize; 4];
        for (axis, size) in sizes.iter().enumerate() {
            dim[axis.min(3)] = dim[axis.min(3)].saturating_mul(*size);
        }
        let kind = header.data_type().map_err(|error| format!("its voxels have no type ({error})"))?;
        let (kind, width, channels) = match kind {
            NiftiType::Uint8 => (Kind::Unsigned, 1, 1),
            NiftiType::Uint16 => (Kind::Unsigned, 2, 1),
            NiftiType::Uint32 => (Kind::Unsigned, 4, 1),
            NiftiType::Uint64 => (Kind::Unsigned, 8, 1),
            NiftiType::Int8 => (Kind::Signed, 1, 1),
            NiftiType::Int16 => (Kind::Signed, 2, 1),
            NiftiType::Int32 => (Kind::Signed, 4, 1),
            NiftiType::Int64 => (Kind::Signed, 8, 1),
            NiftiType::Float32 => (Kind::Float, 4, 1),
            NiftiType::Float64 => (Kind::Float, 8, 1),
            NiftiType::Rgb24 => (Kind::Unsigned, 1, 3),
            other => return Err(format!("its voxels are of type {other:?}, which is no image's")),
        };
        if offset > MAX_STACK_BYTES {
            return Err(format!("its voxels begin at byte {offset}, which is beyond what is read"));
        }
        // A slope of 0 says that there is none.
        let scaled = slope != 0.0 && slope.is_finite() && intercept.is_finite();
        let (slope, intercept) = if scaled { (slope, intercept) } else { (1.0, 0.0) };
        let number = Number { kind, width, big_endian };
        Ok(Self { dim, number, channels, offset: offset as usize, slope, intercept })
    }
}

/// Slices across an axis, over all volumes.
fn slices(dim: [usize; 4], axis: usize) -> usize {
    dim[axis].saturating_mul(dim[3])
}

fn axis(stacks: &Stacks) -> Outcome<usize> {
    match stacks.axis {
        axis @ 1..=3 => Ok(axis - 1),
        other => Err(format!("a volume has the axes 1, 2 and 3, and no axis {other}")),
    }
}

pub(super) fn look(bytes: &[u8], stacks: &Stacks) -> Outcome<Contents> {
    let told = told(&unpacked(bytes, HEADER_2 as u64)?)?;
    let frames = slices(told.dim, axis(stacks)?);
    Ok(Contents { is_stack: true, ..Contents::stack(frames, stacks)? })
}

impl Volume {
    pub(crate) fn open(bytes: &[u8], stacks: &Stacks) -> Outcome<Self> {
        let start = told(&unpacked(bytes, HEADER_2 as u64)?)?;
        let Told { dim, number, channels, offset, slope, intercept } = start;
        if dim[..3].iter().any(|size| *size > MAX_IMAGE_SIDE as usize) {
            return Err(format!(
                "it has {} x {} x {} voxels, at most {MAX_IMAGE_SIDE} along an axis are read",
                dim[0], dim[1], dim[2]
            ));
        }
        let size = dim.iter().try_fold(number.width * channels, |size, n| size.checked_mul(*n));
        let size = size.filter(|size| *size as u64 <= MAX_STACK_BYTES).ok_or("its voxels take more than 2 GiB")?;
        let mut data = unpacked(bytes, (offset + size) as u64)?;
        if data.len() < offset + size {
            return Err(format!("it is cut short: {} of {} bytes", data.len(), offset + size));
        }
        data.drain(..offset);
        Ok(Self { dim, axis: axis(stacks)?, number, channels, slope, intercept, data })
    }

    /// Slice `frame`: its columns run along the first of the two other axes and its rows along the second, as they are stored. Where both are
    /// those of a scanner's plane, that is how the volume's maker lists them.
    pub(crate) fn frame(&self, frame: usize) -> Outcome<Frame> {
        let [nx, ny, nz, _] = self.dim;
        if frame >= slices(self.dim, self.axis) {
            return Err(format!("it has no slice {}", frame + 1));
        }
        let (volume, slice) = (frame / self.dim[self.axis], frame % self.dim[self.axis]);
        let steps = [1, nx, nx * ny];
        let (across, down) = [(1, 2), (0, 2), (0, 1)][self.axis];
        let first = volume * nx * ny * nz + slice * steps[self.axis];
        let (width, height) = (self.dim[across], self.dim[down]);
        let mut values = Vec::with_capacity(width * height * self.channels);
        for y in 0..height {
            for x in 0..width {
                let voxel = first + x * steps[across] + y * steps[down];
                for channel in 0..self.channels {
                    let at = (voxel * self.channels + channel) * self.number.width;
                    let raw = self.number.read(&self.data[at..at + self.number.width]);
                    values.push(raw * self.slope + self.intercept);
                }
            }
        }
        let mode = format!("{} {}", self.number.name(), if self.channels == 1 { "grey" } else { "RGB" });
        let samples = match (self.channels, self.number) {
            (3, number) => number.samples(values),
            _ => Samples::Deep(values, Depth::Measured),
        };
        Ok(Frame { width, height, channels: self.channels, samples, mode })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// A volume of 16-bit integers, little-endian.
    pub(crate) fn nii(dim: &[u16], values: &[i16], slope: f32, intercept: f32) -> Vec<u8> {
        let mut bytes = vec![0u8; 352];
        bytes[..4].copy_from_slice(&348i32.to_le_bytes());
        for (at, size) in std::iter::once(&(dim.len() as u16)).chain(dim).enumerate() {
            bytes[40 + 2 * at..42 + 2 * at].copy_from_slice(&size.to_le_bytes());
        }
        bytes[70..72].copy_from_slice(&4i16.to_le_bytes());
        bytes[72..74].copy_from_slice(&16i16.to_le_bytes());
        bytes[108..112].copy_from_slice(&352f32.to_le_bytes());
        bytes[112..116].copy_from_slice(&slope.to_le_bytes());
        bytes[116..120].copy_from_slice(&intercept.to_le_bytes());
        bytes[344..348].copy_from_slice(b"n+1\0");
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    /// A volume of NIfTI-2 with 16-bit integers.
    fn nii_2(dim: &[i64], values: &[i16], slope: f64, intercept: f64, big_endian: bool) -> Vec<u8> {
        fn order<const N: usize>(mut little: [u8; N], big_endian: bool) -> [u8; N] {
            if big_endian {
                little.reverse();
            }
            little
        }
        let mut bytes = vec![0u8; 544];
        let mut put = |at: usize, value: [u8; 8]| bytes[at..at + 8].copy_from_slice(&order(value, big_endian));
        for (at, size) in std::iter::once(&(dim.len() as i64)).chain(dim).enumerate() {
            put(16 + 8 * at, size.to_le_bytes());
        }
        put(168, 544i64.to_le_bytes());
        put(176, slope.to_le_bytes());
        put(184, intercept.to_le_bytes());
        bytes[..4].copy_from_slice(&order(540i32.to_le_bytes(), big_endian));
        bytes[4..12].copy_from_slice(b"n+2\0\r\n\x1a\n");
        bytes[12..14].copy_from_slice(&order(4i16.to_le_bytes(), big_endian));
        bytes[14..16].copy_from_slice(&order(16i16.to_le_bytes(), big_endian));
        bytes.extend(values.iter().flat_map(|value| order(value.to_le_bytes(), big_endian)));
        bytes
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn values(frame: Frame) -> Vec<f32> {
        let Samples::Deep(values, Depth::Measured) = frame.samples else { panic!("not deep") };
        values
    }

    #[test]
    fn volumes_are_cut_across_any_axis() {
        // 2 x 3 x 4 voxels, each with the value 100 z + 10 y + x.
        let all: Vec<i16> =
            (0..4).flat_map(|z| (0..3).flat_map(move |y| (0..2).map(move |x| 100 * z + 10 * y + x))).collect();
        let bytes = nii(&[2, 3, 4], &all, 2.0, -1.0);
        for bytes in [bytes.clone(), gz(&bytes)] {
            let cut = |axis, frame| {
                let stacks = Stacks { axis, ..Stacks::default() };
                let frame = Volume::open(&bytes, &stacks).unwrap().frame(frame).unwrap();
                (frame.width, frame.height, values(frame))
            };
            let scaled = |values: &[i16]| values.iter().map(|v| f32::from(*v) * 2.0 - 1.0).collect::<Vec<_>>();
            assert_eq!(cut(3, 1), (2, 3, scaled(&[100, 101, 110, 111, 120, 121])));
            assert_eq!(cut(2, 2), (2, 4, scaled(&[20, 21, 120, 121, 220, 221, 320, 321])));
            assert_eq!(cut(1, 1), (3, 4, scaled(&[1, 11, 21, 101, 111, 121, 201, 211, 221, 301, 311, 321])));
            let contents = look(&bytes, &Stacks::default()).unwrap();
            assert_eq!((contents.slots.len(), contents.is_stack), (4, true));
            assert_eq!(look(&bytes, &Stacks { axis: 2, ..Stacks::default() }).unwrap().slots.len(), 3);
        }
    }

    #[test]
    fn four_axes_are_volumes_one_after_the_other() {
        let all: Vec<i16> = (0..2 * 2 * 2 * 3).collect();
        let bytes = nii(&[2, 2, 2, 3], &all, 0.0, 5.0);
        assert_eq!(look(&bytes, &Stacks::default()).unwrap().slots.len(), 6);
        let volume = Volume::open(&bytes, &Stacks::default()).unwrap();
        assert_eq!(values(volume.frame(5).unwrap()), [20.0, 21.0, 22.0, 23.0]);
        assert!(volume.frame(6).is_err());
    }

    #[test]
    fn both_versions_and_orders_hold_the_same() {
        let all: Vec<i16> = (-12..12).map(|value| 300 * value).collect();
        let first = nii(&[2, 3, 4], &all, 0.5, 7.0);
        let expected = values(Volume::open(&first, &Stacks::default()).unwrap().frame(2).unwrap());
        assert_eq!(expected[0], 7.0);
        // The first version in the other order: every field that is read, and the voxels, turned about.
        let mut turned = first.clone();
        turned[..4].reverse();
        for (fields, width) in [(40..56, 2), (70..74, 2), (108..120, 4), (352..400, 2)] {
            turned[fields].chunks_mut(width).for_each(<[u8]>::reverse);
        }
        let second = |big_endian| nii_2(&[2, 3, 4], &all, 0.5, 7.0, big_endian);
        for bytes in [turned, second(false), second(true), gz(&second(true))] {
            assert_eq!(look(&bytes, &Stacks::default()).unwrap().slots.len(), 4);
            let volume = Volume::open(&bytes, &Stacks::default()).unwrap();
            assert_eq!(values(volume.frame(2).unwrap()), expected);
        }
        assert_eq!([false, true].map(|order| super::second(&second(order))), [Some(false), Some(true)]);
    }

    #[test]
    fn what_is_broken_says_so() {
        let bytes = nii(&[2, 2, 2], &[0; 8], 1.0, 0.0);
        for kept in [0, 100, 347, bytes.len() - 1] {
            assert!(Volume::open(&bytes[..kept], &Stacks::default()).is_err(), "cut to {kept}");
        }
        let second = nii_2(&[2, 2, 2], &[0; 8], 1.0, 0.0, false);
        for kept in [8, 347, 539, second.len() - 1] {
            assert!(Volume::open(&second[..kept], &Stacks::default()).is_err(), "cut to {kept}");
        }
        let error = |dim: &[i64]| Volume::open(&nii_2(dim, &[0; 8], 1.0, 0.0, true), &Stacks::default()).err().unwrap();
        assert!(error(&[2, -2, 2]).contains("-2 voxels"));
        assert!(error(&[i64::MAX, i64::MAX, 2]).contains("at most"));
        assert!(error(&[2, 2, 2, i64::MAX]).contains("2 GiB"));
        assert!(error(&[]).contains("0 axes"));
        // Voxels that begin nowhere.
        let mut far = bytes.clone();
        far[108..112].copy_from_slice(&1e30f32.to_le_bytes());
        assert!(Volume::open(&far, &Stacks::default()).err().unwrap().contains("beyond what is read"));
        let mut far = second.clone();
        far[168..176].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Volume::open(&far, &Stacks::default()).err().unwrap().contains("beyond what is read"));
        let mut pair = second.clone();
        pair[4..8].copy_from_slice(b"ni2\0");
        assert!(look(&pair, &Stacks::default()).unwrap_err().contains(".img"));
        let packed = gz(&bytes);
        assert!(Volume::open(&packed[..packed.len() / 2], &Stacks::default()).is_err());
        let huge = nii(&[60_000, 60_000, 60_000, 60_000], &[], 1.0, 0.0);
        assert!(Volume::open(&huge, &Stacks::default()).is_err());
        assert!(look(&bytes, &Stacks { axis: 4, ..Stacks::default() }).unwrap_err().contains("axes 1, 2 and 3"));
    }
}
