//! JPEG-LS (ITU-T T.87), lossless and near-lossless, of one or three components in any interleaving: DICOM's transfer syntaxes
//! 1.2.840.10008.1.2.4.80 and .81.
//!
//! The decoder is our own. The one maintained in pure Rust, `pure_jpegls`, reads no colours, and its statistics overflow on streams that no
//! encoder wrote. Here every error that is read is held against what an encoder can write, so that no sum can overflow.

use super::compressed::{Coded, Shape, cut};
use crate::formats::Outcome;

/// Contexts of the regular mode, and the two of interrupted runs after them.
const CONTEXTS: usize = 365;
/// The orders of run lengths: table A.1's J.
const RUN_ORDER: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn word(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |word, byte| word << 8 | usize::from(*byte))
}

/// Decodes one frame, which has to be of the shape that the file states.
pub(super) fn decode(stream: &[u8], shape: Shape) -> Outcome<Coded> {
    let mut at = 2;
    if !stream.starts_with(&[0xFF, 0xD8]) {
        return Err("it does not begin as JPEG-LS does".to_owned());
    }
    let (mut bits, mut names) = (None, vec![]);
    let mut presets = [0; 5];
    // Rows of the components, one after the other where they come in scans of their own.
    let mut planes: Vec<Vec<u16>> = vec![];
    while planes.len() < shape.channels {
        let marker = *stream.get(at + 1).ok_or_else(cut)?;
        if stream[at] != 0xFF {
            return Err("a marker is missing".to_owned());
        }
        if marker == 0xFF {
            at += 1;
            continue;
        }
        let length = word(stream.get(at + 2..at + 4).ok_or_else(cut)?);
        let segment = stream.get(at + 4..at + 2 + length.max(2)).ok_or_else(cut)?;
        at += 2 + length.max(2);
        match (marker, segment) {
            (0xF7, [precision @ 2..=16, rest @ ..])
                if rest.len() == 5 + 3 * usize::from(*rest.get(4).unwrap_or(&0)) =>
            {
                shape.check(word(&rest[2..4]), word(&rest[..2]), usize::from(rest[4]))?;
                if rest[5..].chunks(3).any(|component| component[1] != 0x11) {
                    return Err("its components differ in size, which is not read".to_owned());
                }
                bits = Some(u32::from(*precision));
                names = rest[5..].chunks(3).map(|component| component[0]).collect();
            }
            (0xF8, [1, rest @ ..]) if rest.len() == 10 => {
                presets.iter_mut().zip(rest.chunks(2)).for_each(|(preset, bytes)| *preset = word(bytes) as i32);
            }
            (0xF8, _) => return Err("it has tables (LSE), which are not read".to_owned()),
            (0xDD, segment) if segment.iter().any(|byte| *byte != 0) => {
                return Err("it has restart intervals (DRI), which are not read".to_owned());
            }
            (0xE8, [b'm', b'r', b'f', b'x', kind, ..]) if *kind != 0 => {
                return Err("it has a colour transform of HP's, which is not read".to_owned());
            }
            (0xDA, [count, rest @ ..]) if rest.len() == 3 + 2 * usize::from(*count) => {
                let bits = bits.ok_or("its scan comes before its frame")?;
                let count = usize::from(*count);
                let [near, interleave, point] = rest[2 * count..] else {
                    unreachable!("as many bytes as were counted")
                };
                if rest[..2 * count].chunks(2).any(|component| component[1] != 0) || point != 0 {
                    return Err("it has mapping tables or a point transform, which are not read".to_owned());
                }
                let next = names.iter().skip(planes.len()).take(count);
                let is_next = rest[..2 * count].chunks(2).map(|component| &component[0]).eq(next);
                if !is_next || count != if interleave == 0 { 1 } else { shape.channels } {
                    return Err("its components do not come as JPEG-LS has them".to_owned());
                }
                let mut scan = Scan::new(&stream[at..], bits, i32::from(near), presets)?;
                let (width, height) = (shape.width, shape.height);
                match (interleave, count) {
                    (0, _) => planes.extend(scan.planes::<1>(width, height, 1)?),
                    (1, _) => planes.extend(scan.planes::<1>(width, height, count)?),
                    (2, 1) => planes.extend(scan.planes::<1>(width, height, 1)?),
                    (2, 3) => planes.extend(scan.planes::<3>(width, height, 1)?),
                    _ => return Err("its components do not come as JPEG-LS has them".to_owned()),
                }
                at += scan.bits.end();
            }
            (0xFE | 0xE0..=0xEF | 0xDD, _) => {}
            _ => return Err(format!("its marker FF{marker:02X} is broken or not of JPEG-LS")),
        }
    }
    if stream.get(at..at + 2) != Some(&[0xFF, 0xD9]) {
        return Err("it does not end where its image does".to_owned());
    }
    let samples = (0..shape.width * shape.height).flat_map(|at| planes.iter().map(move |plane| plane[at])).collect();
    Ok(Coded { bits: bits.unwrap_or(16), samples })
}

/// The bits of a scan, most significant first. The byte after FF has seven; FF before one of 80 or more is a marker, and the end.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The lowest `count` bits are yet to be read.
    held: u64,
    count: u32,
    after_ff: bool,
}

impl Bits<'_> {
    /// Holds 32 bits or more, or all that there are.
    fn fill(&mut self) {
        while self.count <= 48 {
            let Some(byte) = self.data.get(self.at).copied() else { break };
            if byte == 0xFF && self.data.get(self.at + 1).is_none_or(|next| *next >= 0x80) {
                break;
            }
            let width = if self.after_ff { 7 } else { 8 };
            self.held = self.held << width | u64::from(byte);
            self.count += width;
            self.after_ff = byte == 0xFF;
            self.at += 1;
        }
    }

    /// A number of up to 32 bits.
    fn number(&mut self, width: u32) -> Outcome<u32> {
        if self.count < width {
            self.fill();
        }
        self.count = self.count.checked_sub(width).ok_or_else(cut)?;
        Ok((self.held >> self.count & ((1 << width) - 1)) as u32)
    }

    /// Noughts before a one, which is read too; no more than `most`.
    fn noughts(&mut self, most: u32) -> Outcome<u32> {
        let mut noughts = 0;
        loop {
            if self.count == 0 {
                self.fill();
            }
            if self.count == 0 {
                return Err(cut());
            }
            let found = (self.held << (64 - self.count)).leading_zeros().min(self.count);
            noughts += found;
            if noughts > most {
                return Err("its scan is broken".to_owned());
            }
            self.count -= found;
            if self.count > 0 {
                self.count -= 1;
                return Ok(noughts);
            }
        }
    }

    /// Where the marker after the scan is.
    fn end(&self) -> usize {
        let rest = self.data[self.at..].windows(2).position(|pair| pair[0] == 0xFF && pair[1] >= 0x80);
        rest.map_or(self.data.len(), |rest| self.at + rest)
    }
}

/// The state of a scan, in the names of T.87.
struct Scan<'a> {
    bits: Bits<'a>,
    maxval: i32,
    near: i32,
    thresholds: [i32; 3],
    reset: i64,
    range: i32,
    qbpp: u32,
    limit: u32,
    a: [i64; CONTEXTS + 2],
    b: [i64; CONTEXTS],
    c: [i32; CONTEXTS],
    n: [i64; CONTEXTS + 2],
    /// Negative errors of interrupted runs.
    nn: [i64; 2],
}

/// The least k with 2^k >= x.
fn ceil_log2(x: i32) -> u32 {
    (x.max(1) as u32).next_power_of_two().trailing_zeros()
}

impl<'a> Scan<'a> {
    /// `presets` are MAXVAL, T1, T2, T3 and RESET; where one is 0, that of C.2.4.1.1 stands.
    fn new(data: &'a [u8], precision: u32, near: i32, presets: [i32; 5]) -> Outcome<Self> {
        let most = (1 << precision) - 1;
        let [maxval, .., reset] = presets;
        let maxval = if maxval == 0 { most } else { maxval };
        let reset = if reset == 0 { 64 } else { reset };
        if maxval > most || near > (maxval / 2).min(255) || reset < 3 || reset > maxval.max(255) {
            return Err(format!("its parameters are impossible (MAXVAL {maxval}, NEAR {near}, RESET {reset})"));
        }
        let mut thresholds = [0; 3];
        let mut least = near + 1;
        for (at, (basic, bias)) in [(3, 3 * near), (7, 5 * near), (21, 7 * near)].into_iter().enumerate() {
            let lift = at as i32 + 2;
            let default = if maxval >= 128 {
                (maxval.min(4095) + 128) / 256 * (basic - lift) + lift + bias
            } else {
                lift.max(basic / (256 / (maxval + 1)) + bias)
            };
            let default = if default > maxval || default < least { least } else { default };
            thresholds[at] = if presets[1 + at] == 0 { default } else { presets[1 + at] };
            if thresholds[at] < least || thresholds[at] > maxval {
                return Err(format!("its parameters are impossible (T{} {})", at + 1, thresholds[at]));
            }
            least = thresholds[at];
        }
        let range = (maxval + 2 * near) / (2 * near + 1) + 1;
        let bpp = ceil_log2(maxval + 1).max(2);
        let bits = Bits { data, at: 0, held: 0, count: 0, after_ff: false };
        let (qbpp, limit) = (ceil_log2(range), 2 * (bpp + bpp.max(8)));
        let (a, b, c) = ([i64::from((range + 32) / 64).max(2); CONTEXTS + 2], [0; CONTEXTS], [0; CONTEXTS]);
        let (reset, n, nn) = (i64::from(reset), [1; CONTEXTS + 2], [0; 2]);
        Ok(Self { bits, maxval, near, thresholds, reset, range, qbpp, limit, a, b, c, n, nn })
    }

    /// `groups` times `N` planes: those of a group come sample by sample, and groups row by row.
    fn planes<const N: usize>(&mut self, width: usize, height: usize, groups: usize) -> Outcome<Vec<Vec<u16>>> {
        let mut planes: Vec<Vec<u16>> = (0..groups * N).map(|_| Vec::with_capacity(width * height)).collect();
        // A sample on either side of a row stands for its neighbours beyond the edge.
        let mut rows = vec![(vec![[0; N]; width + 2], vec![[0; N]; width + 2], 0); groups];
        for _ in 0..height {
            for (group, (above, row, run)) in rows.iter_mut().enumerate() {
                row[0] = above[1];
                above[width + 1] = above[width];
                self.row(above, row, run)?;
                for (channel, plane) in planes[group * N..][..N].iter_mut().enumerate() {
                    plane.extend(row[1..=width].iter().map(|sample| sample[channel] as u16));
                }
                std::mem::swap(above, row);
            }
        }
        Ok(planes)
    }

    fn row<const N: usize>(&mut self, above: &[[i32; N]], row: &mut [[i32; N]], run: &mut usize) -> Outcome<()> {
        let width = row.len() - 2;
        let mut x = 1;
        while x <= width {
            let (ra, rb, rc, rd) = (row[x - 1], above[x], above[x - 1], above[x + 1]);
            let contexts: [i32; N] =
                std::array::from_fn(|i| self.context([rd[i] - rb[i], rb[i] - rc[i], rc[i] - ra[i]]));
            if contexts.iter().any(|context| *context != 0) {
                for i in 0..N {
                    row[x][i] = self.regular(contexts[i], ra[i], rb[i], rc[i])?;
                }
                x += 1;
                continue;
            }
            let length = self.run(width + 1 - x, run)?;
            row[x..x + length].fill(ra);
            x += length;
            if x <= width {
                let rb = above[x];
                for i in 0..N {
                    row[x][i] = self.interruption(ra[i], rb[i], RUN_ORDER[*run], N == 1)?;
                }
                *run = run.saturating_sub(1);
                x += 1;
            }
        }
        Ok(())
    }

    /// The context of three gradients, negative where they are turned about: A.3.
    fn context(&self, gradients: [i32; 3]) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        gradients.into_iter().fold(0, |context, gradient| {
            let size = gradient.abs();
            let level = match size {
                _ if size <= self.near => 0,
                _ if size < t1 => 1,
                _ if size < t2 => 2,
                _ if size < t3 => 3,
                _ => 4,
            };
            9 * context + level * gradient.signum()
        })
    }

    /// A number in a Golomb code of limited length: A.5.3.
    fn golomb(&mut self, k: u32, limit: u32) -> Outcome<i64> {
        let escape = limit.saturating_sub(self.qbpp + 1);
        let noughts = self.bits.noughts(escape)?;
        if noughts == escape {
            return Ok(i64::from(self.bits.number(self.qbpp)?) + 1);
        }
        Ok(i64::from(noughts) << k | i64::from(self.bits.number(k)?))
    }

    /// The order of the Golomb code for sums of `sum` over `n` errors: A.5.1.
    fn order(n: i64, sum: i64) -> u32 {
        (0..31).find(|k| n << k >= sum).unwrap_or(31)
    }

    /// An error that an encoder can have written.
    fn checked(&self, error: i64) -> Outcome<i32> {
        if error.abs() > i64::from(self.range) { Err("its scan is broken".to_owned()) } else { Ok(error as i32) }
    }

    /// A sample from its prediction: A.4.4 and A.4.5.
    fn reconstructed(&self, prediction: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = prediction + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.maxval + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.maxval)
    }

    /// A.4 to A.6.
    fn regular(&mut self, context: i32, ra: i32, rb: i32, rc: i32) -> Outcome<i32> {
        let (q, sign) = (context.unsigned_abs() as usize, if context < 0 { -1 } else { 1 });
        let prediction = match rc {
            _ if rc >= ra.max(rb) => ra.min(rb),
            _ if rc <= ra.min(rb) => ra.max(rb),
            _ => ra + rb - rc,
        };
        let prediction = (prediction + sign * self.c[q]).clamp(0, self.maxval);
        let k = Self::order(self.n[q], self.a[q]);
        let mapped = self.golomb(k, self.limit)?;
        let error = mapped >> 1 ^ -(mapped & 1);
        let turned = k == 0 && self.near == 0 && 2 * self.b[q] <= -self.n[q];
        let error = self.checked(if turned { !error } else { error })?;
        self.a[q] += i64::from(error.abs());
        self.b[q] += i64::from(error * (2 * self.near + 1));
        if self.n[q] == self.reset {
            self.a[q] >>= 1;
            self.b[q] >>= 1;
            self.n[q] >>= 1;
        }
        self.n[q] += 1;
        let n = self.n[q];
        if self.b[q] <= -n {
            self.b[q] = (self.b[q] + n).max(1 - n);
            self.c[q] = (self.c[q] - 1).max(-128);
        } else if self.b[q] > 0 {
            self.b[q] = (self.b[q] - n).min(0);
            self.c[q] = (self.c[q] + 1).min(127);
        }
        Ok(self.reconstructed(prediction, sign * error))
    }

    /// How many samples go on as the last: A.7.1.
    fn run(&mut self, most: usize, run: &mut usize) -> Outcome<usize> {
        let mut length = 0;
        while self.bits.number(1)? == 1 {
            let block = 1 << RUN_ORDER[*run];
            if block <= most - length {
                *run = (*run + 1).min(31);
            }
            length += block.min(most - length);
            if length == most {
                return Ok(length);
            }
        }
        length += self.bits.number(RUN_ORDER[*run])? as usize;
        if length > most { Err("its scan is broken".to_owned()) } else { Ok(length) }
    }

    /// The sample at which a run ends: A.7.2. Samples that are interleaved have but one context.
    fn interruption(&mut self, ra: i32, rb: i32, order: u32, alone: bool) -> Outcome<i32> {
        let level = alone && (ra - rb).abs() <= self.near;
        let (kind, prediction, sign) = if level { (1, ra, 1) } else { (0, rb, if rb >= ra { 1 } else { -1 }) };
        let q = CONTEXTS + kind;
        let k = Self::order(self.n[q], self.a[q] + if level { self.n[q] >> 1 } else { 0 });
        let mapped = self.golomb(k, self.limit.saturating_sub(order + 1))?;
        let turned = mapped + kind as i64;
        let odd = turned & 1;
        let size = self.checked((turned + odd) >> 1)?;
        let negative = (k != 0 || 2 * self.nn[kind] >= self.n[q]) == (odd == 1);
        let error = if negative { -size } else { size };
        if error < 0 {
            self.nn[kind] += 1;
        }
        self.a[q] += (mapped + 1 - kind as i64) >> 1;
        if self.n[q] == self.reset {
            self.a[q] >>= 1;
            self.n[q] >>= 1;
            self.nn[kind] >>= 1;
        }
        self.n[q] += 1;
        Ok(self.reconstructed(prediction, sign * error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::compressed::tests::check;
    use super::*;

    macro_rules! stream {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/fixtures/codestreams/", $name, ".jls")).as_slice()
        };
    }

    #[test]
    fn every_depth_and_interleaving_is_read() {
        for (bits, stream) in
            [(8, stream!("grey8")), (10, stream!("grey10")), (12, stream!("grey12")), (16, stream!("grey16"))]
        {
            check(decode, stream, bits, false, 0);
        }
        check(decode, stream!("near12"), 12, false, 5);
        for stream in [stream!("rgb-plane"), stream!("rgb-line"), stream!("rgb-sample")] {
            check(decode, stream, 8, true, 0);
        }
    }

    #[test]
    fn presets_are_those_of_the_standard() {
        // MAXVAL, T1, T2, T3 and RESET of 8 bits, by C.2.4.1.1: as if they were not there.
        let with = |presets: [u16; 5]| {
            let stream = stream!("grey8");
            let presets: Vec<u8> = presets.into_iter().flat_map(u16::to_be_bytes).collect();
            let stream = [&stream[..15], &[0xFF, 0xF8, 0, 13, 1], &presets, &stream[15..]].concat();
            decode(&stream, Shape { width: 13, height: 11, channels: 1 }).map(|coded| coded.samples)
        };
        let plain = decode(stream!("grey8"), Shape { width: 13, height: 11, channels: 1 }).unwrap().samples;
        assert_eq!(with([255, 3, 7, 21, 64]), Ok(plain.clone()));
        assert_eq!(with([0; 5]), Ok(plain.clone()));
        assert_ne!(with([255, 100, 150, 200, 64]), Ok(plain));
        for impossible in [[256, 3, 7, 21, 64], [255, 8, 7, 21, 64], [255, 3, 7, 256, 64], [255, 3, 7, 21, 2]] {
            assert!(with(impossible).unwrap_err().contains("impossible"), "{impossible:?}");
        }
    }

    #[test]
    fn bits_after_ff_are_seven() {
        let mut bits = Bits { data: &[0xFF, 0x7F, 0x01, 0xFF, 0xD9], at: 0, held: 0, count: 0, after_ff: false };
        assert_eq!((bits.number(15), bits.noughts(9), bits.end()), (Ok(0x7FFF), Ok(7), 3));
        assert!(bits.number(1).is_err());
    }
}
