//! Whether another program's firewall drops what containers send through this host.
//!
//! A packet is forwarded only if every chain at the forward hook lets it pass: our table cannot open what Docker,
//! ufw or firewalld have closed (`nft(8)`, "accept" is final for one base chain only). So it is found and told.

use std::process::{Command, Stdio};

use crate::nft::{Nft, NftError};

/// Chains whose policy drops forwarded packets, as `table chain`; none is what containers need.
///
/// # Errors
/// [`NftError`] if the rule set cannot be listed.
pub fn closed_by() -> Result<Vec<String>, NftError> {
    let nft = Nft::find(None)?;
    let failed =
        |source| NftError::Run { binary: nft.binary().to_owned(), source: std::sync::Arc::new(source) };
    let output = Command::new(nft.binary())
        .args(["list", "chains"])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(NftError::Refused { message });
    }
    Ok(closed(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads the output of `nft list chains`.
fn closed(listed: &str) -> Vec<String> {
    let (mut table, mut chain, mut found) = ("", "", Vec::new());
    for line in listed.lines().map(str::trim) {
        let named = |word| line.strip_prefix(word).and_then(|rest| rest.strip_suffix(" {"));
        if let Some(name) = named("table ") {
            table = name;
        } else if let Some(name) = named("chain ") {
            chain = name;
        } else if line.contains(" hook forward ")
            && line.ends_with("policy drop;")
            && !table.starts_with("bridge ")
        {
            found.push(format!("{table} {chain}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_named_with_their_table() {
        let listed = "table inet wharf {\n\tchain walls {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n\
            table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\
            \tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\tchain DOCKER-USER {\n\t}\n}\n\
            table bridge other {\n\tchain fwd {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n";
        assert_eq!(closed(listed), ["ip filter FORWARD"]);
        assert_eq!(closed(""), [] as [String; 0]);
    }
}
