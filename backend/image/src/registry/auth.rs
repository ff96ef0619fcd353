//! How a registry asks for credentials, and where they may go.
//!
//! Sources: [RFC 9110 §11](https://www.rfc-editor.org/rfc/rfc9110#section-11),
//! [token authentication](https://distribution.github.io/distribution/spec/auth/token/).

use std::fmt;

use reqwest::Url;
use serde::Deserialize;

/// A user's credentials for one registry.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Returns the best challenge of a `WWW-Authenticate` header: a token before a password.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let challenges = challenges(header);
        let bearer = challenges.iter().find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let Some((_, parameters)) = bearer {
            let get = |wanted: &str| {
                let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.clone())
            };
            return Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") });
        }
        challenges.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).then_some(Self::Basic)
    }
}

/// Returns the address that gives tokens, if credentials may go there: HTTPS, or HTTP to a host that the
/// operator named insecure. The registry is not trusted to choose.
pub(super) fn token_url(
    realm: &str,
    service: Option<&str>,
    scope: &str,
    insecure: impl Fn(&str) -> bool,
) -> Result<Url, &'static str> {
    let mut url = Url::parse(realm).ok().ok_or("its realm is not a URL")?;
    let host = url.host_str().ok_or("its realm has no host")?;
    let named = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    if !(url.scheme() == "https" || url.scheme() == "http" && insecure(&named)) {
        return Err("its realm is not https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its realm carries credentials");
    }
    url.set_fragment(None);
    if let Some(service) = service {
        url.query_pairs_mut().append_pair("service", service);
    }
    url.query_pairs_mut().append_pair("scope", scope);
    Ok(url)
}

type Parameters = Vec<(String, String)>;

/// Splits a header into schemes and their parameters. A word with `=` after it belongs to the scheme before.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_word(rest);
        if word.is_empty() {
            return found;
        }
        let after = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            let Some((value, after)) = split_value(value.trim_start_matches([' ', '\t'])) else {
                return found;
            };
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
        }
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '=' | ',' | '"')).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = split_word(text);
        return Some((word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(index + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_challenges_that_registries_send() {
        let bearer = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            Challenge::parse(bearer),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:a/b:pull,push".to_owned()),
            })
        );
        assert_eq!(Challenge::parse(r#"Basic realm="a \"quoted\", name""#), Some(Challenge::Basic));
        assert!(matches!(
            Challenge::parse(r#"Basic realm=x, Bearer realm="https://y""#),
            Some(Challenge::Bearer { .. })
        ));
        for none in ["", "Bearer", "Negotiate", "Bearer realm=\"unterminated", "=,=", "Digest realm=x"] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }

    /// Attacks: C7.
    #[test]
    fn credentials_go_to_https_or_to_a_named_host_only() {
        let insecure = |host: &str| host == "localhost:5001";
        let url = token_url("https://auth.example/token?a=b", Some("reg"), "repository:x:pull", insecure)
            .expect("fine");
        assert_eq!(url.as_str(), "https://auth.example/token?a=b&service=reg&scope=repository%3Ax%3Apull");
        assert!(token_url("http://localhost:5001/t", None, "s", insecure).is_ok());
        for wrong in [
            "http://auth.example/t",
            "http://localhost:5002/t",
            "ftp://x/t",
            "file:///etc/passwd",
            "t",
            "https://u:p@x/t",
        ] {
            assert!(token_url(wrong, None, "s", insecure).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let credentials = Credentials { username: "user".to_owned(), password: "canary".to_owned() };
        assert!(!format!("{credentials:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn no_header_crashes_the_parser(header in "[ -~]{0,60}") {
            let _parsed = Challenge::parse(&header);
        }
    }
}
