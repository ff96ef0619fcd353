//! Turns a policy into a classic BPF program: a binary tree over ranges of call numbers.
//!
//! ```text
//! architecture? ── other ──► kill
//!      │
//!   number ≥ middle? ── … ──► leaf: allow | error | look at an argument
//! ```
//! Depth is log2 of the number of ranges. A conditional jump reaches 255 instructions; where the left
//! half is longer, an unconditional one stands in between. Source: `seccomp_filter.rst`, bpf(4).

use wharf_sys::seccomp::Instruction;

use super::policy::{Check, HIGHEST, Policy, Verdict};

pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;

pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Returns the program of a policy.
pub fn compile(policy: &Policy) -> Vec<Instruction> {
    with_head(tree_of(&ranges(policy), &|verdict| leaf(*verdict)))
}

/// Puts the look at the architecture before a tree over call numbers.
pub(super) fn with_head(tree: Vec<Instruction>) -> Vec<Instruction> {
    let mut program = vec![
        plain(LOAD, ARCHITECTURE),
        jump(JUMP_EQUAL, NATIVE, 1, 0),
        plain(RETURN, KILL_PROCESS),
        plain(LOAD, NUMBER),
    ];
    program.extend(tree);
    program
}

/// Returns the first numbers of runs with one verdict, ascending; the last run has no end.
fn ranges(policy: &Policy) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for call in 0..=HIGHEST + 1 {
        let verdict = policy.verdict(call);
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((call, verdict));
        }
    }
    ranges
}

/// Returns the tree over runs of call numbers, given by their first ones; `leaf` makes what is at its ends.
pub(super) fn tree_of<T>(ranges: &[(u32, T)], leaf: &dyn Fn(&T) -> Vec<Instruction>) -> Vec<Instruction> {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    match (left.first(), right.first()) {
        (Some(_), Some((middle, _))) => {
            let (low, high) = (tree_of(left, leaf), tree_of(right, leaf));
            let mut program = branch(*middle, low.len());
            program.extend(low);
            program.extend(high);
            program
        }
        (None, Some((_, last))) => leaf(last),
        _ => Vec::new(),
    }
}

/// Skips `length` instructions when the number is at least `middle`.
fn branch(middle: u32, length: usize) -> Vec<Instruction> {
    match (u8::try_from(length), u32::try_from(length)) {
        (Ok(short), _) => vec![jump(JUMP_AT_LEAST, middle, short, 0)],
        (_, Ok(long)) => vec![jump(JUMP_AT_LEAST, middle, 0, 1), plain(JUMP, long)],
        // No program has 2^32 instructions; to refuse is the safe answer all the same.
        _ => vec![plain(RETURN, KILL_PROCESS)],
    }
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    let check = match verdict {
        Verdict::Allow => return vec![plain(RETURN, ALLOW)],
        Verdict::Errno(errno) => return vec![plain(RETURN, ERRNO | u32::from(errno))],
        Verdict::Check(check) => check,
    };
    let load = |argument: u8| plain(LOAD, ARGUMENTS + 8 * u32::from(argument));
    match check {
        Check::Clear { argument, mask } => vec![
            load(argument),
            jump(JUMP_ANY_BIT, mask, 0, 1),
            plain(RETURN, ERRNO | EPERM),
            plain(RETURN, ALLOW),
        ],
        Check::OneOf { argument, values } => {
            let upper = plain(LOAD, ARGUMENTS + 8 * u32::from(argument) + 4);
            let mut program = vec![upper, jump(JUMP_EQUAL, 0, 1, 0), plain(RETURN, ERRNO | EPERM)];
            program.extend(compare(load(argument), values, ERRNO | EPERM, ALLOW));
            program
        }
        Check::NoneOf { argument, values } => compare(load(argument), values, ALLOW, ERRNO | EPERM),
    }
}

/// Returns `found` when the loaded word is one of the values, else `missed`.
fn compare(load: Instruction, values: &[u32], missed: u32, found: u32) -> Vec<Instruction> {
    let mut program = vec![load];
    for (value, after) in values.iter().zip((1..=values.len()).rev()) {
        program.push(jump(JUMP_EQUAL, *value, u8::try_from(after).unwrap_or(u8::MAX), 0));
    }
    program.extend([plain(RETURN, missed), plain(RETURN, found)]);
    program
}

pub(super) fn plain(code: u16, operand: u32) -> Instruction {
    jump(code, operand, 0, 0)
}

pub(super) fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::seccomp) const NATIVE_FOR_TESTS: u32 = NATIVE;

    fn run(program: &[Instruction], architecture: u32, call: u32, arguments: [u32; 6]) -> u32 {
        run_wide(program, architecture, call, arguments.map(u64::from))
    }

    /// Runs a program as the kernel would.
    pub(in crate::seccomp) fn run_wide(
        program: &[Instruction],
        architecture: u32,
        call: u32,
        arguments: [u64; 6],
    ) -> u32 {
        let mut data = Vec::new();
        data.extend(call.to_le_bytes());
        data.extend(architecture.to_le_bytes());
        data.extend([0; 8]);
        for argument in arguments {
            data.extend(argument.to_le_bytes());
        }
        let (mut at, mut word) = (0_usize, 0_u32);
        loop {
            let step = program[at];
            at += 1;
            let skip = match step.code {
                LOAD => {
                    let from = usize::try_from(step.operand).expect("offset");
                    word = u32::from_le_bytes(data[from..from + 4].try_into().expect("word"));
                    0
                }
                // And.
                0x54 => {
                    word &= step.operand;
                    0
                }
                JUMP => step.operand,
                RETURN => return step.operand,
                comparison => {
                    let holds = match comparison {
                        JUMP_EQUAL => word == step.operand,
                        JUMP_AT_LEAST => word >= step.operand,
                        JUMP_ANY_BIT => word & step.operand != 0,
                        // Above.
                        0x25 => word > step.operand,
                        other => panic!("unknown instruction {other:#x}"),
                    };
                    u32::from(if holds { step.jump_true } else { step.jump_false })
                }
            };
            at += usize::try_from(skip).expect("fits");
        }
    }

    /// What the policy says, by itself.
    fn expected(policy: &Policy, call: u32, arguments: [u32; 6]) -> u32 {
        let passes = match policy.verdict(call) {
            Verdict::Allow => true,
            Verdict::Errno(errno) => return ERRNO | u32::from(errno),
            Verdict::Check(Check::Clear { argument, mask }) => arguments[usize::from(argument)] & mask == 0,
            Verdict::Check(Check::OneOf { argument, values }) => {
                values.contains(&arguments[usize::from(argument)])
            }
            Verdict::Check(Check::NoneOf { argument, values }) => {
                !values.contains(&arguments[usize::from(argument)])
            }
        };
        if passes { ALLOW } else { ERRNO | EPERM }
    }

    /// Attacks: D6, F1.
    #[test]
    fn the_program_says_what_the_policy_says_for_every_call_and_telling_arguments() {
        let all: Vec<u8> = (0..41).collect();
        for capabilities in [&[][..], &[0, 1, 3, 18], &[21], &all] {
            let policy = Policy::default_for(capabilities);
            let program = compile(&policy);
            let calls = (0..=HIGHEST + 600).chain([0x4000_0000, 0x4000_0000 + 41, u32::MAX]);
            for call in calls {
                for word in
                    [0, 1, 2, 8, 38, 40, 0x5412, 0x541c, 0x5413, 0x2_0008, 0x1000_0000, 0x7e02_0000, u32::MAX]
                {
                    let arguments = [word, word, 0, 0, 0, 0];
                    assert_eq!(
                        run(&program, NATIVE, call, arguments),
                        expected(&policy, call, arguments),
                        "{call} {word:#x}"
                    );
                }
            }
        }
    }

    /// Attacks: D6.
    #[test]
    fn another_architecture_is_killed() {
        let program = compile(&Policy::default_for(&[]));
        for architecture in [0x4000_0003, 0x4000_0028, 0] {
            assert_eq!(run(&program, architecture, 0, [0; 6]), KILL_PROCESS);
        }
    }

    #[test]
    fn the_program_is_small_and_every_path_ends_soon() {
        let program = compile(&Policy::default_for(&[0, 1, 3, 18]));
        assert!(program.len() < 300, "{} instructions", program.len());
    }

    #[test]
    fn a_left_half_beyond_the_reach_of_a_jump_is_jumped_over() {
        let mut program = branch(10, 300);
        program.extend(vec![plain(RETURN, 1); 300]);
        program.push(plain(RETURN, 2));
        let load = [plain(LOAD, NUMBER)];
        let program: Vec<Instruction> = load.into_iter().chain(program).collect();
        assert_eq!(run(&program, 0, 9, [0; 6]), 1);
        assert_eq!(run(&program, 0, 10, [0; 6]), 2);
    }
}
