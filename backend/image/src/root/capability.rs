//! Capabilities of files, `security.capability`: in an archive without an owner, on disk the container's own.
//!
//! The forms are `struct vfs_cap_data` and `vfs_ns_cap_data` of `linux/capability.h`. One with an owner gives
//! what it says only where that id is root, so a container's file gives nothing to a process of the host.

pub(super) const ATTRIBUTE: &[u8] = b"security.capability";

/// Where the form's number is, and the two forms: of the host, and with the root of a namespace behind it.
const FORM: usize = 3;
const OF_THE_HOST: u8 = 2;
const OF_A_NAMESPACE: u8 = 3;
/// Of the former; the latter has four bytes more.
const BYTES: usize = 20;

/// As it goes into an archive.
pub(super) fn for_archive(mut value: Vec<u8>) -> Vec<u8> {
    if let Some(form @ &mut OF_A_NAMESPACE) = value.get_mut(FORM) {
        *form = OF_THE_HOST;
        value.truncate(BYTES);
    }
    value
}

/// As the container's root, `root` on the host, would have set it, whatever owner the archive names; `None` for
/// what is none of the two forms.
pub(super) fn for_disk(mut value: Vec<u8>, root: u32) -> Option<Vec<u8>> {
    let form = value.get_mut(FORM)?;
    let bytes = match *form {
        OF_THE_HOST => BYTES,
        OF_A_NAMESPACE => BYTES + size_of_val(&root),
        _ => return None,
    };
    *form = OF_A_NAMESPACE;
    if value.len() != bytes {
        return None;
    }
    value.truncate(BYTES);
    value.extend(root.to_le_bytes());
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8; BYTES] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn a_capability_gets_the_container_s_root_on_disk_and_loses_it_in_an_archive() {
        let own = for_disk(PLAIN.to_vec(), 0x0102_0304).expect("known");
        assert_eq!(own[..4], *b"\x01\0\0\x03");
        assert_eq!(own[BYTES..], [4, 3, 2, 1]);
        assert_eq!(for_archive(own.clone()), PLAIN);
        let claimed = for_disk(own, 7).expect("known");
        assert_eq!(claimed[BYTES..], [7, 0, 0, 0], "another's root in an archive counts for nothing");
    }

    #[test]
    fn what_is_no_capability_of_a_file_is_none() {
        let mut old = PLAIN.to_vec();
        old[FORM] = 1;
        let mut short_of_an_owner = PLAIN.to_vec();
        short_of_an_owner[FORM] = OF_A_NAMESPACE;
        let long = [PLAIN.as_slice(), b"\0"].concat();
        for value in [old, short_of_an_owner, long, PLAIN[..19].to_vec(), b"x".to_vec(), Vec::new()] {
            assert_eq!(for_disk(value.clone(), 7), None, "{value:?}");
        }
    }
}
