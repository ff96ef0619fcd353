//! Typed ids, so that a volume's id can never be passed where a tenant's is meant.
//!
//! A container's id has 64 hexadecimal characters, so that Docker clients accept it. All others
//! are a short prefix and a version 7 UUID: sortable by creation, recognisable in a log.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// A text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// What was wanted.
    pub wanted: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {}", self.wanted)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal, $valid:expr) => {
        $(#[$doc])*
        // Shared, because a month of rows has the same few ids millions of times.
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidId { wanted: $wanted }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_prefixed_uuid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|uuid| {
        uuid.len() == 36
            && uuid.bytes().enumerate().all(|(at, byte)| {
                if matches!(at, 8 | 13 | 18 | 23) {
                    byte == b'-'
                } else {
                    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
                }
            })
    })
}

id!(
    /// A container.
    ContainerId, "a container id (64 lower-case hexadecimal characters)",
    |text| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
);
id!(
    /// A tenant.
    TenantId, "a tenant id (`tnt_` and a UUID)", |text| is_prefixed_uuid(text, "tnt_")
);
id!(
    /// A user.
    UserId, "a user id (`usr_` and a UUID)", |text| is_prefixed_uuid(text, "usr_")
);
id!(
    /// An API token.
    TokenId, "a token id (`tok_` and a UUID)", |text| is_prefixed_uuid(text, "tok_")
);
id!(
    /// A volume.
    VolumeId, "a volume id (`vol_` and a UUID)", |text| is_prefixed_uuid(text, "vol_")
);
id!(
    /// A checkpoint.
    CheckpointId, "a checkpoint id (`chk_` and a UUID)", |text| is_prefixed_uuid(text, "chk_")
);
id!(
    /// A host.
    HostId, "a host id (`hst_` and a UUID)", |text| is_prefixed_uuid(text, "hst_")
);
id!(
    /// A version of the price book.
    PriceBookId, "a price book id (`prb_` and a UUID)", |text| is_prefixed_uuid(text, "prb_")
);
id!(
    /// A contract.
    ContractId, "a contract id (`ctr_` and a UUID)", |text| is_prefixed_uuid(text, "ctr_")
);
id!(
    /// A running or finished pull or import.
    PullId, "a pull id (`pul_` and a UUID)", |text| is_prefixed_uuid(text, "pul_")
);

impl ContainerId {
    /// The first twelve characters, as people are shown it.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_64_lower_case_hexadecimal_characters() {
        assert!("a".repeat(64).parse::<ContainerId>().is_ok());
        for bad in ["", "a", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../etc"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefixed_id_refuses_another_prefix_and_a_path() {
        let uuid = "0198f5e0-7c52-7c3e-8f4e-6d0b5f1f2a3b";
        assert!(format!("tnt_{uuid}").parse::<TenantId>().is_ok());
        assert!(format!("vol_{uuid}").parse::<TenantId>().is_err());
        assert!("tnt_../../../etc/passwd-------------------".parse::<TenantId>().is_err());
    }
}
