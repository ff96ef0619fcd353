//! `wharf-shim oci` on bundles of busybox, as root, on this kernel: what a caller of an OCI runtime sees.
//!
//! They run in the guest with cgroup v2 only as well: there `WHARF_PROGRAMS` says where the runtime is.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod bundle;
#[cfg(test)]
mod life;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod world;
