//! DICOM files: frames of grey levels after rescale and window (PS3.3 C.11.2.1.2), and of colours, in the transfer syntaxes that are read in
//! pure Rust: uncompressed, deflated, RLE, JPEG baseline, extended and lossless, JPEG-LS, JPEG 2000 and JPEG XL.
//!
//! Of what a file states of its patient, only who it is leaves this module, and the index makes a pseudonym of that.

mod compressed;
mod jpeg_2000;
mod jpeg_ls;
mod jpeg_xl;
mod palette;

use dicom_object::{DefaultDicomObject, OpenFileOptions, Tag};
use dicom_pixeldata::{
    ConvertOptions, DecodedPixelData, PhotometricInterpretation, PixelDecoder, VoiLutFunction, VoiLutOption,
};

use self::palette::Palette;
use super::{Contents, Depth, Frame, MAX_FRAMES, MAX_STACK_BYTES, Outcome, Samples};
use crate::decode::MAX_IMAGE_SIDE;
use crate::stacks::Stacks;

const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER_OF_PATIENT_ID: Tag = Tag(0x0010, 0x0021);
const SAMPLES_PER_PIXEL: Tag = Tag(0x0028, 0x0002);
const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
const PLANAR_CONFIGURATION: Tag = Tag(0x0028, 0x0006);
const NUMBER_OF_FRAMES: Tag = Tag(0x0028, 0x0008);
const ROWS: Tag = Tag(0x0028, 0x0010);
const COLUMNS: Tag = Tag(0x0028, 0x0011);
const BITS_ALLOCATED: Tag = Tag(0x0028, 0x0100);
const PIXEL_REPRESENTATION: Tag = Tag(0x0028, 0x0103);
const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// A decoded file.
pub(crate) struct Dicom {
    pixels: DecodedPixelData<'static>,
    palette: Option<Palette>,
    /// Whether the file's own window or table makes the grey levels.
    windows: bool,
}

/// The attributes of a file, with its pixels where `whole`.
fn object(bytes: &[u8], whole: bool) -> Outcome<DefaultDicomObject> {
    let options = OpenFileOptions::new();
    let options = if whole { options } else { options.read_until(PIXEL_DATA) };
    options.from_reader(bytes).map_err(|error| format!("it is no whole DICOM file ({})", chain(&error)))
}

/// An error with its causes, up to four of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause.filter(|_| words.len() < 4) {
        words.push(error.to_string());
        cause = error.source();
    }
    words.dedup();
    words.join(": ")
}

fn number(object: &DefaultDicomObject, tag: Tag) -> Option<u64> {
    object.get(tag)?.to_int().ok()
}

fn text(object: &DefaultDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// How many frames there are, once it is clear that they fit into memory.
fn frames(object: &DefaultDicomObject) -> Outcome<usize> {
    let (Some(rows), Some(columns)) = (number(object, ROWS), number(object, COLUMNS)) else {
        return Err("it is a DICOM file without an image".to_owned());
    };
    let frames = number(object, NUMBER_OF_FRAMES).unwrap_or(1).max(1);
    if rows.max(columns) > u64::from(MAX_IMAGE_SIDE) || frames > MAX_FRAMES as u64 {
        return Err(format!("its {frames} frames of {columns}x{rows} pixels are more than are read"));
    }
    let bytes = number(object, BITS_ALLOCATED).unwrap_or(8).div_ceil(8).clamp(1, 8);
    let size = rows * columns * frames * number(object, SAMPLES_PER_PIXEL).unwrap_or(1).min(16) * bytes;
    if size > MAX_STACK_BYTES {
        return Err(format!("its {frames} frames take {} MiB, at most {} are read", size >> 20, MAX_STACK_BYTES >> 20));
    }
    Ok(frames as usize)
}

/// The frames of a file, and its patient.
pub(super) fn look(bytes: &[u8], stacks: &Stacks) -> Outcome<Contents> {
    let object = object(bytes, false)?;
    if number(&object, ROWS).is_none() || number(&object, COLUMNS).is_none() {
        return Ok(Contents {
            left_out: Some("DICOM files without an image, such as directories and reports"),
            ..Contents::default()
        });
    }
    // The same number of two hospitals is of two patients.
    let patient = text(&object, PATIENT_ID)
        .map(|id| format!("{}\0{id}", text(&object, ISSUER_OF_PATIENT_ID).unwrap_or_default()));
    Ok(Contents { patient, ..Contents::stack(frames(&object)?, stacks)? })
}

impl Dicom {
    pub(crate) fn open(bytes: &[u8], windows: bool) -> Outcome<Self> {
        let mut object = object(bytes, true)?;
        let frames = frames(&object)?;
        compressed::unpack(&mut object, frames)?;
        let pixels = object.decode_pixel_data().map_err(|error| {
            format!(
                "its pixels cannot be decoded (transfer syntax {}: {})",
                object.meta().transfer_syntax(),
                chain(&error)
            )
        })?;
        let (stored, allocated) = (pixels.bits_stored(), pixels.bits_allocated());
        if stored == 0 || stored > allocated {
            return Err(format!("its pixels have {stored} bits of {allocated}, which cannot be"));
        }
        let has_palette = *pixels.photometric_interpretation() == PhotometricInterpretation::PaletteColor;
        let palette = has_palette.then(|| Palette::of(&object)).transpose()?;
        Ok(Self { pixels: pixels.to_owned(), palette, windows })
    }

    pub(crate) fn frame(&self, frame: usize) -> Outcome<Frame> {
        let pixels = &self.pixels;
        let (width, height) = (pixels.columns() as usize, pixels.rows() as usize);
        let bits = pixels.bits_stored();
        let at = u32::try_from(frame).map_err(|_| "it has no such frame".to_owned())?;
        if at >= pixels.number_of_frames() {
            return Err(format!("it has {} frames, and none of number {}", pixels.number_of_frames(), frame + 1));
        }
        let (channels, samples, kind) = match (pixels.samples_per_pixel(), &self.palette) {
            (1, Some(palette)) => (3, Samples::Bytes(palette.frame(pixels, at)?), "palette"),
            (1, None) if pixels.photometric_interpretation().is_monochrome() => (1, self.grey(at)?, "grey"),
            (3, None) => (3, Samples::Bytes(self.colours(at)?), "RGB"),
            _ => {
                let kind = pixels.photometric_interpretation();
                return Err(format!("its pixels are {kind}, which is not read"));
            }
        };
        let found = match &samples {
            Samples::Bytes(bytes) => bytes.len(),
            Samples::Deep(values, _) => values.len(),
        };
        if found != width * height * channels {
            return Err(format!("frame {} has {found} samples, not {}", frame + 1, width * height * channels));
        }
        Ok(Frame { width, height, channels, samples, mode: format!("{bits}-bit {kind}") })
    }

    /// Grey levels through the file's window or table, and intensities where it has none.
    fn grey(&self, frame: u32) -> Outcome<Samples> {
        let pixels = &self.pixels;
        let undecodable = |error: dicom_pixeldata::Error| format!("its pixels cannot be decoded ({})", chain(&error));
        let options = ConvertOptions::new().with_voi_lut(VoiLutOption::Identity);
        let mut values: Vec<f32> = pixels.to_vec_frame_with_options(frame, &options).map_err(undecodable)?;
        let inverted = *pixels.photometric_interpretation() == PhotometricInterpretation::Monochrome1;
        let of_frame = |n: usize| if n > 1 { frame as usize } else { 0 };
        let shade = |level: f64| {
            let level = level.round().clamp(0.0, 255.0) as u8;
            if inverted { 255 - level } else { level }
        };
        if self.windows
            && let Some(tables) = pixels.voi_lut_sequence().map_err(undecodable)?
            && let Some(table) = tables.get(of_frame(tables.len())).filter(|table| !table.data.is_empty())
        {
            let most = ((1u32 << table.bits_stored.clamp(1, 16)) - 1) as f64;
            let entry = |value: f32| {
                let at =
                    (value.round() as i64 - i64::from(table.min_pixel_value)).clamp(0, table.data.len() as i64 - 1);
                shade(f64::from(table.data[at as usize]) / most * 255.0)
            };
            return Ok(Samples::Bytes(values.into_iter().map(entry).collect()));
        }
        let windows = pixels.window().map_err(undecodable)?.unwrap_or_default();
        if let Some(window) = windows.get(of_frame(windows.len())).filter(|_| self.windows) {
            let functions = pixels.voi_lut_function().map_err(undecodable)?.unwrap_or_default();
            let function = functions.get(of_frame(functions.len())).copied().unwrap_or_default();
            let level = |value: f32| shade(windowed(f64::from(value), window.center, window.width, function));
            return Ok(Samples::Bytes(values.into_iter().map(level).collect()));
        }
        if inverted {
            // Turned about the middle of what the samples may be, so that all such files of a scanner turn alike.
            let rescale = pixels.rescale().map_err(undecodable)?;
            let rescale = rescale.get(of_frame(rescale.len())).copied();
            let (slope, intercept) = rescale.map_or((1.0, 0.0), |rescale| (rescale.slope, rescale.intercept));
            let signed = pixels.pixel_representation() == dicom_pixeldata::PixelRepresentation::Signed;
            let span = f64::from(1u32 << pixels.bits_stored().clamp(1, 31)) - 1.0;
            let ends = if signed { -1.0 } else { span };
            let turn = ends * slope + 2.0 * intercept;
            values.iter_mut().for_each(|value| *value = (turn - f64::from(*value)) as f32);
        }
        Ok(Samples::Deep(values, Depth::Measured))
    }

    /// Colours of 8 bits, red first.
    fn colours(&self, frame: u32) -> Outcome<Vec<u8>> {
        let pixels = &self.pixels;
        if pixels.bits_allocated() != 8 {
            return Err(format!("its colours have {} bits, which is not read", pixels.bits_allocated()));
        }
        let data =
            pixels.frame_data(frame).map_err(|error| format!("its pixels cannot be decoded ({})", chain(&error)))?;
        let planar = pixels.planar_configuration() == dicom_pixeldata::PlanarConfiguration::PixelFirst;
        let plane = data.len() / 3;
        let pixel = |at: usize| {
            if planar {
                [data[at], data[plane + at], data[2 * plane + at]]
            } else {
                [data[3 * at], data[3 * at + 1], data[3 * at + 2]]
            }
        };
        let of_light = matches!(
            pixels.photometric_interpretation(),
            PhotometricInterpretation::YbrFull | PhotometricInterpretation::YbrFull422
        );
        match pixels.photometric_interpretation() {
            PhotometricInterpretation::Rgb
            | PhotometricInterpretation::YbrFull
            | PhotometricInterpretation::YbrFull422 => {}
            other => return Err(format!("its pixels are {other}, which is not read")),
        }
        Ok((0..plane).flat_map(|at| if of_light { rgb(pixel(at)) } else { pixel(at) }).collect())
    }
}

/// A level from 0 to 255, not rounded, through a window: PS3.3 C.11.2.1.2 and C.11.2.1.3.
fn windowed(value: f64, centre: f64, width: f64, function: VoiLutFunction) -> f64 {
    match function {
        VoiLutFunction::Sigmoid => 255.0 / (1.0 + (-4.0 * (value - centre) / width.max(f64::MIN_POSITIVE)).exp()),
        VoiLutFunction::LinearExact => ((value - centre) / width.max(f64::MIN_POSITIVE) + 0.5).clamp(0.0, 1.0) * 255.0,
        VoiLutFunction::Linear if width <= 1.0 => {
            if value <= centre - 0.5 {
                0.0
            } else {
                255.0
            }
        }
        VoiLutFunction::Linear => ((value - (centre - 0.5)) / (width - 1.0) + 0.5).clamp(0.0, 1.0) * 255.0,
    }
}

/// Red, green and blue of a lightness and two colour differences: PS3.3 C.7.6.3.1.2.
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|v| v.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_standard() {
        // The example of C.11.2.1.2: centre 2048, width 4096, and output from 0 to 255.
        let linear = |value| windowed(value, 2048.0, 4096.0, VoiLutFunction::Linear);
        assert_eq!((linear(0.0), linear(4095.0), linear(-5.0), linear(9999.0)), (0.0, 255.0, 0.0, 255.0));
        assert!((linear(2048.0) - 127.5 - 255.0 / 4095.0 / 2.0).abs() < 1e-9);
        let step = |value| windowed(value, 100.0, 1.0, VoiLutFunction::Linear);
        assert_eq!((step(99.5), step(99.6)), (0.0, 255.0));
        assert_eq!(windowed(100.0, 100.0, 50.0, VoiLutFunction::LinearExact), 127.5);
        assert_eq!(windowed(100.0, 100.0, 50.0, VoiLutFunction::Sigmoid), 127.5);
    }

    #[test]
    fn colour_differences_make_colours() {
        assert_eq!(rgb([90, 128, 128]), [90, 90, 90]);
        assert_eq!(rgb([76, 85, 255]), [254, 0, 0]);
    }
}
