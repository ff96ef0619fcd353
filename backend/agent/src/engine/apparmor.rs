//! The AppArmor profile of this host's containers, loaded once at the agent's start.

use wharf_runtime::apparmor::{Standing, load, standing};

use crate::error::chain;

/// What this host has of AppArmor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostProfile {
    /// Nothing.
    Off,
    /// It is on; `None` when our profile could not be loaded.
    On(Option<String>),
}

impl HostProfile {
    /// Loads our profile, under a name of this instance. Without it containers still have all other walls, and
    /// a host whose parser is broken could start none: so it is told, and they start.
    pub(crate) fn load(instance: &str) -> Self {
        let name = format!("wharf-default-{instance}");
        match standing() {
            Standing::Off => Self::Off,
            Standing::Unusable { problem, remedy } => {
                tracing::warn!(problem, remedy, "AppArmor is on, and containers get no profile of it");
                Self::On(None)
            }
            Standing::Usable { parser } => match load(&parser, &name) {
                Ok(()) => Self::On(Some(name)),
                Err(error) => {
                    tracing::error!(
                        profile = name,
                        error = chain(&error),
                        "containers get no AppArmor profile: ours cannot be loaded"
                    );
                    Self::On(None)
                }
            },
        }
    }
}
