//! The text of a container's `hosts` and `resolv.conf`.
//!
//! Pure: the agent writes the files and keeps `hosts` current while containers of the tenant come and go. Names
//! come from tenants, so a name that could break out of its line is left out rather than written.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// A container of the tenant, as the others call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// The container's address.
    pub address: Ipv4Addr,
    /// Its names, the first being the canonical one.
    pub names: Vec<String>,
}

/// Renders a container's `hosts`: loopback, itself, then the tenant's other containers by address.
///
/// `own` has no entry to give in `none` mode; the container's own names then stand for the loopback address.
pub fn hosts(own: Option<&HostEntry>, own_names: &[String], others: &[HostEntry]) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    match own {
        Some(entry) => push(&mut text, entry.address, &entry.names),
        None => push(&mut text, Ipv4Addr::LOCALHOST, own_names),
    }
    let mut others: Vec<&HostEntry> = others.iter().collect();
    others.sort_by_key(|entry| entry.address);
    for entry in others.iter().filter(|entry| own.is_none_or(|own| own.address != entry.address)) {
        push(&mut text, entry.address, &entry.names);
    }
    text
}

/// Adds a line if at least one name can be written.
fn push(text: &mut String, address: Ipv4Addr, names: &[String]) {
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_host_name(name)).collect();
    if names.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let written = writeln!(text, "{address}\t{}", names.join(" "));
    debug_assert!(written.is_ok());
}

/// Tells whether a name can stand in `hosts`: letters, digits, '-', '_' and '.', and never `localhost`, which a
/// tenant's container must not take from the others.
fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && !name.starts_with(['-', '.'])
        && !name.eq_ignore_ascii_case("localhost")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Renders a container's `resolv.conf` from the host's.
///
/// Name servers on loopback addresses (systemd-resolved's 127.0.0.53, dnsmasq) answer only on the host and are
/// left out, as are IPv6 servers, which a container cannot reach, and comments. There is **no fallback**: where
/// the host has no other server, the file names none, and a lookup in the container fails at once instead of
/// asking a stranger's resolver. The agent passes the text of `/run/systemd/resolve/resolv.conf` where that
/// exists: it has the servers behind 127.0.0.53.
pub fn resolv_conf(of_host: &str) -> String {
    let mut text = String::new();
    for line in of_host.lines() {
        let mut words = line.split_ascii_whitespace();
        let kept: Vec<&str> = match words.next() {
            Some("nameserver") => match words.next().and_then(|word| word.parse::<IpAddr>().ok()) {
                Some(IpAddr::V4(server)) if is_reachable(server) => {
                    line.split_ascii_whitespace().take(2).collect()
                }
                _ => continue,
            },
            Some("search" | "domain" | "options") => line.split_ascii_whitespace().collect(),
            _ => continue,
        };
        text.push_str(&kept.join(" "));
        text.push('\n');
    }
    text
}

/// Tells whether a container can reach a name server: not on the host's loopback, not link-local.
fn is_reachable(server: Ipv4Addr) -> bool {
    !server.is_loopback() && !server.is_unspecified() && !server.is_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(last: u8, names: &[&str]) -> HostEntry {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        HostEntry { address: Ipv4Addr::new(10, 201, 0, last), names }
    }

    #[test]
    fn a_container_knows_itself_and_its_tenants_others() {
        let own = entry(3, &["web", "0123456789ab"]);
        let others = [entry(9, &["cache"]), own.clone(), entry(2, &["db", "postgres"])];
        assert_eq!(
            hosts(Some(&own), &[], &others),
            "127.0.0.1\tlocalhost\n10.201.0.3\tweb 0123456789ab\n10.201.0.2\tdb postgres\n10.201.0.9\tcache\n"
        );
    }

    #[test]
    fn without_a_network_its_own_name_is_loopback() {
        assert_eq!(hosts(None, &["batch".to_owned()], &[]), "127.0.0.1\tlocalhost\n127.0.0.1\tbatch\n");
    }

    #[test]
    fn names_that_break_the_line_or_steal_localhost_are_left_out() {
        let own = entry(3, &["web"]);
        let evil =
            entry(4, &["a\n10.0.0.1 bank.example", "localhost", "LocalHost", "a b", "a#b", "", "-x", "good"]);
        let worse = entry(5, &["#"]);
        assert_eq!(
            hosts(Some(&own), &[], &[evil, worse]),
            "127.0.0.1\tlocalhost\n10.201.0.3\tweb\n10.201.0.4\tgood\n"
        );
    }

    #[test]
    fn servers_that_a_container_cannot_reach_are_left_out() {
        let host = "# made by somebody\nnameserver 127.0.0.53\nnameserver 9.9.9.9 \nnameserver ::1\n\
                    nameserver 2620:fe::fe\nnameserver nonsense\nnameserver\nsearch example.org lan\noptions edns0 trust-ad\nsortlist 1.2.3.4\n";
        assert_eq!(resolv_conf(host), "nameserver 9.9.9.9\nsearch example.org lan\noptions edns0 trust-ad\n");
    }

    #[test]
    fn there_is_no_fallback_server() {
        assert_eq!(resolv_conf("nameserver 127.0.0.1\n"), "");
        assert_eq!(resolv_conf(""), "");
    }
}
