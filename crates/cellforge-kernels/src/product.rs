//! The products that sums are made of: of `f32` numbers, or of pairs of `bf16` numbers.
//!
//! A `bf16` is the upper half of an `f32`. Two of them fit into the place of one number, a *word*, and an instruction of AVX-512 BF16
//! multiplies the halves of two words and adds both products to an `f32` sum: twice as many products at a time. AMX does so for whole
//! [`tiles`] of words. Two channels that lie side by side make a word. Images and weights of words are arrays of `f32` whose bits are words, so that the loops of [`micro`](crate::micro) move both alike; nothing
//! but a product looks inside.

use crate::element::Element;
use crate::simd::{dispatch, vectorised};
use crate::tiles::{self, Engine, TILE};
use candle_core::{DType, Device};
use pulp::{Simd, WithSimd};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The numbers whose products convolutions add up, and what passes between the operations of a network.
///
/// The first is part of what a convolution is told, and its gradients are computed in the same. The second is the type of the images that an
/// operation is given: its result, and the gradient of its input, are of that type. On the CPU a network in `Bf16` or `EmulatedBf16` makes its
/// images `bf16` where it begins and `f32` again where it ends, by [`to_precision`](crate::to_precision). Every operation computes in `f32` and
/// rounds what it writes. Parameters, their gradients, statistics, sums over images and pixels, losses and the state of optimizers are `f32` in
/// any precision.
///
/// Where there is no support for it, operations compute in `f32`, and so is memory; [`Precision::on`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    #[serde(rename = "f32")]
    F32,
    /// 16-bit brain floating point, with 8 bits of precision in place of 24: where the processor has the instruction and no other way of
    /// computing in `f32` is faster; `f32` elsewhere. Without AMX ([`SimdLevel::Amx`](crate::SimdLevel::Amx)) sums over an odd number of channels
    /// are `f32`, too; with AMX, sums are taken in another order than without it.
    #[serde(rename = "bf16")]
    Bf16,
    /// 19-bit floating point, on NVIDIA GPUs: factors of convolutions and matrix products are rounded to 11 bits of precision, which their
    /// matrix instructions take. `f32` elsewhere.
    #[serde(rename = "tf32")]
    Tf32,
    /// As [`Precision::Bf16`] with AMX, to the last digit of all but numbers below 1e-38, which AMX takes as 0, computed with instructions
    /// that every processor has. It is slow, and for tests and trials of what the lower precision does to training.
    #[serde(rename = "bf16-emulated")]
    EmulatedBf16,
}

impl Precision {
    /// Its name on a command line and in files: `f32`, `bf16`, `tf32` or `bf16-emulated`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Tf32 => "tf32",
            Self::EmulatedBf16 => "bf16-emulated",
        }
    }

    /// Whether it is `f32`, which is what files leave unsaid.
    #[must_use]
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }

    /// Whether this processor, and `CELLFORGE_SIMD`, have the instructions for it. `Tf32` is for GPUs alone.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::F32 | Self::EmulatedBf16 => true,
            Self::Tf32 => false,
            #[cfg(target_arch = "x86_64")]
            Self::Bf16 => native::get().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Bf16 => false,
        }
    }

    /// What is computed in on this device where nothing is said: `Tf32` on NVIDIA GPUs, `F32` elsewhere.
    #[must_use]
    pub fn default_on(device: &Device) -> Self {
        if device.is_cuda() { Self::Tf32 } else { Self::F32 }
    }

    /// What operations on this device compute in when they are told this one: `F32` where there is no support for it, and on NVIDIA GPUs
    /// `Bf16` in place of its emulation.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        match (self, device) {
            (Self::EmulatedBf16, Device::Cuda(_)) => Self::Bf16,
            (asked, Device::Cuda(_)) => asked,
            (asked, Device::Cpu) if asked.is_supported() => asked,
            _ => Self::F32,
        }
    }

    /// Bytes of a number that passes between operations on this device: 2 for `Bf16` and its emulation on the CPU, where there is support for
    /// them, and 4 elsewhere.
    #[must_use]
    pub fn bytes_in_memory(self, device: &Device) -> usize {
        self.memory(device).size_in_bytes()
    }

    /// The type of such numbers.
    pub(crate) fn memory(self, device: &Device) -> DType {
        match (self.on(device), device) {
            (Self::Bf16 | Self::EmulatedBf16, Device::Cpu) => DType::BF16,
            _ => DType::F32,
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::F32, Self::Bf16, Self::Tf32, Self::EmulatedBf16]
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| "expected f32, tf32, bf16 or bf16-emulated".to_owned())
    }
}

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Products {
    Single,
    /// Of words.
    Pairs {
        emulated: bool,
    },
    /// Of words, in tiles.
    Tiles {
        emulated: bool,
    },
}

impl Products {
    /// In this precision, on a CPU.
    pub fn of(precision: Precision) -> Self {
        match precision {
            lower if !lower.is_supported() => Self::Single,
            Precision::F32 | Precision::Tf32 => Self::Single,
            #[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
            Precision::Bf16 if crate::simd::amx::get().is_some() => Self::Tiles { emulated: false },
            Precision::Bf16 => Self::Pairs { emulated: false },
            Precision::EmulatedBf16 => Self::Tiles { emulated: true },
        }
    }

    /// Of words if `possible`.
    pub fn if_pairs(self, possible: bool) -> Self {
        if possible { self } else { Self::Single }
    }

    /// In tiles only if `possible`.
    pub fn if_tiles(self, possible: bool) -> Self {
        match self {
            Self::Tiles { emulated } if !possible => Self::Pairs { emulated },
            other => other,
        }
    }

    /// Of words, in tiles or not.
    pub fn are_pairs(self) -> bool {
        self != Self::Single
    }

    pub fn are_tiles(self) -> bool {
        matches!(self, Self::Tiles { .. })
    }

    /// Words that a sum takes of a run of `len`: in tiles it goes on to the end of the last one, over words that meet zeros.
    pub fn whole_segment(self, len: usize) -> usize {
        if self.are_tiles() { len.next_multiple_of(TILE) } else { len }
    }
}

/// A loop over products that is compiled for each instruction set and each kind of product.
pub(crate) trait Kernel {
    fn run<S: Simd, P: Product<S>>(self, simd: S, product: P);

    /// The same in tiles.
    fn run_in_tiles<E: Engine>(self, engine: E);
}

/// Runs a loop with the best instructions for these products.
pub(crate) fn multiply<K: Kernel>(kernel: K, products: Products) {
    struct With<K, P>(K, P);
    impl<K: Kernel> WithSimd for With<K, Single> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.run(simd, Single);
        }
    }
    impl<K: Kernel> WithSimd for With<K, Emulated> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.run(simd, Emulated);
        }
    }
    struct WithTiles<K, E>(K, E);
    impl<K: Kernel, E: Engine> WithSimd for WithTiles<K, E> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            self.0.run_in_tiles(self.1);
        }
    }
    match products {
        Products::Single => dispatch(With(kernel, Single)),
        #[cfg(target_arch = "x86_64")]
        Products::Pairs { emulated: false } => native::run(kernel),
        Products::Pairs { .. } => dispatch(With(kernel, Emulated)),
        #[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
        Products::Tiles { emulated: false } => {
            let found =
                crate::simd::amx::get().expect("products in tiles are asked for where there is the instruction");
            let session = tiles::native::Session::new(found);
            dispatch(WithTiles(kernel, session.engine()));
        }
        Products::Tiles { .. } => dispatch(WithTiles(kernel, tiles::Emulated)),
    }
}

/// One kind of product.
pub(crate) trait Product<S: Simd>: Copy {
    /// `sum + x * w`, number by number.
    fn multiply_add(self, simd: S, x: S::f32s, w: S::f32s, sum: S::f32s) -> S::f32s;
}

/// Of `f32`.
#[derive(Clone, Copy)]
pub(crate) struct Single;

impl<S: Simd> Product<S> for Single {
    #[inline(always)]
    fn multiply_add(self, simd: S, x: S::f32s, w: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(x, w, sum)
    }
}

/// Of words, by `f32` instructions: the product of two `bf16` is exact in `f32`.
#[derive(Clone, Copy)]
struct Emulated;

impl<S: Simd> Product<S> for Emulated {
    #[inline(always)]
    fn multiply_add(self, simd: S, x: S::f32s, w: S::f32s, sum: S::f32s) -> S::f32s {
        let mask = simd.splat_u32s(UPPER);
        let upper = |words: S::f32s| simd.transmute_f32s_u32s(simd.and_u32s(simd.transmute_u32s_f32s(words), mask));
        let lower = |words: S::f32s| {
            let shift = simd.splat_u32s(16);
            simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(words), shift))
        };
        // The instruction, too, begins with the upper halves.
        let sum = simd.mul_add_e_f32s(upper(x), upper(w), sum);
        simd.mul_add_e_f32s(lower(x), lower(w), sum)
    }
}

/// The instruction.
#[cfg(target_arch = "x86_64")]
mod native {
    use super::{Kernel, Product};
    use crate::simd::avx512;
    use core::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps};
    use pulp::x86::V4;
    use std::sync::OnceLock;

    /// Proof that the processor has the instruction.
    #[derive(Clone, Copy)]
    pub(super) struct Native(());

    pub(super) fn get() -> Option<(V4, Native)> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = *FOUND.get_or_init(|| std::arch::is_x86_feature_detected!("avx512bf16"));
        avx512().filter(|_| found).map(|simd| (simd, Native(())))
    }

    pub(super) fn run<K: Kernel>(kernel: K) {
        /// Compiled for all that [`V4`] stands for and the instruction.
        #[target_feature(
            enable = "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16"
        )]
        fn compiled<K: Kernel>(kernel: K, simd: V4, product: Native) {
            kernel.run(simd, product);
        }
        let (simd, product) = get().expect("products of pairs are asked for where there is the instruction");
        #[expect(unsafe_code, reason = "the processor must have the instructions")]
        // SAFETY: `simd` and `product` are proof that it has.
        unsafe {
            compiled(kernel, simd, product);
        }
    }

    impl Product<V4> for Native {
        #[inline(always)]
        #[expect(unsafe_code, reason = "the processor must have the instruction")]
        fn multiply_add(self, _: V4, x: pulp::f32x16, w: pulp::f32x16, sum: pulp::f32x16) -> pulp::f32x16 {
            // SAFETY: `self` is proof that it has, and all types are 64 bytes in which any bits are valid.
            unsafe {
                let words = |x: pulp::f32x16| core::mem::transmute::<pulp::f32x16, __m512bh>(x);
                let sum = core::mem::transmute::<pulp::f32x16, __m512>(sum);
                core::mem::transmute::<__m512, pulp::f32x16>(_mm512_dpbf16_ps(sum, words(x), words(w)))
            }
        }
    }
}

/// The upper half of a word.
const UPPER: u32 = 0xffff_0000;

/// Words of a pixel of so many channels.
pub(crate) fn words(channels: usize) -> usize {
    channels.div_ceil(2)
}

vectorised! {
    /// Words of numbers and their partners.
    pub(crate) fn pair_up<E: Element>(lower: &'a [E], upper: &'a [E], words: &'a mut [f32]) {
        for (word, (&lower, &upper)) in words.iter_mut().zip(lower.iter().zip(upper)) {
            *word = E::pair(lower, upper);
        }
    }

    /// As [`pair_up`], in the place of the lower halves.
    pub(crate) fn pair_up_in_place(words: &'a mut [f32], upper: &'a [f32]) {
        for (word, &upper) in words.iter_mut().zip(upper) {
            *word = f32::pair(*word, upper);
        }
    }

    /// For pixels of so many channels, words of each two that lie side by side. The last of an odd number is paired with 0.
    pub(crate) fn pair_channels<E: Element>(pixels: &'a [E], channels: usize, words: &'a mut [f32]) {
        if channels % 2 == 0 {
            for (word, two) in words.iter_mut().zip(pixels.as_chunks::<2>().0) {
                *word = E::pair(two[0], two[1]);
            }
            return;
        }
        for (words, pixel) in words.chunks_exact_mut(channels.div_ceil(2)).zip(pixels.chunks_exact(channels)) {
            let (pairs, last) = pixel.as_chunks::<2>();
            for (word, two) in words.iter_mut().zip(pairs) {
                *word = E::pair(two[0], two[1]);
            }
            words[pairs.len()] = E::pair(last[0], E::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_is_f32_where_there_is_no_support_for_it() {
        let all = [Precision::F32, Precision::Bf16, Precision::Tf32, Precision::EmulatedBf16];
        for precision in all {
            let here = precision.on(&Device::Cpu);
            assert!(here.is_supported() && (here == precision || here.is_f32()), "{precision:?}");
            assert!(Products::of(precision) == Products::of(here));
            assert_eq!(precision.name().parse(), Ok(precision));
        }
        assert!(Products::of(Precision::F32) == Products::Single && Products::of(Precision::Tf32) == Products::Single);
        assert!(Products::of(Precision::EmulatedBf16) == Products::Tiles { emulated: true });
    }
}
