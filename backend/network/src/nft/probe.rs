//! Whether this kernel takes our rules, tried without changing any.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::ruleset::{Share, replace};
use super::traffic::Hairpin;
use super::{Nft, NftError};
use crate::names::Instance;

/// Has the kernel judge the rules of an instance without tenants, and throw them away (`nft --check`).
///
/// # Errors
/// [`NftError`] if the program is not there, or the kernel refuses a rule; modules that it can load it has loaded.
pub fn try_rules() -> Result<(), NftError> {
    let nft = Nft::find(None)?;
    let failed = |source| NftError::Run { binary: nft.binary().to_owned(), source: Arc::new(source) };
    let refused = |message: String| NftError::Refused { message };
    // Longer than an agent's instance can be called, so that no table has this name.
    let instance = Instance::new("wharf-doctor-tries").map_err(|error| refused(error.to_string()))?;
    let rules = replace(&instance, Share::of(0), Hairpin::Routed, std::iter::empty(), std::iter::empty())
        .map_err(|error| refused(error.to_string()))?;
    let mut child = Command::new(nft.binary())
        .args(["--check", "-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take()
        && let Err(error) = input.write_all(rules.as_bytes())
        // It may refuse before it has read everything; its message says why.
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        // It ends with its input; what it says does not matter any more.
        drop(input);
        drop(child.wait());
        return Err(failed(error));
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let message =
        String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().trim().to_owned();
    Err(refused(if message.is_empty() { output.status.to_string() } else { message }))
}
