//! What the forge found out about the host once, and every shim has from birth.

use std::sync::OnceLock;

use wharf_runtime::cgroup::{Layout, LayoutError};

static LAYOUT: OnceLock<Layout> = OnceLock::new();

/// The host's hierarchies of cgroups, which stay as they are as long as there are containers in them.
pub(crate) fn layout() -> Result<&'static Layout, LayoutError> {
    if let Some(known) = LAYOUT.get() {
        return Ok(known);
    }
    let found = Layout::detect()?;
    Ok(LAYOUT.get_or_init(|| found))
}
