//! Memory that is free goes back to the system.

/// PGD's batches shrink as images break, and every size leaves holes of its own in the heap, which the
/// allocator is told to keep (`cli/allocator.rs`): without this an evaluation grows by gigabytes.
pub(super) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a call into the C library that takes a number and touches free memory alone")]
    unsafe {
        libc::malloc_trim(0);
    }
}
