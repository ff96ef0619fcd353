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

/// A statement's page. Before it has a number it is named by tenant and month, with a dot between them; a path
/// whose last part has a dot is a file's.
pub(crate) fn statement(id: &str) -> String {
    match id.split_once('.') {
        Some((tenant, month)) => format!("/statements/{}/{}", encode(tenant), encode(month)),
        None => format!("/statements/{}", encode(id)),
    }
}

/// The statement that such a page is of.
pub(crate) fn statement_id(first: &str, month: &str) -> String {
    if month.is_empty() { first.to_owned() } else { format!("{first}.{month}") }
}

/// Where the key after `g` leads.
pub(crate) fn shortcut(key: &str) -> Option<&'static str> {
    GO_TO.iter().find(|(shortcut, ..)| *shortcut == key).map(|(_, path, _)| *path)
}

/// Keys after `g`, where they lead, and its name.
pub(crate) const GO_TO: [(&str, &str, &str); 12] = [
    ("o", "/", "Overview"),
    ("c", "/containers", "Containers"),
    ("i", "/images", "Images"),
    ("v", "/volumes", "Volumes"),
    ("n", "/networks", "Networks"),
    ("e", "/events", "Events"),
    ("t", "/tenants", "Tenants"),
    ("u", "/usage", "Usage"),
    ("s", "/statements", "Statements"),
    ("p", "/price-books", "Price books"),
    ("m", "/metering", "Metering health"),
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
    fn a_statement_is_found_by_its_page() {
        for (id, path) in
            [("S-000001", "/statements/S-000001"), ("tnt_1.2026-11", "/statements/tnt_1/2026-11")]
        {
            assert_eq!(statement(id), path);
            let parts: Vec<_> = path.split('/').skip(2).collect();
            assert_eq!(statement_id(parts[0], parts.get(1).unwrap_or(&"")), id);
        }
    }

    #[test]
    fn every_shortcut_leads_to_one_page() {
        for (key, path, _) in GO_TO {
            assert_eq!(shortcut(key), Some(path));
        }
        assert_eq!(shortcut("z"), None);
    }
}
