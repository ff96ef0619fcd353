//! What comes from elsewhere: every package of the lock file against `deny.toml`.
//!
//! That file is cargo-deny's, which Debian has not, and which wants its list of advisories from the network.
//! What it says of licences, sources and refused packages is held here without either; packages with a known
//! hole are refused by version there, as `tar@<0.4.45`.

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::Finding;

/// The settings.
const FILE: &str = "deny.toml";
/// Where packages may come from; `null` are ours.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Settings {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
}

/// Checks what `cargo metadata` says of all packages.
pub(crate) fn check(metadata: &str, settings: &str) -> Result<Vec<Finding>> {
    let metadata: Metadata = serde_json::from_str(metadata).context("read what cargo metadata says")?;
    let settings: Settings = toml::from_str(settings).with_context(|| format!("read {FILE}"))?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let mut find = |message: String| {
            let name = format!("{} {}", package.name, package.version);
            findings.push(Finding::of_file(FILE, format!("{name} {message}")));
        };
        for ban in &settings.bans.deny {
            if refuses(&ban.name, package)? {
                find(format!("is refused by {:?}", ban.name));
            }
        }
        let Some(source) = &package.source else { continue };
        if source != REGISTRY {
            find(format!("comes from {source}"));
        }
        let allowed = |name: &str| settings.licenses.allow.iter().any(|license| license == name);
        match &package.license {
            None => find("has no licence".to_owned()),
            Some(license) if !is_satisfied(license, &allowed) => {
                find(format!("has the licence {license}, of which none is allowed"));
            }
            Some(_) => {}
        }
    }
    Ok(findings)
}

/// Whether `name`, or `name@<version`, means the package.
fn refuses(ban: &str, package: &Package) -> Result<bool> {
    match ban.split_once('@') {
        None => Ok(ban == package.name),
        Some((name, below)) => {
            let Some(below) = below.strip_prefix('<') else { bail!("{FILE}: {ban:?}: write NAME@<VERSION") };
            Ok(name == package.name && numbers(&package.version)? < numbers(below)?)
        }
    }
}

fn numbers(version: &str) -> Result<Vec<u64>> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| part.parse().with_context(|| format!("{version:?} is no version"));
    plain.split('.').map(number).collect()
}

/// Whether a licence expression holds with what is allowed: alternatives (`OR`, `/`) of lists (`AND`).
fn is_satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.trim();
    if let Some(parts) = split(expression, &[" OR ", "/"]) {
        return parts.iter().any(|part| is_satisfied(part, allowed));
    }
    if let Some(parts) = split(expression, &[" AND "]) {
        return parts.iter().all(|part| is_satisfied(part, allowed));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => is_satisfied(inner, allowed),
        None => allowed(expression),
    }
}

/// Splits at these words where they are in no brackets; `None` where there are none.
fn split<'text>(expression: &'text str, words: &[&str]) -> Option<Vec<&'text str>> {
    let (mut depth, mut from, mut parts) = (0_usize, 0, Vec::new());
    for (at, letter) in expression.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let word =
            words.iter().find(|word| expression.get(at..).is_some_and(|rest| rest.starts_with(**word)));
        if let (0, Some(word)) = (depth, word) {
            parts.push(expression.get(from..at)?);
            from = at + word.len();
        }
    }
    parts.push(expression.get(from..)?);
    (parts.len() > 1).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = r#"
        [licenses]
        allow = ["MIT", "ISC"]
        [bans]
        deny = [{ crate = "openssl-sys" }, { crate = "tar@<0.4.45", reason = "RUSTSEC-2026-0067" }]"#;

    fn found(name: &str, version: &str, license: &str, source: &str) -> Vec<String> {
        let package = format!(
            r#"{{"packages":[{{"name":"{name}","version":"{version}","license":"{license}","source":"{source}"}}]}}"#
        );
        check(&package, SETTINGS).expect("valid").iter().map(ToString::to_string).collect()
    }

    /// Attacks: H15.
    #[test]
    fn a_package_with_a_known_hole_a_foreign_source_or_licence_is_found() {
        for version in ["0.4.44", "0.4.9", "0.3.99"] {
            assert_eq!(found("tar", version, "MIT", REGISTRY).len(), 1, "{version}");
        }
        assert_eq!(found("openssl-sys", "9.9.9", "MIT", REGISTRY).len(), 1);
        assert_eq!(found("rustables", "1.0.0", "GPL-3.0-or-later", REGISTRY).len(), 1);
        assert_eq!(found("serde", "1.0.0", "MIT", "git+https://example.org/serde").len(), 1);
        for version in ["0.4.45", "0.4.46-rc.1", "1.0.0"] {
            assert_eq!(found("tar", version, "MIT", REGISTRY), [""; 0], "{version}");
        }
    }

    #[test]
    fn licences_are_read_as_they_are_meant() {
        let allowed = |name: &str| matches!(name, "MIT" | "ISC" | "Apache-2.0 WITH LLVM-exception");
        for good in [
            "MIT",
            "GPL-2.0 OR MIT",
            "GPL-2.0/MIT",
            "(MIT OR X) AND ISC",
            "Apache-2.0 WITH LLVM-exception",
            "X OR (MIT AND ISC)",
        ] {
            assert!(is_satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-2.0", "MIT AND GPL-2.0", "(MIT OR X) AND GPL-2.0", "X OR (MIT AND Y)", ""] {
            assert!(!is_satisfied(bad, &allowed), "{bad}");
        }
    }
}
