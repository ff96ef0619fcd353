//! Specs in sealed memory files: how they travel from the agent to forge and shim.
//!
//! A sealed file cannot change after it was checked.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

use wharf_sys::SysError;
use wharf_sys::image::{is_sealed, sealed_copy};

/// No spec is larger.
pub const SPEC_MAX_BYTES: u64 = 1024 * 1024;

/// A descriptor that was to hold a sealed spec and does not.
#[derive(Debug, thiserror::Error)]
pub enum SpecFileError {
    /// A system call on it failed.
    #[error("could not read the spec's descriptor")]
    Read(#[source] io::Error),
    /// It may still change.
    #[error("the spec's descriptor is not a sealed memory file")]
    NotSealed,
    /// It is larger than [`SPEC_MAX_BYTES`].
    #[error("the spec has {length_bytes} bytes; at most {SPEC_MAX_BYTES} are accepted")]
    TooLarge {
        /// Its size.
        length_bytes: u64,
    },
}

/// Puts an encoded spec into a sealed memory file.
///
/// # Errors
/// When the kernel refuses one of the steps.
pub fn seal_spec(bytes: &[u8]) -> Result<OwnedFd, SysError> {
    sealed_copy(c"wharf-spec", bytes, false)
}

/// Reads an encoded spec from the start of its descriptor, after checking that it is sealed.
///
/// # Errors
/// [`SpecFileError`] when it is not sealed, too large or not readable.
pub fn read_spec(file: OwnedFd) -> Result<Vec<u8>, SpecFileError> {
    // An error means that it is no memory file at all.
    if !matches!(is_sealed(&file), Ok(true)) {
        return Err(SpecFileError::NotSealed);
    }
    let mut file = File::from(file);
    let length_bytes = file.metadata().map_err(SpecFileError::Read)?.len();
    if length_bytes > SPEC_MAX_BYTES {
        return Err(SpecFileError::TooLarge { length_bytes });
    }
    file.rewind().map_err(SpecFileError::Read)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(SpecFileError::Read)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_spec_comes_back_from_its_start() {
        let file = seal_spec(b"spec").expect("memfd");
        let mut other = File::from(file.try_clone().expect("dup"));
        other.seek(io::SeekFrom::End(0)).expect("seek");
        assert_eq!(read_spec(file).expect("sealed file"), b"spec");
    }

    #[test]
    fn a_file_that_may_change_is_refused() {
        let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
        let unsealed = rustix::fs::memfd_create("test", flags).expect("memfd");
        assert!(matches!(read_spec(unsealed), Err(SpecFileError::NotSealed)));
        let ordinary = tempfile::tempfile().expect("temp file");
        assert!(matches!(read_spec(ordinary.into()), Err(SpecFileError::NotSealed)));
    }

    #[test]
    fn a_spec_that_is_too_large_is_refused() {
        let bytes = vec![0; usize::try_from(SPEC_MAX_BYTES).expect("fits") + 1];
        let file = seal_spec(&bytes).expect("memfd");
        assert!(matches!(read_spec(file), Err(SpecFileError::TooLarge { .. })));
    }
}
