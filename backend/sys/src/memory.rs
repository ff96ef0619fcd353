//! The C library's allocator, as far as it must be told something.
//!
//! Source: mallopt(3).

// UNSAFETY: one call without pointers.
#![expect(unsafe_code, reason = "mallopt is not in nix")]

/// Lets all threads of this process share this many arenas from now on.
///
/// By default each thread gets one of its own, up to eight for each processor, and what one thread frees no
/// other can use: a process with many short tasks on many threads holds twice the memory that it uses.
/// Returns whether the library took it.
pub fn limit_arenas(arenas: u8) -> bool {
    // SAFETY: mallopt takes the allocator's own lock, and changes only what later allocations do.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, i32::from(arenas)) == 1 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_library_takes_a_limit() {
        assert!(super::limit_arenas(8));
    }
}
