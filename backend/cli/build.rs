//! Links `wharf` to a fixed address.
//!
//! `wharf oci` is a runtime that starts once for every container, and a good part of its start was the
//! loader writing 15,000 addresses into pages that each had to be copied first. At a fixed address they are
//! in the file. What is given up is a random place for the client's own code; its heap, stack and libraries keep
//! theirs, and the programs that containers and tenants can reach (`wharfd`, `wharf-shim`) stay as they are.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let directives = "cargo::rerun-if-changed=build.rs\ncargo::rustc-link-arg-bins=-no-pie\n";
    std::io::stdout().write_all(directives.as_bytes())
}
