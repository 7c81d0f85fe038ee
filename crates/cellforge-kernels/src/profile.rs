//! Where the time of the kernels goes.
//!
//! While profiling is on, every pass of every operation on the CPU notes how long it took, how many multiplications and additions
//! its definition asks for, and how many bytes its operands have. Off, which it is at first, it costs a look at a flag.

use crate::simd::{SimdLevel, dispatch};
use pulp::{Simd, WithSimd};
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

static ON: AtomicBool = AtomicBool::new(false);
static LINES: Mutex<BTreeMap<(String, &'static str), Line>> = Mutex::new(BTreeMap::new());

/// What was noted of one pass of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// The operation and its sizes.
    pub layer: String,
    /// `forward`, `input gradient`, and so on.
    pub pass: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// Seconds that it took in all.
    pub seconds: f64,
    /// Floating point operations by the layer's definition; a kernel may need fewer.
    pub flop: f64,
    /// Bytes of the operands, each counted once.
    pub bytes: f64,
}

/// What was noted since [`start`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The passes, those that took longest first.
    pub lines: Vec<Line>,
    /// Floating point operations per second that this machine reached just now, in multiplications and additions of registers
    /// alone on all threads.
    pub peak: f64,
}

/// Forgets what was noted and begins to note.
pub fn start() {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).clear();
    ON.store(true, Ordering::Relaxed);
}

/// Ends the noting and returns what was noted. This takes a moment, for it measures the machine's peak.
pub fn finish() -> Profile {
    ON.store(false, Ordering::Relaxed);
    let lines = std::mem::take(&mut *LINES.lock().unwrap_or_else(PoisonError::into_inner));
    let mut lines: Vec<Line> = lines.into_values().collect();
    lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Profile { lines, peak: peak() }
}

/// Notes the time from its making to its end.
pub(crate) struct Span {
    line: Line,
    start: Instant,
}

/// Begins a pass; `describe` gives the layer, its floating point operations and its bytes.
#[inline]
pub(crate) fn span(pass: &'static str, describe: impl FnOnce() -> (String, f64, f64)) -> Option<Span> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    let (layer, flop, bytes) = describe();
    Some(Span { line: Line { layer, pass, calls: 0, seconds: 0., flop, bytes }, start: Instant::now() })
}

impl Drop for Span {
    fn drop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry((self.line.layer.clone(), self.line.pass)).or_default();
        line.layer.clone_from(&self.line.layer);
        line.pass = self.line.pass;
        line.calls += 1;
        line.seconds += seconds;
        line.flop += self.line.flop;
        line.bytes += self.line.bytes;
    }
}

/// Floating point operations per second of multiply-adds that never leave the registers, on all threads: the best of a few tries.
pub fn peak() -> f64 {
    const CHAINS: usize = 12;
    const TURNS: usize = 1_000_000;
    struct Chains;
    impl WithSimd for Chains {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            let (x, y) = (simd.splat_f32s(std::hint::black_box(0.5)), simd.splat_f32s(std::hint::black_box(0.1)));
            let mut sums = [y; CHAINS];
            for _ in 0..TURNS {
                for sum in &mut sums {
                    *sum = simd.mul_add_e_f32s(*sum, x, y);
                }
            }
            std::hint::black_box(sums.iter().fold(0., |total, &sum| total + simd.reduce_sum_f32s(sum)));
            (2 * CHAINS * TURNS * S::F32_LANES) as f64
        }
    }
    let once = || {
        let start = Instant::now();
        let flop: f64 = rayon::broadcast(|_| dispatch(Chains)).iter().sum();
        flop / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| once()).fold(0., f64::max)
}

impl Display for Profile {
    /// A table: each pass with its time, its share, and what it achieved.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let total: f64 = self.lines.iter().map(|line| line.seconds).sum();
        let width = self.lines.iter().map(|line| line.layer.len()).max().unwrap_or(0).max(5);
        writeln!(
            f,
            "{:<width$}  {:<15} {:>7} {:>10} {:>6} {:>9} {:>7} {:>7}",
            "layer", "pass", "calls", "ms a call", "share", "GFLOP/s", "of peak", "GB/s"
        )?;
        for line in &self.lines {
            let rate = line.flop / line.seconds;
            let (gflops, of_peak) = match line.flop > 0. {
                true => (format!("{:.1}", rate / 1e9), format!("{:.0}%", 100. * rate / self.peak)),
                false => Default::default(),
            };
            writeln!(
                f,
                "{:<width$}  {:<15} {:>7} {:>10.3} {:>5.1}% {:>9} {:>7} {:>7.1}",
                line.layer,
                line.pass,
                line.calls,
                1e3 * line.seconds / line.calls as f64,
                100. * line.seconds / total,
                gflops,
                of_peak,
                line.bytes / line.seconds / 1e9,
            )?;
        }
        write!(
            f,
            "{total:.3} s in kernels ({}); peak {:.0} GFLOP/s on {} threads. A layer that needs fewer operations than its definition can exceed the peak.",
            SimdLevel::current().name(),
            self.peak / 1e9,
            rayon::current_num_threads()
        )
    }
}
