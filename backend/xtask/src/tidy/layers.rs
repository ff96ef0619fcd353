//! Who may depend on whom: ARCHITECTURE.md's table as data.
//!
//! A crate is made where a rule must hold, and this is the rule. Crates that are not listed fail the
//! check, so a new one has to say what it may use.

/// What one crate may use.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Its package.
    pub(crate) package: &'static str,
    /// Packages of this workspace that it may depend on.
    pub(crate) ours: &'static [&'static str],
    /// Packages from elsewhere that it must not depend on.
    pub(crate) forbidden: &'static [&'static str],
}

/// Container code runs in a cloned, single-threaded process.
const SYNC: &[&str] = &["axum", "hyper", "reqwest", "sqlx", "tokio"];
/// Rating can be recomputed from its inputs at any time: no clock, no input or output.
const PURE: &[&str] = &["axum", "hyper", "jiff", "libc", "nix", "reqwest", "rustix", "sqlx", "tokio"];

/// What every crate's tests may use, and no product code.
pub(crate) const FOR_TESTS: &[&str] = &["wharf-fuzz"];

/// The table.
pub(crate) const LAYERS: &[Layer] = &[
    Layer { package: "wharf-shared", ours: &[], forbidden: PURE },
    Layer { package: "wharf-sys", ours: &[], forbidden: SYNC },
    Layer { package: "wharf-billing", ours: &["wharf-shared"], forbidden: PURE },
    Layer { package: "wharf-runtime", ours: &["wharf-shared", "wharf-sys"], forbidden: SYNC },
    Layer { package: "wharf-shim", ours: &["wharf-runtime", "wharf-shared", "wharf-sys"], forbidden: SYNC },
    Layer { package: "wharf-image", ours: &["wharf-shared", "wharf-sys"], forbidden: &["sqlx"] },
    Layer { package: "wharf-network", ours: &["wharf-shared", "wharf-sys"], forbidden: &["sqlx", "reqwest"] },
    Layer {
        package: "wharf-store",
        ours: &["wharf-billing", "wharf-shared"],
        forbidden: &["axum", "reqwest"],
    },
    Layer {
        package: "wharf-agent",
        ours: &[
            "wharf-billing",
            "wharf-image",
            "wharf-network",
            "wharf-runtime",
            "wharf-shared",
            "wharf-shim",
            "wharf-store",
            "wharf-sys",
        ],
        forbidden: &["sqlx"],
    },
    // `wharf oci` becomes the runtime, by calls that nix has not.
    Layer {
        package: "wharf-cli",
        ours: &["wharf-billing", "wharf-shared", "wharf-sys"],
        forbidden: &["axum", "sqlx"],
    },
    Layer { package: "wharf-frontend", ours: &["wharf-shared"], forbidden: &["axum", "sqlx", "tokio"] },
    Layer { package: "wharf-fuzz", ours: &[], forbidden: SYNC },
    Layer { package: "wharf-xtask", ours: &[], forbidden: SYNC },
    // The tests may look at anything but the agent's inside.
    Layer {
        package: "wharf-e2e",
        ours: &[
            "wharf-billing",
            "wharf-network",
            "wharf-runtime",
            "wharf-shared",
            "wharf-shim",
            "wharf-store",
            "wharf-sys",
        ],
        forbidden: &[],
    },
];

/// Inside one crate: files below these paths must not name these paths in their code.
#[derive(Debug)]
pub(crate) struct Boundary {
    /// Files with this path or below it.
    pub(crate) within: &'static str,
    /// Except these and what is below them.
    pub(crate) except: &'static [&'static str],
    /// A path that no code there may name.
    pub(crate) never: &'static str,
    /// Why.
    pub(crate) because: &'static str,
}

/// The boundaries.
pub(crate) const BOUNDARIES: &[Boundary] = &[
    Boundary {
        within: "backend/agent/src/api",
        // Tests put rows there that no service makes.
        except: &["backend/agent/src/api/tests"],
        never: "wharf_store",
        because: "the API speaks to services; services speak to the store",
    },
    Boundary {
        within: "backend/agent/src/api",
        except: &[],
        never: "wharf_runtime",
        because: "the API speaks to services; services speak to the engine",
    },
    Boundary {
        within: "backend/agent/src",
        except: &["backend/agent/src/api", "backend/agent/src/app.rs", "backend/agent/src/main.rs"],
        never: "crate::api",
        because: "nothing but the wiring calls the API",
    },
];
