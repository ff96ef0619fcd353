//! Contexts: which agents this person knows, and the tokens for them.
//!
//! One file, `$XDG_CONFIG_HOME/wharf/contexts.toml`, readable by its owner alone and replaced as a
//! whole, so that a crash never leaves half of it. `WHARF_URL` and `WHARF_TOKEN` go before it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// One agent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Where it is, such as `https://host:8443`.
    pub(crate) url: String,
    /// The token that is sent to it.
    pub(crate) token: Option<String>,
    /// SHA-256 of its certificate: this one and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fingerprint: Option<String>,
    /// A file with the certificate authority of its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Contexts {
    /// Name of the one in use.
    pub(crate) current: Option<String>,
    /// All of them, by name.
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// What goes before the file: an option and two environment variables.
#[derive(Clone, Default)]
pub(crate) struct Override {
    /// `--context`.
    pub(crate) context: Option<String>,
    /// `WHARF_URL`.
    pub(crate) url: Option<String>,
    /// `WHARF_TOKEN`.
    pub(crate) token: Option<String>,
}

impl Contexts {
    /// Adds a context, or replaces the one of this name; the first one comes into use.
    pub(crate) fn add(&mut self, name: &str, context: Context) -> Result<()> {
        wharf_shared::name::check(name).with_context(|| format!("name the context {name:?}"))?;
        self.contexts.insert(name.to_owned(), context);
        self.current.get_or_insert_with(|| name.to_owned());
        Ok(())
    }

    /// Brings a context into use.
    pub(crate) fn select(&mut self, name: &str) -> Result<()> {
        self.get(name)?;
        self.current = Some(name.to_owned());
        Ok(())
    }

    /// Forgets a context.
    pub(crate) fn remove(&mut self, name: &str) -> Result<()> {
        self.contexts.remove(name).ok_or_else(|| unknown(name))?;
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        Ok(())
    }

    /// The context to use.
    pub(crate) fn resolve(&self, over: &Override) -> Result<Context> {
        let named = over.context.as_deref().or(match over.url {
            Some(_) => None,
            None => self.current.as_deref(),
        });
        let mut context = match (named, &over.url) {
            (Some(name), _) => self.get(name)?.clone(),
            (None, Some(url)) => {
                // A known agent keeps its fingerprint and token when only its address is given.
                let known = self.contexts.values().find(|context| context.url == url.trim_end_matches('/'));
                known.cloned().unwrap_or_else(|| Context {
                    url: url.trim_end_matches('/').to_owned(),
                    token: None,
                    fingerprint: None,
                    ca_file: None,
                })
            }
            (None, None) if self.contexts.is_empty() => {
                bail!("no agent is known; `wharf login URL` or `wharf context add` makes one known")
            }
            (None, None) => bail!("no context is in use; `wharf context use NAME` chooses one"),
        };
        if let Some(token) = &over.token {
            context.token = Some(token.clone());
        }
        Ok(context)
    }

    fn get(&self, name: &str) -> Result<&Context> {
        self.contexts.get(name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> anyhow::Error {
    anyhow!("there is no context {name:?}; `wharf context list` names them")
}

/// Where the file is.
pub(crate) fn path(environment: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    let set = |name| environment(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let config =
        config.context("find the configuration directory: neither XDG_CONFIG_HOME nor HOME is set")?;
    Ok(config.join("wharf/contexts.toml"))
}

/// Reads the file; none is the same as an empty one.
pub(crate) fn load(path: &Path) -> Result<Contexts> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Contexts::default()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Replaces the file.
pub(crate) fn save(path: &Path, contexts: &Contexts) -> Result<()> {
    let dir = path.parent().context("find the directory of the contexts file")?;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let text = toml::to_string(contexts).context("write the contexts as TOML")?;
    // A temporary file is made readable by its owner alone; said again for whoever reads this.
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(url: &str) -> Context {
        Context {
            url: url.to_owned(),
            token: Some("secret".to_owned()),
            fingerprint: Some("sha256:00".to_owned()),
            ca_file: None,
        }
    }

    fn two() -> Contexts {
        let mut contexts = Contexts::default();
        contexts.add("here", context("http://127.0.0.1:8080")).expect("a name");
        contexts.add("there", context("https://there:8443")).expect("a name");
        contexts
    }

    #[test]
    fn the_file_survives_writing_and_reading_and_is_its_owner_s_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("wharf/contexts.toml");
        assert_eq!(load(&path).expect("no file yet"), Contexts::default());
        save(&path, &two()).expect("write");
        assert_eq!(load(&path).expect("read"), two());
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("contexts.toml");
        fs::write(&path, "current = 3\n").expect("write");
        assert!(load(&path).expect_err("refused").to_string().contains("contexts.toml"));
    }

    #[test]
    fn the_first_context_comes_into_use_and_a_removed_one_leaves_it() {
        let mut contexts = two();
        assert_eq!(contexts.current.as_deref(), Some("here"));
        contexts.select("there").expect("known");
        contexts.remove("there").expect("known");
        assert_eq!(contexts.current, None);
        assert!(contexts.resolve(&Override::default()).is_err());
        assert!(contexts.select("there").is_err() && contexts.remove("there").is_err());
        assert!(contexts.add("a/b", context("http://x")).is_err());
    }

    #[test]
    fn the_option_goes_before_the_environment_and_that_before_the_file() {
        let url = |over: Override| two().resolve(&over).expect("a context");
        assert_eq!(url(Override::default()).url, "http://127.0.0.1:8080");
        let from_environment = Override { url: Some("http://other:1/".to_owned()), ..Override::default() };
        let other = url(from_environment.clone());
        assert_eq!((other.url.as_str(), other.token), ("http://other:1", None));
        let named = Override { context: Some("there".to_owned()), ..from_environment };
        assert_eq!(url(named).url, "https://there:8443");
    }

    #[test]
    fn a_token_from_the_environment_goes_before_the_stored_one() {
        let over = Override { token: Some("other".to_owned()), ..Override::default() };
        assert_eq!(two().resolve(&over).expect("a context").token.as_deref(), Some("other"));
    }

    #[test]
    fn the_file_is_in_the_configuration_directory() {
        let home = |name: &str| (name == "HOME").then(|| "/home/a".to_owned());
        assert_eq!(path(home).expect("a path"), Path::new("/home/a/.config/wharf/contexts.toml"));
        let both = |name: &str| Some(if name == "HOME" { "/home/a" } else { "/cfg" }.to_owned());
        assert_eq!(path(both).expect("a path"), Path::new("/cfg/wharf/contexts.toml"));
        assert!(path(|_| None).is_err());
    }
}
