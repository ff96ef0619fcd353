//! The oracle: libseccomp's program for the same rules, and what runs both.

use std::collections::BTreeSet;
use std::io::{Read as _, Seek as _};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use wharf_runtime::seccomp::{Action, Comparison, Condition, Profile};
use wharf_sys::seccomp::Instruction;

#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE: u32 = 0xc000_00b7;

/// The first number of the x32 ABI.
pub(crate) const X32: u32 = 0x4000_0000;

/// Every call number of a native program, beyond the last one, and some of the x32 ABI.
pub(crate) fn calls() -> impl Iterator<Item = u32> {
    (0..1024).chain([X32 - 1, X32, X32 + 59, X32 + 520, u32::MAX])
}

/// Returns libseccomp's program for a profile, for the native architecture alone.
pub(crate) fn compile(profile: &Profile) -> Vec<Instruction> {
    let mut context = ScmpFilterContext::new(action(profile.default)).expect("context");
    context.add_arch(ScmpArch::Native).expect("architecture");
    for rule in &profile.rules {
        let conditions: Vec<ScmpArgCompare> = rule.conditions.iter().map(compare).collect();
        for call in &rule.calls {
            let call = ScmpSyscall::from(i32::try_from(*call).expect("number"));
            if conditions.is_empty() {
                context.add_rule(action(rule.action), call).expect("rule");
            } else {
                context.add_rule_conditional(action(rule.action), call, &conditions).expect("rule");
            }
        }
    }
    let mut file = tempfile::tempfile().expect("file");
    context.export_bpf(&file).expect("program");
    file.rewind().expect("file");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("file");
    let (steps, rest) = bytes.as_chunks::<8>();
    assert!(rest.is_empty(), "half an instruction");
    steps.iter().map(|step| instruction(*step)).collect()
}

fn instruction([a, b, jump_true, jump_false, operand @ ..]: [u8; 8]) -> Instruction {
    let (code, operand) = (u16::from_le_bytes([a, b]), u32::from_le_bytes(operand));
    Instruction { code, jump_true, jump_false, operand }
}

fn action(action: Action) -> ScmpAction {
    match action {
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Errno(number) => ScmpAction::Errno(i32::from(number)),
        Action::Trap => ScmpAction::Trap,
        Action::Trace(message) => ScmpAction::Trace(message),
        Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
    }
}

fn compare(condition: &Condition) -> ScmpArgCompare {
    let operator = match condition.comparison {
        Comparison::NotEqual => ScmpCompareOp::NotEqual,
        Comparison::Less => ScmpCompareOp::Less,
        Comparison::LessOrEqual => ScmpCompareOp::LessOrEqual,
        Comparison::Equal => ScmpCompareOp::Equal,
        Comparison::GreaterOrEqual => ScmpCompareOp::GreaterEqual,
        Comparison::Greater => ScmpCompareOp::Greater,
        Comparison::MaskedEqual(mask) => ScmpCompareOp::MaskedEqual(mask),
    };
    ScmpArgCompare::new(u32::from(condition.argument), operator, condition.value)
}

/// Runs a program as the kernel would.
pub(crate) fn run(program: &[Instruction], architecture: u32, call: u32, arguments: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        0 => call,
        4 => architecture,
        16..64 => {
            let word = arguments[usize::try_from((offset - 16) / 8).expect("index")];
            u32::try_from((word >> (8 * (offset % 8))) & u64::from(u32::MAX)).expect("half a word")
        }
        other => panic!("nothing lies at {other}"),
    };
    let (mut at, mut word) = (0_usize, 0_u32);
    loop {
        let step = program[at];
        at += 1;
        let holds = match step.code {
            0x20 => {
                word = load(step.operand);
                continue;
            }
            0x54 => {
                word &= step.operand;
                continue;
            }
            0x05 => {
                at += usize::try_from(step.operand).expect("distance");
                continue;
            }
            0x06 => return step.operand,
            0x15 => word == step.operand,
            0x25 => word > step.operand,
            0x35 => word >= step.operand,
            0x45 => word & step.operand != 0,
            other => panic!("unknown instruction {other:#x}"),
        };
        at += usize::from(if holds { step.jump_true } else { step.jump_false });
    }
}

/// How strict an answer is: the kernel's own order, in which the strictest of several filters wins.
pub(crate) fn strictness(answer: u32) -> u8 {
    match answer & 0xffff_0000 {
        0x8000_0000 => 6,
        0x0000_0000 => 5,
        0x0003_0000 => 4,
        0x0005_0000 => 3,
        0x7ff0_0000 => 2,
        0x7ffc_0000 => 1,
        0x7fff_0000 => 0,
        other => panic!("unknown answer {other:#x}"),
    }
}

/// The values that a profile names for one argument of a call, their neighbours, and the same with other
/// upper halves; just two values where it names none.
pub(crate) fn telling(profile: &Profile, call: u32, argument: u8) -> BTreeSet<u64> {
    let rules = profile.rules.iter().filter(|rule| rule.calls.contains(&call));
    let conditions = rules.flat_map(|rule| &rule.conditions);
    let mut values = BTreeSet::from([0, u64::MAX]);
    for condition in conditions.filter(|condition| condition.argument == argument) {
        let mut named = vec![condition.value];
        if let Comparison::MaskedEqual(mask) = condition.comparison {
            named.extend([mask, !mask]);
            named.extend((0..64).map(|bit| 1 << bit).filter(|bit| mask & bit != 0));
        }
        for value in named {
            let near = [value, value.wrapping_add(1), value.wrapping_sub(1)];
            values.extend(near.into_iter().flat_map(|value| [value, value ^ (1 << 32), value ^ (1 << 63)]));
        }
    }
    values
}

/// Arguments that tell the rules of a call apart: each argument's values, the others held at one that a
/// rule names, or 0.
pub(crate) fn arguments(profile: &Profile, call: u32) -> Vec<[u64; 6]> {
    let mut bases = vec![[0; 6]];
    for rule in profile.rules.iter().filter(|rule| rule.calls.contains(&call)) {
        let mut base = [0; 6];
        for condition in &rule.conditions {
            base[usize::from(condition.argument)] = condition.value;
        }
        bases.push(base);
    }
    bases.dedup();
    let mut found = Vec::new();
    for argument in 0..6 {
        for value in telling(profile, call, argument) {
            for base in &bases {
                let mut arguments = *base;
                arguments[usize::from(argument)] = value;
                found.push(arguments);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
