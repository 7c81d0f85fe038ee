//! The system's memory allocator.

/// Lets the process keep the memory it frees, for its next allocation, instead of handing it back to the system. To be called
/// once, when a program starts that trains: a training step allocates and frees hundreds of megabytes, and glibc hands blocks
/// beyond some size back each time, at the price of a page fault for every 4 KiB when the next step asks for them. What a
/// process holds is then what it held at most. Where the C library is not glibc this does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the C library has no safe interface")]
    for (setting, value) in
        [(libc::M_MMAP_THRESHOLD, 1 << 30), (libc::M_TRIM_THRESHOLD, i32::MAX), (libc::M_TOP_PAD, 64 << 20)]
    {
        // SAFETY: `mallopt` takes two numbers and guards the allocator's state with its own lock.
        unsafe { libc::mallopt(setting, value) };
    }
}
