//! Control groups on v2, hybrid and v1 hosts behind one type.
//!
//! A container's group has one relative path in every hierarchy of the host. On a hybrid host that
//! includes the unified tree, although the v1 hierarchies own the controllers there: birth into the
//! group, exact CPU time, kill and freeze come from it (DECISIONS 7), and so do limits of controllers
//! that no v1 hierarchy has taken.

mod delegation;
mod devices;
mod group;
mod layout;
pub mod limits;

pub use delegation::vacate;
pub use devices::{Access, DeviceKind, DeviceRule};
pub use group::{Cgroup, CgroupError};
pub use layout::{Controller, Layout, LayoutError, LayoutKind};

pub(crate) use devices::device_program;
pub(crate) use group::{Birth, Entrance};
