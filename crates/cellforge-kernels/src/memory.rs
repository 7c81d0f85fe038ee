//! Memory for results.

use crate::element::{Element, narrow_all};
use crate::tiles::Aligned;
use rayon::prelude::*;
use std::cell::Cell;
use std::mem::MaybeUninit;

/// A result is put together in pieces of about so many numbers, which fit into a core's own cache.
pub(crate) const PIECE: usize = 1 << 16;

/// Results of more bytes than this bypass the caches: they would not stay there until they are read.
const LARGE: usize = 1 << 21;

thread_local! {
    static SCRATCH: Cell<Aligned> = Cell::default();
}

/// A vector of `len` numbers that tasks fill, `chunk` numbers each, in parallel. `f` gets the number of the chunk and a buffer for
/// its numbers, with arbitrary contents; numbers of another type than `f32` are rounded from there.
pub(crate) fn filled<E: Element>(len: usize, chunk: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<E> {
    filled_in_pieces(len, chunk, |i, pieces| {
        let len = pieces.rest.len();
        pieces.next(len, |buffer| f(i, buffer));
    })
}

/// As [`filled_in_pieces`], of tasks that also return something: that of each chunk, in their order.
pub(crate) fn filled_with<E: Element, T: Send>(
    len: usize,
    chunk: usize,
    f: impl Fn(usize, &mut Pieces<E>) -> T + Sync,
) -> (Vec<E>, Vec<T>) {
    let mut values: Vec<E> = Vec::with_capacity(len);
    let large = len * size_of::<E>() > LARGE;
    let chunks = values.spare_capacity_mut()[..len].par_chunks_mut(chunk.max(1)).enumerate();
    let returned = chunks.map(|(i, chunk)| {
        let mut pieces = Pieces { rest: chunk, buffer: SCRATCH.take(), large };
        let returned = f(i, &mut pieces);
        assert!(pieces.rest.is_empty(), "{} numbers of a chunk were not made", pieces.rest.len());
        SCRATCH.set(pieces.buffer);
        store_fence();
        returned
    });
    let returned = returned.collect();
    #[expect(unsafe_code, reason = "there is no safe way to write a vector in parallel without zeros first")]
    // SAFETY: the chunks cover the first `len` numbers of the capacity, and each task has written all of its chunk.
    unsafe {
        values.set_len(len);
    }
    (values, returned)
}

/// As [`filled`], for tasks that make their chunk in pieces, one after the other.
///
/// Numbers are computed in a buffer that stays in near memory and then copied to where they belong. For a large vector that is a
/// third of the traffic of writing them in place: there each line would be read from memory before it is written, and once more
/// if the vector was filled with zeros first.
pub(crate) fn filled_in_pieces<E: Element>(
    len: usize,
    chunk: usize,
    f: impl Fn(usize, &mut Pieces<E>) + Sync,
) -> Vec<E> {
    filled_with(len, chunk, f).0
}

/// The part of a chunk that is still to be made.
pub(crate) struct Pieces<'a, E> {
    rest: &'a mut [MaybeUninit<E>],
    buffer: Aligned,
    large: bool,
}

impl<E: Element> Pieces<'_, E> {
    /// Makes the next `len` numbers.
    pub fn next(&mut self, len: usize, f: impl FnOnce(&mut [f32])) {
        self.buffer = std::mem::take(&mut self.buffer).at_least(len);
        f(&mut self.buffer[..len]);
        let (to, rest) = std::mem::take(&mut self.rest).split_at_mut(len);
        self.rest = rest;
        write(&self.buffer[..len], to, self.large);
    }
}

/// Writes numbers where they belong, rounded to their type, past the caches if asked to.
fn write<E: Element>(from: &[f32], to: &mut [MaybeUninit<E>], past_caches: bool) {
    /// Numbers that are rounded at a time.
    const BLOCK: usize = 2048;
    let copy = |from: &[E], to: &mut [MaybeUninit<E>]| match past_caches {
        true => stream(from, to),
        false => _ = to.write_copy_of_slice(from),
    };
    if let Some(from) = E::own(from) {
        return copy(from, to);
    }
    let mut block = [E::default(); BLOCK];
    for (from, to) in from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)) {
        let block = &mut block[..from.len()];
        narrow_all(from, block);
        copy(block, to);
    }
}

/// Copies past the caches where the processor can.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the instruction takes a pointer")]
fn stream<E: Element>(from: &[E], to: &mut [MaybeUninit<E>]) {
    use core::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
    /// Bytes that the instruction writes, to a multiple of as many.
    const BYTES: usize = 16;
    assert_eq!(from.len(), to.len(), "a copy of another length");
    let head = to.as_ptr().align_offset(BYTES).min(to.len());
    let (from_head, from) = from.split_at(head);
    let (to_head, to) = to.split_at_mut(head);
    to_head.write_copy_of_slice(from_head);
    let mut from = from.chunks_exact(BYTES / size_of::<E>());
    let mut to = to.chunks_exact_mut(BYTES / size_of::<E>());
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        // SAFETY: both are 16 bytes of numbers, and those of `to` begin at a multiple of 16. Every x86-64 processor has SSE2.
        unsafe { _mm_stream_si128(to.as_mut_ptr().cast(), _mm_loadu_si128(from.as_ptr().cast())) }
    }
    to.into_remainder().write_copy_of_slice(from.remainder());
}

#[cfg(not(target_arch = "x86_64"))]
fn stream<E: Element>(from: &[E], to: &mut [MaybeUninit<E>]) {
    to.write_copy_of_slice(from);
}

/// To be called before other threads may read what [`stream`] wrote.
fn store_fence() {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "an intrinsic")]
    // SAFETY: every x86-64 processor has SSE.
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}

/// Lets the process keep the memory it frees, for its next allocation, instead of handing it back to the system. To be called
/// once, when a program starts that trains: a training step allocates and frees hundreds of megabytes, and glibc hands blocks
/// beyond some size back each time, at the price of a page fault for every 4 KiB when the next step asks for them. What a
/// process holds is then what it held at most. Where the C library is not glibc this does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // The most that glibc takes up to about version 2.34 on 64 bits: 32 MiB.
        const OLDER: libc::c_int = 4 * 1024 * 1024 * size_of::<libc::c_long>() as libc::c_int;
        // Each of the other two settings would freeze the threshold where it stands, at 128 KiB if neither of these was taken:
        // nearly every tensor would then be mapped and handed back by itself, which is worse than no setting at all.
        if set(libc::M_MMAP_THRESHOLD, 1 << 30) || set(libc::M_MMAP_THRESHOLD, OLDER) {
            set(libc::M_TRIM_THRESHOLD, i32::MAX);
            set(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

/// Whether the C library took a setting of its allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the C library has no safe interface")]
fn set(setting: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: `mallopt` takes two numbers and guards the allocator's state with its own lock.
    unsafe { libc::mallopt(setting, value) == 1 }
}
