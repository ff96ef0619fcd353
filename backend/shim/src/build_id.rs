//! Which build a forge runs: a hash of its executable's bytes.
//!
//! The agent compares the build of a forge that it finds with the executable it would start
//! itself. The hash separates builds, it defends against nobody: both sides are root.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};

/// The hash of one executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildId(pub u64);

impl BuildId {
    /// Hashes an executable from its current position to its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(executable: &mut File) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let count = executable.read(&mut buffer)?;
            if count == 0 {
                return Ok(Self(hasher.finish()));
            }
            hasher.write(buffer.get(..count).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_the_same_build_and_others_are_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).expect("write");
            BuildId::of(&mut File::open(&path).expect("open")).expect("read")
        };
        assert_eq!(write("a", b"one build"), write("b", b"one build"));
        assert_ne!(write("a", b"one build"), write("c", b"another"));
    }
}
