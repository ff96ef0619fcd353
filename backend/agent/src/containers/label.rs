//! A container's AppArmor profile, from what was asked for and what this host has: pure.

use wharf_shared::container::{AppArmorMode, ContainerSpec};

use crate::engine::HostProfile;
use crate::error::{Result, ServiceError};

/// The profile of a container's processes.
pub(super) fn of(spec: &ContainerSpec, host: &HostProfile) -> Result<Option<String>> {
    match (&spec.apparmor, host) {
        (AppArmorMode::Default, HostProfile::On(ours)) if !spec.privileged => Ok(ours.clone()),
        (AppArmorMode::Default | AppArmorMode::Unconfined, _) => Ok(None),
        (AppArmorMode::Profile(name), HostProfile::On(_)) => Ok(Some(name.clone())),
        (AppArmorMode::Profile(name), HostProfile::Off) => Err(ServiceError::invalid_field(
            "apparmor.profile",
            format!("this host has no AppArmor, so that the profile {name} would hold nothing"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_gets_our_profile_unless_it_is_privileged_or_has_another() {
        let on = HostProfile::On(Some("ours".to_owned()));
        let of = |spec: &ContainerSpec, host| super::of(spec, host).expect("a profile or none");
        let default = ContainerSpec::default();
        assert_eq!(of(&default, &on).as_deref(), Some("ours"));
        assert_eq!(of(&default, &HostProfile::Off), None);
        assert_eq!(of(&ContainerSpec { privileged: true, ..default.clone() }, &on), None);
        let named = ContainerSpec { apparmor: AppArmorMode::Profile("web".to_owned()), ..default.clone() };
        assert_eq!(of(&named, &on).as_deref(), Some("web"));
        assert_eq!(of(&ContainerSpec { privileged: true, ..named.clone() }, &on).as_deref(), Some("web"));
        assert_eq!(of(&ContainerSpec { apparmor: AppArmorMode::Unconfined, ..default }, &on), None);
        assert!(super::of(&named, &HostProfile::Off).is_err());
    }
}
