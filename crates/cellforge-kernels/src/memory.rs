//! Memory for results.

use rayon::prelude::*;

/// A vector of `len` numbers that tasks fill, `chunk` numbers each, in parallel. `f` gets the number of the chunk and zeros. Each
/// task writes its own zeros: `vec![0.; len]` would have one thread write them all, far ahead of their use.
pub(crate) fn filled(len: usize, chunk: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    values.spare_capacity_mut()[..len].par_chunks_mut(chunk.max(1)).enumerate().for_each(|(i, chunk)| {
        chunk.iter_mut().for_each(|x| _ = x.write(0.));
        #[expect(unsafe_code, reason = "the safe form is not stable")]
        // SAFETY: every number of the chunk was written in the line above.
        f(i, unsafe { chunk.assume_init_mut() });
    });
    #[expect(unsafe_code, reason = "there is no safe way to write a vector in parallel without zeros first")]
    // SAFETY: the chunks cover the first `len` numbers of the capacity, and each was written.
    unsafe {
        values.set_len(len);
    }
    values
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
