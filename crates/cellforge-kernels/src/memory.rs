//! The system's memory allocator.

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
