//! Names in archives: the pure rules for which of them may become files, and what whiteouts mean.
//!
//! A name is taken relative to the layer's root, as Docker does, so a leading `/` is dropped; `.` and
//! doubled slashes vanish. `..` is refused wherever it stands: no tool that makes images writes it.
//! A last component beginning with `.wh.` is a whiteout.
//!
//! Source: [OCI layer, whiteouts](https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::{Limits, UnpackError};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// `NAME_MAX` of every Linux file system.
const COMPONENT_MAX_BYTES: usize = 255;

/// A checked relative name: parent directories joined by `/`, and the last component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    joined: Vec<u8>,
    /// Where the last component begins in `joined`.
    last: usize,
}

impl Name {
    /// True for the layer's root itself.
    pub(super) fn is_root(&self) -> bool {
        self.joined.is_empty()
    }

    /// The directory above, without a slash at the end; empty for the layer's root.
    pub(super) fn parent(&self) -> &[u8] {
        self.joined.get(..self.last.saturating_sub(1)).unwrap_or_default()
    }

    pub(super) fn last(&self) -> &OsStr {
        OsStr::from_bytes(self.joined.get(self.last..).unwrap_or_default())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.joined
    }

    /// The same directory with another last component.
    fn sibling(&self, last: &[u8]) -> Self {
        let mut joined = self.joined.get(..self.last).unwrap_or_default().to_vec();
        joined.extend_from_slice(last);
        Self { joined, last: self.last }
    }
}

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A member of this layer.
    Member(Name),
    /// The name is absent, whatever lower layers have.
    Whiteout(Name),
    /// The directory hides everything that lower layers have in it.
    Opaque(Vec<u8>),
    /// Book-keeping of aufs, without meaning here.
    Ignored,
}

/// Checks a name as it stands in an archive.
pub(super) fn check(raw: &[u8], limits: &Limits) -> Result<Name, UnpackError> {
    let refuse = |why| Err(UnpackError::Name { name: lossy(raw), why });
    if raw.contains(&0) {
        return refuse("it contains a zero byte");
    }
    if raw.len() > limits.name_bytes {
        return Err(UnpackError::Limit { what: "bytes in a name", limit: limits.name_bytes as u64 });
    }
    let mut joined = Vec::with_capacity(raw.len());
    let (mut last, mut depth) = (0, 0);
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return refuse("it leads upwards"),
            long if long.len() > COMPONENT_MAX_BYTES => {
                return refuse("a component is longer than 255 bytes");
            }
            _ => {}
        }
        if depth > 0 {
            joined.push(b'/');
        }
        depth += 1;
        last = joined.len();
        joined.extend_from_slice(component);
    }
    if depth > limits.depth {
        return Err(UnpackError::Limit { what: "directories in depth", limit: limits.depth as u64 });
    }
    Ok(Name { joined, last })
}

/// Checks a name and returns its components: none for the root itself.
pub(crate) fn components(raw: &[u8], limits: &Limits) -> Result<Vec<OsString>, UnpackError> {
    let name = check(raw, limits)?;
    let components = name.bytes().split(|byte| *byte == b'/').filter(|component| !component.is_empty());
    Ok(components.map(|component| OsStr::from_bytes(component).to_owned()).collect())
}

/// Tells members from whiteouts.
pub(super) fn interpret(name: Name) -> Result<Meaning, UnpackError> {
    let aufs = name.parent().split(|byte| *byte == b'/').find(|part| part.starts_with(WHITEOUT));
    if let Some(directory) = aufs {
        return if directory.starts_with(WHITEOUT_META) {
            Ok(Meaning::Ignored)
        } else {
            Err(UnpackError::Name { name: lossy(name.bytes()), why: "it is inside a whiteout" })
        };
    }
    let last = name.last().as_bytes();
    if last == OPAQUE {
        return Ok(Meaning::Opaque(name.parent().to_vec()));
    }
    if last.starts_with(WHITEOUT_META) {
        return Ok(Meaning::Ignored);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Member(name)),
        Some(b"" | b"." | b"..") => {
            Err(UnpackError::Name { name: lossy(name.bytes()), why: "a whiteout of no name" })
        }
        Some(hidden) => Ok(Meaning::Whiteout(name.sibling(hidden))),
    }
}

/// For messages: at most 200 bytes, control characters escaped by `{:?}` where it is shown.
pub(super) fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..200).unwrap_or(name)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meaning(raw: &str) -> Result<Meaning, UnpackError> {
        interpret(check(raw.as_bytes(), &Limits::default())?)
    }

    fn member(raw: &str) -> (String, String) {
        match meaning(raw) {
            Ok(Meaning::Member(name)) => (lossy(name.parent()), name.last().to_string_lossy().into_owned()),
            other => panic!("{raw}: {other:?}"),
        }
    }

    #[test]
    fn names_are_relative_to_the_root() {
        for (raw, parent, last) in [
            ("a", "", "a"),
            ("./a/b/", "a", "b"),
            ("//a//./b", "a", "b"),
            ("/etc/passwd", "etc", "passwd"),
            ("./", "", ""),
        ] {
            assert_eq!(member(raw), (parent.to_owned(), last.to_owned()), "{raw}");
        }
        assert!(check(b"./.", &Limits::default()).expect("the root").is_root());
    }

    #[test]
    fn upward_and_unwritable_names_are_refused() {
        for wrong in
            ["..", "a/../b", "/../x", "a/..", "a\0b", &"n".repeat(256), ".wh.", ".wh..", ".wh...", ".wh.a/b"]
        {
            assert!(matches!(meaning(wrong), Err(UnpackError::Name { .. })), "{wrong:?}");
        }
        assert!(matches!(meaning(&"a/".repeat(2100)), Err(UnpackError::Limit { .. })));
        assert!(matches!(meaning(&"a/".repeat(300)), Err(UnpackError::Limit { .. })));
    }

    #[test]
    fn whiteouts_name_what_they_hide() {
        let Ok(Meaning::Whiteout(name)) = meaning("etc/.wh.passwd") else { panic!("a whiteout") };
        assert_eq!((name.parent(), name.last()), (b"etc".as_slice(), OsStr::new("passwd")));
        assert!(matches!(meaning("a/.wh..wh..opq"), Ok(Meaning::Opaque(parent)) if parent == b"a"));
        assert!(matches!(meaning(".wh..wh.plnk/1.2"), Ok(Meaning::Ignored)));
        assert!(matches!(meaning(".wh..wh.aufs"), Ok(Meaning::Ignored)));
    }

    proptest! {
        #[test]
        fn no_name_leads_out_or_upwards(raw in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(0), any::<u8>()], 0..60)) {
            if let Ok(meaning) = check(&raw, &Limits::default()).and_then(interpret) {
                let bytes = match &meaning {
                    Meaning::Member(name) | Meaning::Whiteout(name) => name.bytes(),
                    Meaning::Opaque(parent) => parent,
                    Meaning::Ignored => b"",
                };
                prop_assert!(!bytes.starts_with(b"/") && !bytes.ends_with(b"/") && !bytes.contains(&0));
                prop_assert!(bytes.is_empty() || bytes.split(|b| *b == b'/').all(|c| !matches!(c, b"" | b"." | b"..")));
            }
        }

        #[test]
        fn whiteouts_of_any_component_hide_just_that(last in "[a-z.]{1,6}", parent in "[a-z]{1,3}") {
            match meaning(&format!("{parent}/.wh.{last}")) {
                Ok(Meaning::Whiteout(name)) => prop_assert_eq!(lossy(name.bytes()), format!("{parent}/{last}")),
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(_) => prop_assert!(matches!(last.as_str(), "." | "..")),
            }
        }
    }
}
