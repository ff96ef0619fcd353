//! Which device nodes a container may open: rules, their v1 text and their v2 program.
//!
//! Denied by default. v1 takes lines in `devices.allow`; v2 has no controller for it but a BPF
//! program that the kernel runs for each open and mknod (`BPF_PROG_TYPE_CGROUP_DEVICE`). The program
//! made here is a chain of comparisons in the order of the rules.

use wharf_sys::bpf::Instruction;

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// What a rule permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Make the node.
    pub make: bool,
}

impl Access {
    /// Read and write, but not make.
    pub const READ_WRITE: Self = Self { read: true, write: true, make: false };

    /// Read, write and make.
    pub const ALL: Self = Self { read: true, write: true, make: true };

    /// Returns the bits of `linux/bpf.h`: 1 make, 2 read, 4 write.
    fn bits(self) -> i32 {
        i32::from(self.make) | i32::from(self.read) << 1 | i32::from(self.write) << 2
    }
}

/// Permits access to one device, or to all of a major number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number; `None` means any.
    pub minor: Option<u32>,
    /// What is permitted.
    pub access: Access,
}

impl DeviceRule {
    /// Returns the rules of the standard nodes: null, zero, full, random, urandom, tty, console,
    /// ptmx and the slaves of pseudo-terminals.
    pub fn standard() -> Vec<Self> {
        let rule =
            |major, minor| Self { kind: DeviceKind::Character, major, minor, access: Access::READ_WRITE };
        let memory = [3, 5, 7, 8, 9].map(|minor| rule(1, Some(minor)));
        let terminals = [rule(5, Some(0)), rule(5, Some(1)), rule(5, Some(2)), rule(136, None)];
        memory.into_iter().chain(terminals).collect()
    }

    /// Returns the line for v1's `devices.allow`.
    pub(super) fn legacy_line(&self) -> String {
        let kind = if self.kind == DeviceKind::Character { 'c' } else { 'b' };
        let minor = self.minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
        let flags = [(self.access.read, 'r'), (self.access.write, 'w'), (self.access.make, 'm')];
        let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).collect();
        format!("{kind} {}:{minor} {flags}", self.major)
    }
}

// Registers: r1 the context, r2 type, r3 asked access, r4 major, r5 minor, r6 scratch, r0 result.
const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x57;
const RIGHT_SHIFT_IMMEDIATE: u8 = 0x77;
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// Returns the program that permits exactly what the rules say.
pub(crate) fn device_program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(AND_IMMEDIATE, 2, 0, 0, 0xffff),
        instruction(RIGHT_SHIFT_IMMEDIATE, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let kind = if rule.kind == DeviceKind::Character { 2 } else { 1 };
        let to_next: i16 = if rule.minor.is_some() { 7 } else { 6 };
        program.push(instruction(JUMP_NOT_EQUAL, 2, 0, to_next, kind));
        // Anything asked that the rule does not permit?
        program.push(instruction(MOVE_REGISTER, 6, 3, 0, 0));
        program.push(instruction(AND_IMMEDIATE, 6, 0, 0, !rule.access.bits() & 7));
        program.push(instruction(JUMP_NOT_EQUAL, 6, 0, to_next - 3, 0));
        program.push(instruction(JUMP_NOT_EQUAL, 4, 0, to_next - 4, rule.major.cast_signed()));
        if let Some(minor) = rule.minor {
            program.push(instruction(JUMP_NOT_EQUAL, 5, 0, 2, minor.cast_signed()));
        }
        program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 1));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE_IMMEDIATE, 0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on a request, as the kernel would.
    fn run(program: &[Instruction], kind: u64, access: u64, major: u64, minor: u64) -> u64 {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let step = program[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            let immediate = i64::from(step.immediate).cast_unsigned();
            at += 1;
            match step.code {
                LOAD_WORD => registers[to] = context[usize::try_from(step.offset / 4).expect("offset")],
                AND_IMMEDIATE => registers[to] &= immediate,
                RIGHT_SHIFT_IMMEDIATE => registers[to] >>= immediate,
                MOVE_IMMEDIATE => registers[to] = immediate,
                MOVE_REGISTER => registers[to] = registers[from],
                JUMP_NOT_EQUAL if registers[to] != immediate => {
                    at = at.checked_add_signed(step.offset.into()).expect("in program");
                }
                JUMP_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_permits_what_a_rule_permits_and_nothing_else() {
        let program = device_program(&DeviceRule::standard());
        for (kind, access, major, minor, expected) in [
            (2, 2, 1, 3, 1),      // read null
            (2, 6, 1, 3, 1),      // read and write null
            (2, 1, 1, 3, 0),      // make null
            (2, 7, 1, 3, 0),      // all at once: making is not permitted
            (1, 2, 1, 3, 0),      // the block device of the same numbers
            (2, 2, 1, 1, 0),      // /dev/mem
            (2, 6, 136, 4711, 1), // any pty slave
            (2, 2, 10, 200, 0),   // tun
            (1, 2, 8, 0, 0),      // sda
        ] {
            assert_eq!(
                run(&program, kind, access, major, minor),
                expected,
                "{kind} {access} {major}:{minor}"
            );
        }
    }

    #[test]
    fn no_rules_permit_nothing() {
        assert_eq!(run(&device_program(&[]), 2, 2, 1, 3), 0);
    }

    #[test]
    fn a_rule_has_the_text_that_v1_reads() {
        let lines: Vec<String> = DeviceRule::standard().iter().map(DeviceRule::legacy_line).collect();
        assert!(
            lines.contains(&"c 1:3 rw".to_owned()) && lines.contains(&"c 136:* rw".to_owned()),
            "{lines:?}"
        );
    }
}
