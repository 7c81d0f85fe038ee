//! Products of blocks of words (see [`product`](crate::product)) by AMX, the matrix instructions of some x86-64 processors.
//!
//! A tile holds 16 rows of 16 words or sums. One instruction multiplies a tile of 16 words from each of 16 rows with a tile of 16 rows of
//! 16 words, and adds to a tile of 16 by 16 `f32` sums: the products of the lower halves and those of the upper ones are summed up in the words'
//! order, and then both sums are added (Intel's manual, volume 2, TDPBF16PS).

use std::cell::Cell;
use std::ops::{Deref, DerefMut, Range};

/// Rows of a tile, and words or sums in each.
pub(crate) const TILE: usize = 16;

/// Rows and columns of the sums of a [`Block`].
pub(crate) const SIDE: usize = 2 * TILE;

/// Where the tiles of a sum lie in both matrices, seen from the beginning of a block.
pub(crate) struct Steps {
    /// Bytes in the left matrix and in the right one.
    places: Vec<[usize; 2]>,
    /// The largest of each, in numbers.
    furthest: [usize; 2],
}

impl Steps {
    /// Of places counted in numbers.
    pub fn new(places: impl Iterator<Item = [usize; 2]>) -> Self {
        let mut furthest = [0; 2];
        let bytes = |place: [usize; 2]| {
            furthest = [furthest[0].max(place[0]), furthest[1].max(place[1])];
            place.map(|number| number * size_of::<f32>())
        };
        Self { places: places.map(bytes).collect(), furthest }
    }
}

/// The product of [`SIDE`] rows and as many columns, each a sum over [`TILE`] words for each of the `steps`.
pub(crate) struct Block<'a> {
    pub left: &'a [f32],
    /// Where the first and the second half of the rows begin.
    pub rows: [usize; 2],
    /// Numbers from one row to the next in each half.
    pub left_pitch: usize,
    pub right: &'a [f32],
    /// Where the first of the rows of the right matrix begins.
    pub column: usize,
    /// Numbers from one row of the right matrix to the next.
    pub right_pitch: usize,
    pub steps: &'a Steps,
    /// The sums, of which row `i` begins at `i * pitch`.
    pub sums: &'a mut [f32],
    pub pitch: usize,
    /// Whether products are added to what the sums are.
    pub accumulate: bool,
}

impl Block<'_> {
    /// # Panics
    /// If one of the matrices ends before what is read or written of it.
    fn check(&self) {
        let [left, right] = self.steps.furthest;
        let end = |first: usize, rows: usize, pitch: usize, len: usize| first + (rows - 1) * pitch + len;
        assert!(
            self.rows.iter().all(|row| end(row + left, TILE, self.left_pitch, TILE) <= self.left.len())
                && end(self.column + right, TILE, self.right_pitch, SIDE) <= self.right.len()
                && end(0, SIDE, self.pitch, SIDE) <= self.sums.len(),
            "a tile ends beyond its matrix"
        );
    }
}

/// What computes blocks.
pub(crate) trait Engine: Copy {
    fn multiply(self, block: Block);
}

/// By instructions that every processor has.
#[derive(Clone, Copy)]
pub(crate) struct Emulated;

impl Engine for Emulated {
    fn multiply(self, block: Block) {
        block.check();
        let halves = |word: f32| [word.to_bits() << 16, word.to_bits() & 0xffff_0000].map(f32::from_bits);
        for i in 0..SIDE {
            let row = block.rows[i / TILE] + i % TILE * block.left_pitch;
            let sums = &mut block.sums[i * block.pitch..][..SIDE];
            if !block.accumulate {
                sums.fill(0.);
            }
            for place in &block.steps.places {
                let [left, right] = place.map(|bytes| bytes / size_of::<f32>());
                // As the instruction does: both halves have sums of their own within a tile.
                let mut tile = [[0f32; 2]; SIDE];
                for (k, &word) in block.left[row + left..][..TILE].iter().enumerate() {
                    let word = halves(word);
                    let others = &block.right[block.column + right + k * block.right_pitch..][..SIDE];
                    for (sums, &other) in tile.iter_mut().zip(others) {
                        let other = halves(other);
                        *sums = std::array::from_fn(|half| word[half].mul_add(other[half], sums[half]));
                    }
                }
                for (sum, [lower, upper]) in sums.iter_mut().zip(tile) {
                    *sum += lower + upper;
                }
            }
        }
    }
}

/// The instructions.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
#[expect(unsafe_code, reason = "instructions that the compiler does not know, and that a processor may not have")]
pub(crate) mod native {
    use super::{Block, Engine, TILE};
    use crate::simd::amx::Found;
    use core::arch::asm;
    use std::marker::PhantomData;

    /// This thread's tiles, set up as 16 rows of 64 bytes each until this is dropped. It stays on the thread.
    pub(crate) struct Session(PhantomData<*const ()>);

    /// The tiles while there is a session. It stays on the thread, too.
    #[derive(Clone, Copy)]
    pub(crate) struct Amx<'a>(PhantomData<(&'a Session, *const ())>);

    impl Session {
        pub fn new(_: Found) -> Self {
            #[repr(C, align(64))]
            struct Config([u8; 64]);
            // Palette 1: bytes in a row from byte 16 on, two for each tile; rows from byte 48 on.
            let mut config = Config([0; 64]);
            config.0[0] = 1;
            for tile in 0..8 {
                config.0[16 + 2 * tile] = 64;
                config.0[48 + tile] = TILE as u8;
            }
            // SAFETY: the processor has the instruction, which reads 64 bytes.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags)) };
            Self(PhantomData)
        }

        pub fn engine(&self) -> Amx<'_> {
            Amx(PhantomData)
        }
    }

    impl Drop for Session {
        fn drop(&mut self) {
            // SAFETY: the processor has the instruction.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        }
    }

    impl Engine for Amx<'_> {
        #[inline]
        fn multiply(self, block: Block) {
            block.check();
            let places = block.steps.places.as_ptr_range();
            if places.is_empty() && block.accumulate {
                return;
            }
            let bytes = |numbers: usize| numbers * size_of::<f32>();
            // SAFETY: tiles are set up while there is a session; `check` has seen that the matrices have all that is read and
            // written. No tile is read that was not written in this block.
            unsafe {
                asm!(
                    "test {sums_pitch}, 1",
                    "jnz 2f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 3f",
                    "2:",
                    "dec {sums_pitch}",
                    "lea {at}, [{sums} + {lower}]",
                    "tileloadd tmm0, [{sums} + {sums_pitch}*1]",
                    "tileloadd tmm1, [{sums} + {sums_pitch}*1 + 64]",
                    "tileloadd tmm2, [{at} + {sums_pitch}*1]",
                    "tileloadd tmm3, [{at} + {sums_pitch}*1 + 64]",
                    "3:",
                    "cmp {step}, {end}",
                    "je 5f",
                    "4:",
                    "mov {at}, [{step}]",
                    "add {at}, {left}",
                    "tileloadd tmm4, [{at} + {left_pitch}*1]",
                    "add {at}, {second}",
                    "tileloadd tmm5, [{at} + {left_pitch}*1]",
                    "mov {at}, [{step} + 8]",
                    "add {at}, {right}",
                    "tileloadd tmm6, [{at} + {right_pitch}*1]",
                    "tileloadd tmm7, [{at} + {right_pitch}*1 + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {step}, 16",
                    "cmp {step}, {end}",
                    "jne 4b",
                    "5:",
                    "lea {at}, [{sums} + {lower}]",
                    "tilestored [{sums} + {sums_pitch}*1], tmm0",
                    "tilestored [{sums} + {sums_pitch}*1 + 64], tmm1",
                    "tilestored [{at} + {sums_pitch}*1], tmm2",
                    "tilestored [{at} + {sums_pitch}*1 + 64], tmm3",
                    at = out(reg) _,
                    // The lowest bit, which no pitch has, tells whether there are sums.
                    sums_pitch = inout(reg) bytes(block.pitch) + usize::from(block.accumulate) => _,
                    sums = in(reg) block.sums.as_mut_ptr(),
                    lower = in(reg) bytes(TILE * block.pitch),
                    step = inout(reg) places.start => _,
                    end = in(reg) places.end,
                    left = in(reg) block.left.as_ptr().wrapping_add(block.rows[0]),
                    second = in(reg) bytes(block.rows[1]).wrapping_sub(bytes(block.rows[0])),
                    left_pitch = in(reg) bytes(block.left_pitch),
                    right = in(reg) block.right.as_ptr().wrapping_add(block.column),
                    right_pitch = in(reg) bytes(block.right_pitch),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

/// Numbers that begin at a multiple of 64 bytes, so that no row of a tile lies across two lines of the cache.
#[derive(Default)]
pub(crate) struct Aligned {
    numbers: Vec<f32>,
    range: Range<usize>,
}

impl Aligned {
    pub fn zeros(len: usize) -> Self {
        /// Numbers in a line of the cache.
        const LINE: usize = 16;
        let numbers = vec![0f32; len + LINE];
        let start = numbers.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Self { numbers, range: start..start + len }
    }

    /// At least `len` numbers with arbitrary contents.
    pub fn at_least(self, len: usize) -> Self {
        if self.len() < len { Self::zeros(len) } else { self }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.range.clone()]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.range.clone()]
    }
}

thread_local! {
    static SCRATCH: Cell<[Aligned; 2]> = Cell::default();
}

/// Two buffers with arbitrary contents that belong to the thread and are kept. They are not lent to a closure, which would be compiled for
/// another instruction set than its caller.
pub(crate) struct Scratch([Aligned; 2]);

impl Scratch {
    /// Of at least these lengths.
    pub fn take(lengths: [usize; 2]) -> Self {
        let [a, b] = SCRATCH.take();
        Self([a.at_least(lengths[0]), b.at_least(lengths[1])])
    }

    pub fn buffers(&mut self) -> [&mut [f32]; 2] {
        self.0.each_mut().map(|buffer| &mut **buffer)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SCRATCH.set(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;

    /// Words of whole numbers, whose products and sums are exact.
    fn words(seed: usize, len: usize) -> Vec<f32> {
        let whole = |i: usize| ((i * 7919 + seed * 104_729) % 17) as f32 - 8.;
        (0..len).map(|i| f32::pair(whole(2 * i), whole(2 * i + 1))).collect()
    }

    /// Calls with each engine there is.
    fn with_engines(f: impl Fn(&dyn Fn(Block))) {
        f(&|block| Emulated.multiply(block));
        #[cfg(all(target_arch = "x86_64", target_os = "linux", target_pointer_width = "64"))]
        if let Some(found) = crate::simd::amx::get() {
            let session = native::Session::new(found);
            let amx = session.engine();
            f(&|block| amx.multiply(block));
        }
    }

    #[test]
    fn blocks_are_products_and_sums() {
        let halves = |word: f32| {
            [f64::from(f32::from_bits(word.to_bits() << 16)), f64::from(f32::from_bits(word.to_bits() & 0xffff_0000))]
        };
        let (left_pitch, right_pitch, pitch, rows) = (70, 40, 35, [3, 2000]);
        let (left, right) = (words(1, 4000), words(2, 4000));
        let places = [[0, 0], [16, 800], [40, 16 * right_pitch + 3]];
        with_engines(|multiply| {
            for (accumulate, count) in [(false, 3), (true, 3), (false, 0), (true, 0), (true, 1)] {
                let mut sums: Vec<f32> = (0..SIDE * pitch).map(|i| i as f32).collect();
                let mut want: Vec<f64> = sums.iter().map(|&x| f64::from(x)).collect();
                for (i, j) in (0..SIDE).flat_map(|i| (0..SIDE).map(move |j| (i, j))) {
                    let sum: f64 = places[..count]
                        .iter()
                        .flat_map(|&[a, b]| (0..TILE).map(move |k| (a + k, b + k * right_pitch)))
                        .map(|(a, b)| {
                            let x = halves(left[rows[i / TILE] + i % TILE * left_pitch + a]);
                            let y = halves(right[5 + j + b]);
                            x[0] * y[0] + x[1] * y[1]
                        })
                        .sum();
                    let to = &mut want[i * pitch + j];
                    *to = sum + if accumulate { *to } else { 0. };
                }
                multiply(Block {
                    left: &left,
                    rows,
                    left_pitch,
                    right: &right,
                    column: 5,
                    right_pitch,
                    steps: &Steps::new(places[..count].iter().copied()),
                    sums: &mut sums,
                    pitch,
                    accumulate,
                });
                assert!(
                    sums.iter().zip(&want).all(|(&got, &want)| f64::from(got) == want),
                    "{accumulate}, {count} steps"
                );
            }
        });
    }

    /// Other numbers, too, give the same bytes: what is computed with `bf16-emulated` is what AMX computes. (It takes numbers that are too small
    /// for a leading digit, below 1e-38, as 0.)
    #[test]
    fn engines_agree_to_the_last_digit() {
        let number = |i: usize| ((i * 7919 % 1009) as f32 / 504.5 - 1.) * 10f32.powi((i % 7) as i32 - 3);
        let words = |seed: usize, len: usize| {
            (0..len).map(|i| f32::pair(number(2 * i + seed), number(2 * i + 1 + seed))).collect::<Vec<_>>()
        };
        let (left, right) = (words(1, 5 * TILE * SIDE), words(2000, 5 * TILE * SIDE));
        let results = std::cell::RefCell::new(Vec::new());
        with_engines(|multiply| {
            let mut sums: Vec<f32> = (0..SIDE * SIDE).map(number).collect();
            multiply(Block {
                left: &left,
                rows: [0, TILE * 5 * TILE],
                left_pitch: 5 * TILE,
                right: &right,
                column: 0,
                right_pitch: SIDE,
                steps: &Steps::new((0..5).map(|step| [step * TILE, step * TILE * SIDE])),
                sums: &mut sums,
                pitch: SIDE,
                accumulate: true,
            });
            results.borrow_mut().push(sums);
        });
        let results = results.into_inner();
        assert!(results.iter().all(|sums| sums == &results[0]));
    }

    #[test]
    #[should_panic(expected = "beyond its matrix")]
    fn a_block_stays_in_its_matrices() {
        let (left, right) = (words(1, 16 * 40), words(2, 16 * 32));
        let steps = Steps::new([[0, 0], [32, 0]].into_iter());
        let mut sums = vec![0f32; SIDE * SIDE];
        let (rows, left_pitch, right_pitch, pitch) = ([0, 0], 40, SIDE, SIDE);
        let (right, left, sums) = (&right[..], &left[..], &mut sums[..]);
        Emulated.multiply(Block {
            left,
            rows,
            left_pitch,
            right,
            column: 0,
            right_pitch,
            steps: &steps,
            sums,
            pitch,
            accumulate: false,
        });
    }

    #[test]
    fn rows_of_tiles_lie_in_one_line() {
        for len in [1, 16, 100, 4096] {
            let mut numbers = Aligned::zeros(len);
            assert!(numbers.as_ptr().addr().is_multiple_of(64) && numbers.len() == len, "{len}");
            numbers[len - 1] = 1.;
            assert!(numbers.at_least(len)[len - 1] == 1., "what is long enough is kept");
        }
        assert!(Aligned::default().is_empty());
    }
}
