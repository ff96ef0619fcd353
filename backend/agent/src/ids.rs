//! New ids: a prefix and a UUID that begins with the time, so that ids sort by creation.

use std::error::Error;
use std::str::FromStr;

use crate::error::{Result, ServiceError};

/// A new id of a kind that has this prefix.
pub(crate) fn new<Id>(prefix: &str) -> Result<Id>
where
    Id: FromStr<Err: Error + Send + Sync + 'static>,
{
    format!("{prefix}{}", uuid::Uuid::now_v7())
        .parse()
        .map_err(|error| ServiceError::internal("an id could not be made", error))
}

#[cfg(test)]
mod tests {
    use wharf_shared::id::{TenantId, TokenId, UserId};

    use super::*;

    #[test]
    fn a_new_id_is_one_of_its_kind() {
        assert!(new::<TenantId>("tnt_").is_ok() && new::<UserId>("usr_").is_ok());
        assert!(new::<TokenId>("tnt_").is_err(), "the prefix of another kind");
    }
}
