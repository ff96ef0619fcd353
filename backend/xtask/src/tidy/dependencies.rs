//! The dependency table: `cargo metadata` and the paths that code names, against `layers`.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Finding;
use super::layers::{BOUNDARIES, Boundary, FOR_TESTS, LAYERS};
use super::source::{Kind, pieces};
use super::tree::SourceFile;

/// What `cargo metadata --no-deps` says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `null`, `dev` or `build`.
    kind: Option<String>,
}

/// Checks the packages' dependencies.
pub(crate) fn check_packages(metadata: &str) -> Result<Vec<Finding>> {
    let metadata: Metadata = serde_json::from_str(metadata).context("read what cargo metadata says")?;
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let file = format!("{}'s Cargo.toml", package.name);
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == package.name) else {
            findings.push(Finding::of_file(
                &file,
                "is not in backend/xtask/src/tidy/layers.rs; add what it may use",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let is_ours = name.starts_with("wharf-");
            // A test may use what the product may not, but never a crate above it.
            let is_test = dependency.kind.as_deref() == Some("dev");
            let allowed = layer.ours.contains(&name) || (is_test && FOR_TESTS.contains(&name));
            if is_ours && !allowed {
                findings.push(Finding::of_file(&file, format!("must not depend on {name} (layers.rs)")));
            } else if !is_test && layer.forbidden.contains(&name) {
                findings.push(Finding::of_file(&file, format!("must do without {name} (layers.rs)")));
            }
        }
    }
    Ok(findings)
}

/// Checks the paths that code names.
pub(crate) fn check_boundaries(file: &SourceFile) -> Vec<Finding> {
    let below =
        |dir: &str| file.path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let applies =
        |boundary: &&Boundary| below(boundary.within) && !boundary.except.iter().any(|except| below(except));
    let mut findings = Vec::new();
    for boundary in BOUNDARIES.iter().filter(applies) {
        for piece in pieces(&file.text).iter().filter(|piece| piece.kind == Kind::Code) {
            for (text, line) in piece.text.lines().zip(piece.line..) {
                if names(text, boundary.never) {
                    let message = format!("must not name {}: {}", boundary.never, boundary.because);
                    findings.push(Finding::new(&file.path, line, message));
                }
            }
        }
    }
    findings
}

/// Whether a line of code names the path, as a whole and not as a part of a longer word.
fn names(code: &str, path: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code.get(..at).and_then(|before| before.chars().next_back());
        let after = code.get(at + path.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(package: &str, dependency: &str, kind: &str) -> Vec<String> {
        let text = format!(
            r#"{{"packages":[{{"name":"{package}","dependencies":[{{"name":"{dependency}","kind":{kind}}}]}}]}}"#
        );
        check_packages(&text).expect("valid metadata").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dependency_upwards_or_of_the_wrong_kind_is_found() {
        assert_eq!(metadata("wharf-shared", "wharf-agent", "null").len(), 1);
        assert_eq!(metadata("wharf-runtime", "tokio", "null").len(), 1);
        assert_eq!(metadata("wharf-runtime", "wharf-agent", "\"dev\"").len(), 1);
        assert_eq!(metadata("wharf-unheard-of", "serde", "null").len(), 1);
    }

    #[test]
    fn what_the_table_allows_is_no_finding() {
        assert_eq!(metadata("wharf-runtime", "wharf-sys", "null"), [""; 0]);
        assert_eq!(metadata("wharf-runtime", "tokio", "\"dev\""), [""; 0]);
    }

    #[test]
    fn the_api_must_not_name_the_store_and_a_service_must_not_name_the_api() {
        let found = |path: &str, text: &str| check_boundaries(&SourceFile::new(path, text)).len();
        assert_eq!(found("backend/agent/src/api/v1.rs", "use wharf_store::Db;"), 1);
        assert_eq!(found("backend/agent/src/api/v1.rs", "// use wharf_store::Db;"), 0);
        assert_eq!(found("backend/agent/src/images.rs", "use wharf_store::Db;"), 0);
        assert_eq!(found("backend/agent/src/images.rs", "fn f() { crate::api::serve() }"), 1);
        assert_eq!(found("backend/agent/src/app.rs", "use crate::api;"), 0);
        assert_eq!(found("backend/agent/src/images.rs", "use crate::api_keys;"), 0);
    }
}
