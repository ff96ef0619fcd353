//! Who a process runs as: names and numbers, looked up in the container's own files.
//!
//! `/etc/passwd` and `/etc/group` are opened in the container's root and read by our own parser;
//! the host's name service is never asked (CVE-2019-14271). A number need not be listed; a name must
//! (an unknown one is an error, never root). Rules as Docker's: without a group the user's own, or 0,
//! and the groups that list the user.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::error::{AtStage, Stage, StepError};
use crate::rootfs::resolve::read_text;
use crate::spec::{IdSource, ProcessSpec};

/// Longest file that is read; both files are the tenant's.
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;

/// Numbers inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Home directory, where the user is listed.
    pub(crate) home: Option<String>,
}

/// Looks a process's user up in the files below `root`.
pub(crate) fn find(root: BorrowedFd<'_>, process: &ProcessSpec) -> Result<Identity, StepError> {
    let read = |path| match read_text(root, path, FILE_LIMIT_BYTES) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(String::new()),
        other => other.at(Stage::FindUser, path),
    };
    let (user, groups) = (process.user.as_str(), process.groups.as_slice());
    let found = if process.ids == IdSource::Numbers {
        let home_is_given = process.env.iter().any(|pair| pair.starts_with("HOME="));
        let passwd = if home_is_given { String::new() } else { read("etc/passwd")? };
        exact(&passwd, user, groups)
    } else {
        resolve(&read("etc/passwd")?, &read("etc/group")?, user, groups)
    };
    found.map_err(|name| StepError { stage: Stage::FindUser, detail: name, errno: Errno::EINVAL })
}

/// Takes `uid:gid` and groups as they are; the error is what is no number.
fn exact(passwd: &str, user: &str, groups: &[String]) -> Result<Identity, String> {
    let number = |text: &str| id(text).ok_or_else(|| text.to_owned());
    let (uid, gid) = user.split_once(':').ok_or_else(|| user.to_owned())?;
    let (uid, gid) = (number(uid)?, number(gid)?);
    let groups = groups.iter().map(|group| number(group)).collect::<Result<_, _>>()?;
    let entry = Entry::all(passwd).find(|entry| entry.id == uid);
    Ok(Identity { uid, gid, groups, home: entry.and_then(|entry| entry.home()) })
}

/// Resolves against the texts of both files; the error is the name that is not known.
fn resolve(passwd: &str, group: &str, user: &str, groups: &[String]) -> Result<Identity, String> {
    let (user, own_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = Entry::all(passwd).find(|entry| entry.is(user));
    let uid = match &entry {
        Some(entry) => entry.id,
        None => id(user).ok_or_else(|| user.to_owned())?,
    };
    let find_group = |name: &str| {
        let listed = Entry::all(group).find(|entry| entry.is(name)).map(|entry| entry.id);
        listed.or_else(|| id(name)).ok_or_else(|| name.to_owned())
    };
    let gid = match own_group {
        Some(name) => find_group(name)?,
        None => entry.as_ref().and_then(|entry| id(entry.rest.first()?)).unwrap_or(0),
    };
    let mut all: Vec<u32> = groups.iter().map(|name| find_group(name)).collect::<Result<_, _>>()?;
    if let (None, Some(entry)) = (own_group, &entry) {
        let lists = |other: &Entry<'_>| {
            other.rest.first().is_some_and(|m| m.split(',').any(|name| name == entry.name))
        };
        all.extend(Entry::all(group).filter(lists).map(|entry| entry.id));
    }
    // As initgroups(3) does: the process's own group is among them.
    all.push(gid);
    all.sort_unstable();
    all.dedup();
    Ok(Identity { uid, gid, groups: all, home: entry.and_then(|entry| entry.home()) })
}

/// Reads an id: decimal, and not the one number that means "no change" to the kernel.
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// One line of either file: `name:password:id:rest…`.
struct Entry<'text> {
    name: &'text str,
    id: u32,
    rest: Vec<&'text str>,
}

impl<'text> Entry<'text> {
    fn all(text: &'text str) -> impl Iterator<Item = Self> {
        text.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (name, number) = (fields.next()?, fields.nth(1)?);
            let named = !name.is_empty() && !name.starts_with('#');
            Some(Self { name, id: id(number)?, rest: fields.collect() }).filter(|_| named)
        })
    }

    /// The home directory, where the line names one.
    fn home(&self) -> Option<String> {
        self.rest.get(2).filter(|home| home.starts_with('/')).map(|home| (*home).to_owned())
    }

    /// Matches by name, and by number for what looks like one.
    fn is(&self, wanted: &str) -> bool {
        self.name == wanted || id(wanted) == Some(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\n# comment:x:9:9::/:\nweb:x:33:44:Web:/srv:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:44:\nlog:x:55:web,other\ntty:x:5:root\n";

    fn run(user: &str, groups: &[&str]) -> Result<Identity, String> {
        let groups: Vec<String> = groups.iter().map(|&name| name.to_owned()).collect();
        resolve(PASSWD, GROUP, user, &groups)
    }

    #[test]
    fn a_name_gives_its_ids_groups_and_home() {
        let web = run("web", &[]).expect("known");
        assert_eq!(web, Identity { uid: 33, gid: 44, groups: vec![44, 55], home: Some("/srv".into()) });
        assert_eq!(run("", &[]).expect("root").groups, [0, 5]);
    }

    #[test]
    fn a_number_need_not_be_listed_and_a_group_can_be_asked() {
        assert_eq!(
            run("1234", &[]).expect("number"),
            Identity { uid: 1234, gid: 0, groups: vec![0], home: None }
        );
        assert_eq!(run("33", &[]).expect("listed number").gid, 44);
        let both = run("web:root", &["log", "77"]).expect("both");
        assert_eq!((both.gid, both.groups), (0, vec![0, 55, 77]));
    }

    #[test]
    fn exact_numbers_stay_what_they_are_whatever_the_files_say() {
        let passwd = "0:x:1000:1000::/evil:/bin/sh\nroot:x:0:0::/root:/bin/sh\n";
        let groups = ["5".to_owned()];
        let expected = Identity { uid: 0, gid: 0, groups: vec![5], home: Some("/root".into()) };
        assert_eq!(exact(passwd, "0:0", &groups), Ok(expected));
        for bad in ["0", "root:0", "0:root", "0:4294967295", ":"] {
            assert!(exact(passwd, bad, &[]).is_err(), "{bad}");
        }
    }

    /// Attacks: C8.
    #[test]
    fn unknown_names_and_numbers_out_of_range_are_errors() {
        for bad in ["nobody-here", "4294967295", "4294967296", "-1", "+1", "web:nogroup", "web:"] {
            assert!(run(bad, &[]).is_err(), "{bad}");
        }
        assert!(run("web", &["nogroup"]).is_err());
    }
}
