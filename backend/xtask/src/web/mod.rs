//! Builds the dashboard into `frontend/dist`, which the agent embeds.
//!
//! cargo (wasm32) → wasm-bindgen as a library → one directory named by its content → brotli, gzip.
//! No Node, no bundler and no wasm-opt: the last takes 12 % of the raw size and nothing of the
//! compressed one.
//!
//! - `toolchain` finds or makes a Rust that compiles for wasm32,
//! - `vendor` fetches the terminal's JavaScript with pinned hashes,
//! - `bundle` turns both into files.

mod bundle;
mod files;
mod toolchain;
mod vendor;

pub(crate) use bundle::build;

/// Debian packages that building the dashboard needs. Where rustup cannot add the wasm target,
/// [`toolchain`] installs Debian's own Rust for it besides.
pub(crate) const PACKAGES: &[&str] = &["ca-certificates", "curl"];
