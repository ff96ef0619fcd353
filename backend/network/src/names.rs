//! Kernel names of one instance: nft table, bridges and veth ends.
//!
//! Every name begins with a prefix of exactly five characters made from the instance's name, so two instances
//! on one host never share a name and the static firewall rules may match by wildcard. Fifteen characters are
//! the kernel's limit (`IFNAMSIZ` less its NUL, `netdevice(7)`). The alias of a link (`IFLA_IFALIAS`) says who
//! owns it: a link is ours by its alias, not by its looks.

use std::fmt::Write as _;

/// Length of the prefix that all link names of an instance share.
const PREFIX_LENGTH: usize = 5;
/// Hexadecimal digits of the container id that a veth's name carries: 36 bits.
const ID_DIGITS: usize = 9;

/// Why a name was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// The instance's name cannot become part of kernel names.
    #[error("instance name {name:?} must be 1 to 32 of a-z, 0-9 and '-', beginning with a letter")]
    Instance {
        /// The name that was refused.
        name: String,
    },
    /// The container's id cannot become part of a link's name.
    #[error("container id {id:?} must be 12 to 64 lower-case hexadecimal digits")]
    ContainerId {
        /// The id that was refused.
        id: String,
    },
    /// The tenant's id cannot become part of a link's alias.
    #[error("tenant id {id:?} must be 1 to 64 of a-z, 0-9, '_' and '-'")]
    TenantId {
        /// The id that was refused.
        id: String,
    },
}

/// A valid instance name and the kernel names that follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
    prefix: String,
}

impl Instance {
    /// Checks an instance's name (`wharf` by default).
    ///
    /// # Errors
    /// [`NameError::Instance`] if the name has other characters than a-z, 0-9 and '-', or a wrong length.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let valid = name.len() <= 32
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !valid {
            return Err(NameError::Instance { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), prefix: prefix(name) })
    }

    /// Returns the instance's name, which is also the name of its nft tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the nft tables that count traffic.
    pub(crate) fn usage_table(&self) -> String {
        format!("{}-usage", self.name)
    }

    /// Returns the name of the bridge of the tenant with this index (in hexadecimal, so any `u32` fits).
    pub fn bridge(&self, index: u32) -> String {
        format!("{}b{index:x}", self.prefix)
    }

    /// Returns the nft wildcard that matches all bridges of this instance and no other link.
    pub(crate) fn bridges(&self) -> String {
        format!("{}b*", self.prefix)
    }

    /// Returns the host's end of a container's veth pair.
    ///
    /// # Errors
    /// [`NameError::ContainerId`] if the id is not lower-case hexadecimal.
    pub fn veth(&self, container_id: &str) -> Result<String, NameError> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if !(12..=64).contains(&container_id.len()) || !container_id.chars().all(hex) {
            return Err(NameError::ContainerId { id: container_id.to_owned() });
        }
        let digits: String = container_id.chars().take(ID_DIGITS).collect();
        Ok(format!("{}v{digits}", self.prefix))
    }

    /// Returns the nft wildcard that matches all veth ends of this instance and no other link.
    pub(crate) fn veths(&self) -> String {
        format!("{}v*", self.prefix)
    }

    /// Returns the alias that marks a tenant's bridge as ours.
    pub(crate) fn bridge_alias(&self, tenant_id: &str) -> String {
        format!("{}/{tenant_id}", self.name)
    }

    /// Returns the alias that marks a container's veth end as ours.
    pub(crate) fn veth_alias(&self, tenant_id: &str, container_id: &str) -> String {
        format!("{}/{tenant_id}/{container_id}", self.name)
    }

    /// Tells whether a link is this instance's.
    ///
    /// A link is born without an alias and gets it by the next message; one that looks like ours and has no
    /// alias is what a killed agent left between the two.
    pub(crate) fn owns(&self, link: &str, alias: Option<&str>) -> bool {
        match alias {
            Some(alias) => alias.strip_prefix(&self.name).is_some_and(|rest| rest.starts_with('/')),
            None => link.strip_prefix(&self.prefix).is_some_and(|rest| {
                let mut characters = rest.chars();
                let kind = characters.next();
                let digits = characters.as_str();
                let hex = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit());
                hex && (kind == Some('b') || (kind == Some('v') && digits.len() == ID_DIGITS))
            }),
        }
    }
}

/// Checks that a tenant's id can stand in an alias.
pub(crate) fn check_tenant_id(id: &str) -> Result<(), NameError> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if id.is_empty() || id.len() > 64 || !id.chars().all(valid) {
        return Err(NameError::TenantId { id: id.to_owned() });
    }
    Ok(())
}

/// Makes the five-character prefix: the name itself when it has five characters, else two of its characters
/// and three of its hash. All prefixes have one length, so none is the beginning of another.
fn prefix(name: &str) -> String {
    if name.len() == PREFIX_LENGTH {
        return name.to_owned();
    }
    // FNV-1a: small, stable over versions, and only has to tell a handful of instances apart.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut prefix: String = name.chars().chain("xx".chars()).take(2).collect();
    // Writing to a String cannot fail.
    let written = write!(prefix, "{:03x}", hash & 0xfff);
    debug_assert!(written.is_ok());
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_fits_the_kernel_limit() {
        for name in ["wharf", "w", "a-rather-long-instance-name-here"] {
            let instance = Instance::new(name).expect("a valid name");
            assert!(instance.bridge(u32::MAX).len() <= 15);
            assert!(instance.veth(&"a".repeat(64)).expect("a valid id").len() <= 15);
        }
        let wharf = Instance::new("wharf").expect("a valid name");
        assert_eq!(wharf.bridge(12), "wharfbc");
        assert_eq!(wharf.veth("0123456789abcdef").expect("a valid id"), "wharfv012345678");
    }

    #[test]
    fn refuses_names_that_could_leave_their_place() {
        for name in ["", "-a", "9a", "Wharf", "a b", "a/b", "a;flush ruleset", "é"] {
            assert!(Instance::new(name).is_err(), "{name:?}");
        }
        let wharf = Instance::new("wharf").expect("a valid name");
        for id in ["", "0123", "0123456789ABCDEF", "0123456789ag", "../../../../etc"] {
            assert!(wharf.veth(id).is_err(), "{id:?}");
        }
        assert!(check_tenant_id("tnt_0192-abc").is_ok());
        assert!(check_tenant_id("a/b").is_err());
    }

    #[test]
    fn two_instances_never_own_each_others_links() {
        let wharf = Instance::new("wharf").expect("a valid name");
        let other = Instance::new("wharf-test").expect("a valid name");
        let link = other.bridge(1);
        assert!(!wharf.owns(&link, Some(&other.bridge_alias("tnt_1"))));
        assert!(!wharf.owns(&link, None));
        assert!(other.owns(&link, Some(&other.bridge_alias("tnt_1"))));
        assert!(other.owns(&link, None));
        assert!(!wharf.owns("wharfb1", Some("someone else's")));
        assert!(!wharf.owns("wharfboat", None));
        assert!(!wharf.owns("wharfv12", None));
    }
}
