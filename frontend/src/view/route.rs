//! Addresses of pages and of the API.

use wharf_shared::id::{ContainerId, TenantId};

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}

/// `?a=1&b=2` of the pairs that have a value; empty without any.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", encode(value)))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// A container's page.
pub(crate) fn container(id: &ContainerId) -> String {
    format!("/containers/{}", id.short())
}

/// An image's page.
pub(crate) fn image(reference: &str, tenant: &TenantId) -> String {
    format!("/images/detail{}", query(&[("reference", reference), ("tenant", tenant.as_str())]))
}

/// A tenant's page.
pub(crate) fn tenant(id: &TenantId) -> String {
    format!("/tenants/{id}")
}

/// Where the key after `g` leads.
pub(crate) fn shortcut(key: &str) -> Option<&'static str> {
    GO_TO.iter().find(|(shortcut, ..)| *shortcut == key).map(|(_, path, _)| *path)
}

/// Keys after `g`, where they lead, and its name.
pub(crate) const GO_TO: [(&str, &str, &str); 10] = [
    ("o", "/", "Overview"),
    ("c", "/containers", "Containers"),
    ("i", "/images", "Images"),
    ("v", "/volumes", "Volumes"),
    ("n", "/networks", "Networks"),
    ("e", "/events", "Events"),
    ("t", "/tenants", "Tenants"),
    ("u", "/usage", "Usage"),
    ("p", "/price-books", "Price books"),
    ("a", "/access", "Users and tokens"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_in_a_query() {
        assert_eq!(
            query(&[("reference", "r.example/a b:1@x"), ("tenant", ""), ("all", "true")]),
            "?reference=r.example%2Fa%20b%3A1%40x&all=true"
        );
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn every_shortcut_leads_to_one_page() {
        for (key, path, _) in GO_TO {
            assert_eq!(shortcut(key), Some(path));
        }
        assert_eq!(shortcut("z"), None);
    }
}
