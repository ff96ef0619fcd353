//! Names that people give: one rule for containers, volumes, tenants and users.

use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name has 1 to 63 characters from a-z, A-Z, 0-9, '_', '.', '-' and begins with a letter or digit")
    }
}

impl std::error::Error for InvalidName {}

/// Checks a name: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}`, Docker's rule with a DNS label's length.
pub fn check(name: &str) -> Result<(), InvalidName> {
    let valid = name.len() <= 63
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if valid { Ok(()) } else { Err(InvalidName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attacks: B14, B15.
    #[test]
    fn rejects_a_name_with_a_slash_a_space_or_a_leading_dot() {
        for bad in ["", ".", "..", "a/b", "-a", "a b", "ü", &"a".repeat(64), "a\n"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check("web-1.blue_2").is_ok());
    }
}
