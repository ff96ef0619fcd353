//! What is checked of every request before anybody looks at who sends it.
//!
//! The Host header must name this agent, or a page whose name was re-bound to our address (DNS
//! rebinding) would talk to us as its own origin. An Origin, when there is one, must be ours: no
//! other page may send requests or open sockets, whatever it found in a cookie jar. Responses
//! carry the headers that keep a browser from guessing types, framing and running foreign code.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use subtle::ConstantTimeEq;
use wharf_shared::problem::ProblemKind;

use crate::config::{Config, TlsMode};
use crate::error::{Result, ServiceError};

/// Answers of the API are data: nothing in them may run, whatever a browser takes them for. The
/// dashboard's pages bring a policy of their own.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The names under which this agent may be addressed.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
    scheme: &'static str,
    /// It listens on every address of the machine. A page whose name was rebound to one of them still
    /// sends its name, so any address may be the Host, as seen through whatever translates addresses.
    any_address: bool,
}

/// An Origin that was checked; kept in the request's extensions for [`check_origin`].
#[derive(Debug, Clone, Copy)]
struct OriginIsOurs;

impl Names {
    /// Loopback, the listening address, and what the configuration adds.
    pub(crate) fn new(config: &Config) -> Self {
        let mut hosts: BTreeSet<String> = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into();
        let any_address = config.listen.ip().is_unspecified();
        match config.listen.ip() {
            _ if any_address => drop(hosts.insert(crate::host::name().to_ascii_lowercase())),
            IpAddr::V4(address) => drop(hosts.insert(address.to_string())),
            IpAddr::V6(address) => drop(hosts.insert(format!("[{address}]"))),
        }
        hosts.extend(config.access.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()));
        let origins =
            config.access.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect();
        let scheme = if config.tls.mode == TlsMode::Off { "http" } else { "https" };
        Self { hosts, origins, scheme, any_address }
    }

    /// Refuses a request that is not meant for this agent or comes from a foreign page.
    pub(crate) fn admit(&self, parts: &mut Parts) -> Result<()> {
        let refuse = |detail: &str| Err(ServiceError::new(ProblemKind::Forbidden, detail));
        let host = match one(&parts.headers, &HOST) {
            Ok(Some(host)) => host.to_ascii_lowercase(),
            Ok(None) | Err(()) => return refuse("a request has one Host header"),
        };
        let name = without_port(&host);
        if !(self.hosts.contains(name) || self.any_address && is_address(name)) {
            return refuse("this agent does not answer to this Host; see access.allowed_hosts");
        }
        match one(&parts.headers, &ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(origin)) if self.is_ours(&origin.to_ascii_lowercase(), &host) => {
                parts.extensions.insert(OriginIsOurs);
                Ok(())
            }
            Ok(Some(_)) | Err(()) => {
                refuse("pages of this origin may not use this agent; see access.allowed_origins")
            }
        }
    }

    fn is_ours(&self, origin: &str, host: &str) -> bool {
        let own = origin.strip_prefix(self.scheme).and_then(|rest| rest.strip_prefix("://"));
        own == Some(host) || self.origins.contains(origin)
    }
}

/// Refuses a WebSocket that no page of ours opened. Only tools with a bearer token need no Origin.
pub(crate) fn check_origin(parts: &Parts) -> Result<()> {
    match parts.extensions.get::<OriginIsOurs>() {
        Some(OriginIsOurs) => Ok(()),
        None => Err(ServiceError::new(
            ProblemKind::Forbidden,
            "without a bearer token a WebSocket needs the Origin of the agent's own dashboard",
        )),
    }
}

/// Whether two secrets are the same, in a time that tells nothing about where they differ.
pub(crate) fn same_secret(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Sets what a browser should be told; a handler's own choice stays.
pub(crate) fn harden(headers: &mut HeaderMap) {
    let fixed: [(HeaderName, HeaderValue); 7] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(value);
    }
}

/// The header's only value; an error when there are two or it is no text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> std::result::Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).or(Err(())),
        (Some(_), Some(_)) => Err(()),
    }
}

fn is_address(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    bare.map_or_else(|| name.parse::<Ipv4Addr>().is_ok(), |bare| bare.parse::<Ipv6Addr>().is_ok())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;
    use crate::config::Access;

    fn names() -> Names {
        Names::new(&Config {
            access: Access {
                allowed_hosts: vec!["wharf.example".to_owned()],
                allowed_origins: vec!["https://console.example".to_owned()],
                ..Access::default()
            },
            ..Config::default()
        })
    }

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/");
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_name_that_was_rebound_to_our_address_is_refused() {
        for good in ["127.0.0.1:8080", "localhost", "[::1]:8080", "[::1]", "LOCALHOST:1", "wharf.example"] {
            assert!(names().admit(&mut parts(&[("host", good)])).is_ok(), "{good}");
        }
        for bad in [
            "evil.example",
            "127.0.0.1.evil.example",
            "",
            "localhost:x",
            "evil.example:8080",
            "localhost@evil",
        ] {
            assert!(names().admit(&mut parts(&[("host", bad)])).is_err(), "{bad}");
        }
        assert!(names().admit(&mut parts(&[])).is_err(), "no Host at all");
        assert!(names().admit(&mut parts(&[("host", "localhost"), ("host", "evil")])).is_err(), "two");
    }

    #[test]
    fn who_listens_everywhere_answers_to_addresses_and_its_own_name_but_to_no_other() {
        let listen = "0.0.0.0:8443".parse().expect("an address");
        let names = Names::new(&Config { listen, ..Config::default() });
        let own = crate::host::name();
        for good in ["192.0.2.7:8443", "192.0.2.7", "[2001:db8::7]:8443", "localhost", own.as_str()] {
            assert!(names.admit(&mut parts(&[("host", good)])).is_ok(), "{good}");
        }
        for bad in ["evil.example", "192.0.2.7.evil.example", "2001:db8::7", "[evil]", "0x7f000001"] {
            assert!(names.admit(&mut parts(&[("host", bad)])).is_err(), "{bad}");
        }
        let listen = "192.0.2.7:8443".parse().expect("an address");
        let names = Names::new(&Config { listen, ..Config::default() });
        assert!(names.admit(&mut parts(&[("host", "192.0.2.7:8443")])).is_ok());
        assert!(names.admit(&mut parts(&[("host", "192.0.2.8:8443")])).is_err());
    }

    #[test]
    fn a_foreign_page_is_refused_and_our_own_is_not() {
        let with = |origin| names().admit(&mut parts(&[("host", "localhost:8080"), ("origin", origin)]));
        assert!(with("http://localhost:8080").is_ok());
        assert!(with("https://console.example").is_ok());
        for bad in [
            "http://evil.example",
            "http://localhost:3000",
            "https://localhost:8080",
            "null",
            "http://localhost",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_websocket_without_an_origin_is_no_page_of_ours() {
        let mut tool = parts(&[("host", "localhost")]);
        names().admit(&mut tool).expect("a tool may come without an Origin");
        assert!(check_origin(&tool).is_err());
        let mut page = parts(&[("host", "localhost"), ("origin", "http://localhost")]);
        names().admit(&mut page).expect("our own page");
        assert!(check_origin(&page).is_ok());
    }
}
