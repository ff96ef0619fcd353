//! The container's file systems: made detached by the parent, attached by the child.
//!
//! [`overlay`] and [`devices`] run in the parent, with the host's privileges, and give descriptors of
//! detached mounts: nothing ever shows in the host's mount table. [`attach`] runs in the child, in
//! its own namespaces. [`resolve`] is the only way either reaches into a tenant's root.

pub(crate) mod attach;
pub(crate) mod devices;
pub(crate) mod id_map;
pub(crate) mod overlay;
pub(crate) mod populate;
pub(crate) mod resolve;
