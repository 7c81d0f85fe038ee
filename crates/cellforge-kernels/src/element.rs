//! The types of numbers that images may have in memory.
//!
//! A kernel is written once for all of them. It reads numbers as `f32`, which is exact, computes in `f32`, and what it made is rounded as it
//! is written ([`memory`](crate::memory)).

use crate::simd::vectorised;
use candle_core::{CpuStorage, WithDType};
use half::bf16;

/// The upper half of an `f32`, which a `bf16` is.
const UPPER: u32 = 0xffff_0000;

/// A type of numbers: `f32` or `bf16`.
pub(crate) trait Element: WithDType + Default {
    fn widen(self) -> f32;

    /// The nearest number of the type, of two the even one; a NaN stays one.
    fn narrow(x: f32) -> Self;

    /// Numbers of this type as they are, where it is `f32`.
    fn own(xs: &[f32]) -> Option<&[Self]>;

    /// All numbers as `f32`: themselves, or in `wide`, which must have room for [`Element::room`] of them.
    fn wide<'a>(xs: &'a [Self], wide: &'a mut [f32]) -> &'a [f32];

    /// What [`Element::wide`] needs for so many numbers.
    fn room(len: usize) -> usize;

    /// A word (see [`product`](crate::product)) of two numbers.
    fn pair(lower: Self, upper: Self) -> f32;

    /// The words of each two numbers that lie side by side, where memory is that already.
    fn words(xs: &[Self]) -> Option<&[f32]>;

    /// What a tensor holds.
    fn storage(xs: Vec<Self>) -> CpuStorage {
        Self::to_cpu_storage_owned(xs)
    }
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        x
    }

    fn own(xs: &[f32]) -> Option<&[Self]> {
        Some(xs)
    }

    fn wide<'a>(xs: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        xs
    }

    fn room(_: usize) -> usize {
        0
    }

    #[inline(always)]
    fn pair(lower: Self, upper: Self) -> f32 {
        f32::from_bits(rounded(lower) >> 16 | rounded(upper) & UPPER)
    }

    fn words(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> Self {
        Self::from_bits((rounded(x) >> 16) as u16)
    }

    fn own(_: &[f32]) -> Option<&[Self]> {
        None
    }

    fn wide<'a>(xs: &'a [Self], wide: &'a mut [f32]) -> &'a [f32] {
        let wide = &mut wide[..xs.len()];
        widen_all(xs, wide);
        wide
    }

    fn room(len: usize) -> usize {
        len
    }

    #[inline(always)]
    fn pair(lower: Self, upper: Self) -> f32 {
        f32::from_bits(u32::from(lower.to_bits()) | u32::from(upper.to_bits()) << 16)
    }

    #[cfg(target_endian = "little")]
    #[expect(unsafe_code, reason = "there is no safe way to see two numbers as one")]
    fn words(xs: &[Self]) -> Option<&[f32]> {
        // SAFETY: two of these numbers are four bytes, and any four bytes are an `f32`.
        let (before, words, after) = unsafe { xs.align_to::<f32>() };
        (before.is_empty() && after.is_empty()).then_some(words)
    }

    #[cfg(not(target_endian = "little"))]
    fn words(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

/// The bits of `x` rounded to the nearest `bf16` (of two, to the even one) in their upper half; the lower one is not zero.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // Rounding could carry a NaN on to an infinity.
    if x.is_nan() { 0x7fc0_0000 } else { rounded }
}

vectorised! {
    /// Numbers as `f32`.
    pub(crate) fn widen_all<E: Element>(xs: &'a [E], wide: &'a mut [f32]) {
        for (wide, &x) in wide.iter_mut().zip(xs) {
            *wide = x.widen();
        }
    }

    /// Numbers rounded to another type.
    pub(crate) fn narrow_all<E: Element>(xs: &'a [f32], narrow: &'a mut [E]) {
        for (narrow, &x) in narrow.iter_mut().zip(xs) {
            *narrow = E::narrow(x);
        }
    }
}

/// Runs an expression with a name for the type of numbers that this one stands for: `bf16`, or else `f32`.
macro_rules! of_type {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::BF16 => {
                type $element = half::bf16;
                $body
            }
            _ => {
                type $element = f32;
                $body
            }
        }
    };
}
pub(crate) use of_type;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_to_the_nearest_and_ties_to_even() {
        // A bf16 has 8 bits of precision: beside 1 the next is 1 + 1/128.
        for (x, want) in [
            (1., 1.),
            (1. + 1. / 256., 1.),
            (1. + 3. / 256., 1. + 2. / 128.),
            (1. + 1.01 / 256., 1. + 1. / 128.),
            (-1.5, -1.5),
            (0., 0.),
            (f32::MAX, f32::INFINITY),
            (f32::INFINITY, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(bf16::narrow(x).widen(), want, "{x}");
        }
        assert!(bf16::narrow(f32::NAN).widen().is_nan() && bf16::narrow(f32::from_bits(0x7fff_ffff)).widen().is_nan());
        assert!(bf16::narrow(-0.).widen().to_bits() == (-0f32).to_bits());
    }

    /// Every number of either type is one of the other, or rounds to the nearest as the crate `half` has it.
    #[test]
    fn loops_round_as_single_numbers_do() {
        let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        let mut wide = vec![0f32; all.len()];
        widen_all(&all, &mut wide);
        assert!(wide.iter().zip(&all).all(|(wide, x)| *wide == x.to_f32() || x.is_nan() && wide.is_nan()));
        let between: Vec<f32> = (0..1u32 << 20).map(|i| f32::from_bits(i.wrapping_mul(4099 << 9 | 0x7001))).collect();
        let mut narrow = vec![bf16::default(); between.len()];
        narrow_all(&between, &mut narrow);
        for (&x, &narrow) in between.iter().zip(&narrow) {
            assert!(narrow == bf16::from_f32(x) || x.is_nan() && narrow.is_nan(), "{x} became {narrow}");
        }
    }

    #[test]
    fn words_are_what_memory_holds() {
        let numbers: Vec<bf16> = (0..64).map(|i| bf16::narrow(i as f32 - 7.5)).collect();
        let want: Vec<u32> = numbers.chunks(2).map(|two| bf16::pair(two[0], two[1]).to_bits()).collect();
        // A vector of two-byte numbers may begin anywhere; from one of these two places on it is words.
        let found = [0, 1].iter().filter_map(|&first| Some((first, bf16::words(&numbers[first..first + 62])?)));
        let found: Vec<_> = found.collect();
        assert!(found.len() <= 1);
        for (first, words) in found {
            let of = |i: usize| bf16::pair(numbers[first + 2 * i], numbers[first + 2 * i + 1]).to_bits();
            assert!(words.len() == 31 && words.iter().enumerate().all(|(i, word)| word.to_bits() == of(i)));
        }
        assert!(bf16::words(&numbers[..1]).is_none_or(<[f32]>::is_empty) && f32::words(&[1., 2.]).is_none());
        let [lower, upper] = [2f32, -3.].map(bf16::narrow);
        assert_eq!(f32::pair(2., -3.).to_bits(), bf16::pair(lower, upper).to_bits());
        assert_eq!(want[0], u32::from(numbers[0].to_bits()) | u32::from(numbers[1].to_bits()) << 16);
    }
}
