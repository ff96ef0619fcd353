//! The default system call filter: which calls, and the program that says so.
//!
//! [`policy`] is the decision, a pure function of the capabilities; [`compile`] turns it into a
//! binary tree over ranges of call numbers, which loads in a fifteenth of the time of a linear
//! program (the kernel runs it once for each number to fill its cache).

mod compile;
mod policy;

pub use compile::compile;
pub use policy::{Check, Policy, Verdict};

use wharf_sys::seccomp::Instruction;

use crate::spec::{ProcessSpec, Seccomp};

/// Returns the program of a process; `None` where its description wants none.
pub(crate) fn program(process: &ProcessSpec) -> Option<Vec<Instruction>> {
    match process.seccomp {
        Seccomp::Default => Some(compile(&Policy::default_for(&process.capabilities))),
        Seccomp::Unconfined => None,
    }
}
