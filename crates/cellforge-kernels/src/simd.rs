//! Instruction sets, chosen once when the program runs.

use pulp::{Arch, Simd, WithSimd};
use std::sync::OnceLock;

/// The instruction set that the kernels compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdLevel {
    /// What every processor of this architecture has (on 64-bit ARM that is NEON).
    Portable,
    /// AVX2 and fused multiply-add.
    Avx2,
    /// AVX-512 (F, BW, CD, DQ and VL).
    Avx512,
    /// AVX-512 and, for products of `bf16`, AMX. Everything else gives the same bytes as with `Avx512`.
    Amx,
}

/// The variable that sets a lower level than the processor has.
const VARIABLE: &str = "CELLFORGE_SIMD";

impl SimdLevel {
    /// The level in use: the highest that the processor has, unless the environment variable `CELLFORGE_SIMD` (`portable`,
    /// `avx2`, `avx512` or `amx`) asks for a lower one. Results are the same bytes on any two processors at the same level; levels
    /// differ in the order of their sums.
    #[must_use]
    pub fn current() -> Self {
        match arch() {
            #[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
            Arch::V4(_) if amx::get().is_some() => Self::Amx,
            #[cfg(target_arch = "x86_64")]
            Arch::V4(_) => Self::Avx512,
            #[cfg(target_arch = "x86_64")]
            Arch::V3(_) => Self::Avx2,
            _ => Self::Portable,
        }
    }

    /// Its name, as `CELLFORGE_SIMD` takes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        }
    }
}

fn arch() -> Arch {
    static CHOSEN: OnceLock<Arch> = OnceLock::new();
    *CHOSEN.get_or_init(|| lowered(Arch::new(), asked().as_deref()))
}

/// The level that the environment asks for.
fn asked() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// The best level that is no higher than the one asked for.
#[cfg(target_arch = "x86_64")]
fn lowered(best: Arch, asked: Option<&str>) -> Arch {
    match (asked, best) {
        (Some("portable"), _) => Arch::Scalar,
        (Some("avx2"), Arch::V4(_)) => pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        _ => best,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn lowered(best: Arch, _asked: Option<&str>) -> Arch {
    best
}

/// Runs an operation compiled for the level in use. A closure will not do: it is too often not inlined, and then compiled for
/// the lowest level. Functions of plain loops are written with [`vectorised`].
#[inline]
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    arch().dispatch(op)
}

/// Defines functions whose body, plain loops over slices, is compiled once for each level and run at the one in use.
/// References in their arguments have the lifetime `'a`. They may be generic over types that have a bound.
macro_rules! vectorised {
    ($(
        $(#[$attribute:meta])*
        $vis:vis fn $name:ident $(<$($generic:ident: $bound:path),+>)? ($($arg:ident: $type:ty),+ $(,)?) $body:block
    )+) => {$(
        $(#[$attribute])*
        $vis fn $name<'a $($(, $generic: $bound)+)?>($($arg: $type),+) {
            struct Op<'a $($(, $generic: $bound)+)?> {
                $($arg: $type,)+
            }
            impl<'a $($(, $generic: $bound)+)?> pulp::WithSimd for Op<'a $($(, $generic)+)?> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self { $($arg),+ } = self;
                    $body
                }
            }
            $crate::simd::dispatch(Op { $($arg),+ });
        }
    )+};
}
pub(crate) use vectorised;

/// AMX, the matrix instructions of some x86-64 processors.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
#[expect(unsafe_code, reason = "the C library has no safe call for it")]
pub(crate) mod amx {
    use super::amx_is_allowed;
    use core::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    /// Proof that the processor has the instructions and the system lets this process use them.
    #[derive(Clone, Copy)]
    pub(crate) struct Found(());

    pub(crate) fn get() -> Option<Found> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        FOUND.get_or_init(|| amx_is_allowed() && is_there() && is_granted()).then_some(Found(()))
    }

    /// Bits of leaf 7 of CPUID: AMX-BF16 and AMX-TILE (Intel's manual, volume 2, CPUID).
    fn is_there() -> bool {
        let leaves = __cpuid_count(0, 0).eax;
        leaves >= 7 && [22, 24].into_iter().all(|bit| __cpuid_count(7, 0).edx >> bit & 1 == 1)
    }

    /// Linux saves the tiles of a thread only for a process that has asked for it (`arch_prctl(2)`).
    fn is_granted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        // SAFETY: the call takes two numbers. A kernel that knows no tiles answers with an error.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    }
}

/// AVX-512, where it is the level in use.
#[cfg(target_arch = "x86_64")]
pub(crate) fn avx512() -> Option<pulp::x86::V4> {
    match arch() {
        Arch::V4(simd) => Some(simd),
        _ => None,
    }
}

/// Whether nothing below AMX is asked for.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn amx_is_allowed() -> bool {
    avx512().is_some() && asked().as_deref() != Some(SimdLevel::Avx512.name())
}

/// Numbers in a vector register.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(Lanes)
}

/// Vectors that one panel of columns has at most: as many as leave room in the registers for several rows of sums.
pub(crate) fn panel_vectors() -> usize {
    struct Registers;
    impl WithSimd for Registers {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::REGISTER_COUNT
        }
    }
    if dispatch(Registers) >= 32 { 4 } else { 2 }
}
