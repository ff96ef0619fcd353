//! System call filters: which calls, and the program that says so.
//!
//! [`docker`] reads profiles in Docker's JSON and [`profile`] compiles such rules. By default [`policy`]
//! decides, a pure function of the capabilities. [`compile`](self::compile()) makes a binary tree over ranges
//! of call numbers, which loads in a fifteenth of the time of a linear program (the kernel runs it once for
//! each number to fill its cache).

mod compile;
mod docker;
mod policy;
mod profile;

pub use compile::compile;
pub use docker::{Circumstances, PROFILE_MAX_BYTES, Written, WrittenError};
pub use policy::{Check, Policy, Verdict};
pub use profile::{Action, Comparison, Condition, Profile, ProfileError, Rule};

use std::sync::{Arc, Mutex, PoisonError};

use wharf_sys::seccomp::Instruction;

use crate::spec::{ProcessSpec, Seccomp};

/// The last program that was compiled: nearly all processes have the same capabilities.
static COMPILED: Mutex<Option<Compiled>> = Mutex::new(None);

struct Compiled {
    capabilities: Vec<u8>,
    program: Arc<[Instruction]>,
}

/// Returns the program of a process; `None` where its description wants none.
pub(crate) fn program(process: &ProcessSpec) -> Option<Arc<[Instruction]>> {
    match &process.seccomp {
        Seccomp::Program(packed) => Some(packed.iter().map(|word| unpack(*word)).collect()),
        Seccomp::Default => Some(default_program(&process.capabilities)),
        Seccomp::Unconfined => None,
    }
}

/// The default program of a process with these capabilities. What is asked for twice in a row, or before this
/// process copies itself, is compiled once.
pub fn default_program(capabilities: &[u8]) -> Arc<[Instruction]> {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*compiled {
        Some(known) if known.capabilities == capabilities => Arc::clone(&known.program),
        _ => {
            let program: Arc<[Instruction]> = compile(&Policy::default_for(capabilities)).into();
            *compiled = Some(Compiled { capabilities: capabilities.to_vec(), program: Arc::clone(&program) });
            program
        }
    }
}

/// Packs a program for a description: one word for each instruction, as the kernel lays it out.
pub fn pack(program: &[Instruction]) -> Vec<u64> {
    let word = |step: &Instruction| {
        let jumps = u64::from(step.jump_true) << 16 | u64::from(step.jump_false) << 24;
        u64::from(step.code) | jumps | u64::from(step.operand) << 32
    };
    program.iter().map(word).collect()
}

fn unpack(word: u64) -> Instruction {
    let [code_low, code_high, jump_true, jump_false, operand @ ..] = word.to_le_bytes();
    Instruction {
        code: u16::from_le_bytes([code_low, code_high]),
        jump_true,
        jump_false,
        operand: u32::from_le_bytes(operand),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_same_after_its_way_through_a_description() {
        let program = compile(&Policy::default_for(&[0, 1]));
        let packed = pack(&program);
        assert_eq!(packed.iter().map(|word| unpack(*word)).collect::<Vec<_>>(), program);
    }
}
