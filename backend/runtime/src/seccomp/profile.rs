//! A profile that somebody else wrote, as a program: rules by call, with conditions on arguments.
//!
//! The rules of a call are tried in their order and the first that holds decides; without one it is the
//! profile's default. Calls of other architectures and of the x32 ABI are never permitted, whatever a profile says of
//! them. The tree over call numbers is that of [`super::compile`].

use std::collections::BTreeMap;

use wharf_sys::seccomp::Instruction;

use super::compile::{
    ALLOW, ARGUMENTS, ERRNO, JUMP_AT_LEAST, JUMP_EQUAL, KILL_PROCESS, LOAD, RETURN, jump, plain, tree_of,
    with_head,
};

const AND: u16 = 0x54;
const JUMP_ABOVE: u16 = 0x25;

const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ENOSYS: u32 = 38;

/// The first number of the x32 ABI.
const X32: u32 = 0x4000_0000;
/// The kernel takes no longer program (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is carried out.
    Allow,
    /// It is carried out and logged.
    Log,
    /// It fails with this error number.
    Errno(u16),
    /// The caller gets `SIGSYS`.
    Trap,
    /// A tracer is asked, with this message.
    Trace(u16),
    /// The calling thread ends.
    KillThread,
    /// The whole process ends.
    KillProcess,
}

impl Action {
    fn word(self) -> u32 {
        match self {
            Self::Allow => ALLOW,
            Self::Log => LOG,
            Self::Errno(number) => ERRNO | u32::from(number),
            Self::Trap => TRAP,
            Self::Trace(message) => TRACE | u32::from(message),
            Self::KillThread => KILL_THREAD,
            Self::KillProcess => KILL_PROCESS,
        }
    }
}

/// How an argument is compared, as a whole of 64 bits without sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It is not the value.
    NotEqual,
    /// It is below the value.
    Less,
    /// It is at most the value.
    LessOrEqual,
    /// It is the value.
    Equal,
    /// It is at least the value.
    GreaterOrEqual,
    /// It is above the value.
    Greater,
    /// Its bits within this mask are the value.
    MaskedEqual(u64),
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

/// What happens to some calls when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The calls, by number.
    pub calls: Vec<u32>,
    /// What happens.
    pub action: Action,
    /// When; always without any.
    pub conditions: Vec<Condition>,
}

/// A whole profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What happens to calls that no rule decides.
    pub default: Action,
    /// In the order in which they are tried.
    pub rules: Vec<Rule>,
}

/// A profile that no program can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// A condition names an argument that no call has.
    #[error("a condition is on argument {0}; calls have arguments 0 to 5")]
    Argument(u8),
    /// The kernel takes no program of this length.
    #[error("it makes a program of {0} instructions; the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

impl Profile {
    /// Returns the program.
    ///
    /// # Errors
    /// A profile that no program can be made of.
    pub fn compile(&self) -> Result<Vec<Instruction>, ProfileError> {
        let mut conditions = self.rules.iter().flat_map(|rule| &rule.conditions);
        if let Some(condition) = conditions.find(|condition| condition.argument > 5) {
            return Err(ProfileError::Argument(condition.argument));
        }
        let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
        for rule in &self.rules {
            for call in rule.calls.iter().filter(|call| **call < X32) {
                calls.entry(*call).or_default().push(rule);
            }
        }
        let program = with_head(tree_of(&self.ranges(&calls), &|leaf| self.leaf(leaf)));
        if program.len() > MAX_INSTRUCTIONS { Err(ProfileError::TooLong(program.len())) } else { Ok(program) }
    }

    /// Returns the first numbers of runs with one outcome, ascending; the last run has no end.
    fn ranges<'rules>(&self, calls: &BTreeMap<u32, Vec<&'rules Rule>>) -> Vec<(u32, Leaf<'rules>)> {
        let mut ranges = vec![(0, Leaf::Return(self.default.word()))];
        let mut push = |call: u32, leaf: Leaf<'rules>| {
            if ranges.last().is_some_and(|(start, _)| *start == call) {
                ranges.pop();
            }
            if ranges.last().is_none_or(|(_, last)| *last != leaf) {
                ranges.push((call, leaf));
            }
        };
        for (call, rules) in calls {
            let simple = rules.first().filter(|rule| rule.conditions.is_empty());
            let leaf = simple.map_or(Leaf::Rules(rules.clone()), |rule| Leaf::Return(rule.action.word()));
            push(*call, leaf);
            push(call + 1, Leaf::Return(self.default.word()));
        }
        push(X32, Leaf::Return(ERRNO | ENOSYS));
        ranges
    }

    fn leaf(&self, leaf: &Leaf<'_>) -> Vec<Instruction> {
        let rules = match leaf {
            Leaf::Return(word) => return vec![plain(RETURN, *word)],
            Leaf::Rules(rules) => rules,
        };
        let mut program = Vec::new();
        for rule in rules {
            program.extend(block(rule));
            if rule.conditions.is_empty() {
                return program;
            }
        }
        program.push(plain(RETURN, self.default.word()));
        program
    }
}

/// The outcome for a run of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf<'rules> {
    Return(u32),
    Rules(Vec<&'rules Rule>),
}

/// Where a comparison goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next instruction.
    On,
    /// Behind this condition, which holds.
    Holds,
    /// Behind this rule, which does not.
    Fails,
}

/// One step of a condition: an instruction without jumps, or a comparison.
#[derive(Debug, Clone, Copy)]
enum Step {
    Plain(u16, u32),
    Compare(u16, u32, To, To),
}

/// Returns the instructions of one rule: behind the last of them lies the next rule.
fn block(rule: &Rule) -> Vec<Instruction> {
    let conditions: Vec<Vec<Step>> = rule.conditions.iter().map(|condition| steps(*condition)).collect();
    // Every step is one instruction; the action comes last.
    let length: usize = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program = Vec::with_capacity(length);
    for steps in &conditions {
        let behind = program.len() + steps.len();
        for step in steps {
            let next = program.len() + 1;
            let distance = |to: To| {
                let target = match to {
                    To::On => next,
                    To::Holds => behind,
                    To::Fails => length,
                };
                // A rule has few conditions: calls have six arguments.
                u8::try_from(target - next).unwrap_or(u8::MAX)
            };
            program.push(match *step {
                Step::Plain(code, operand) => plain(code, operand),
                Step::Compare(code, operand, yes, no) => jump(code, operand, distance(yes), distance(no)),
            });
        }
    }
    program.push(plain(RETURN, rule.action.word()));
    program
}

/// Returns the comparison of both halves of an argument, the upper one first.
fn steps(condition: Condition) -> Vec<Step> {
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    let (low, high) = halves(condition.value);
    let load_low = Step::Plain(LOAD, at);
    let load_high = Step::Plain(LOAD, at + 4);
    // The upper half decides unless it is equal.
    let ordered = |above: To, below: To, last: Step| {
        vec![
            load_high,
            Step::Compare(JUMP_ABOVE, high, above, To::On),
            Step::Compare(JUMP_EQUAL, high, To::On, below),
            load_low,
            last,
        ]
    };
    match condition.comparison {
        Comparison::Equal => vec![
            load_high,
            Step::Compare(JUMP_EQUAL, high, To::On, To::Fails),
            load_low,
            Step::Compare(JUMP_EQUAL, low, To::Holds, To::Fails),
        ],
        Comparison::NotEqual => vec![
            load_high,
            Step::Compare(JUMP_EQUAL, high, To::On, To::Holds),
            load_low,
            Step::Compare(JUMP_EQUAL, low, To::Fails, To::Holds),
        ],
        Comparison::MaskedEqual(mask) => {
            let (mask_low, mask_high) = halves(mask);
            vec![
                load_high,
                Step::Plain(AND, mask_high),
                Step::Compare(JUMP_EQUAL, high, To::On, To::Fails),
                load_low,
                Step::Plain(AND, mask_low),
                Step::Compare(JUMP_EQUAL, low, To::Holds, To::Fails),
            ]
        }
        Comparison::Greater => {
            ordered(To::Holds, To::Fails, Step::Compare(JUMP_ABOVE, low, To::Holds, To::Fails))
        }
        Comparison::GreaterOrEqual => {
            ordered(To::Holds, To::Fails, Step::Compare(JUMP_AT_LEAST, low, To::Holds, To::Fails))
        }
        Comparison::Less => {
            ordered(To::Fails, To::Holds, Step::Compare(JUMP_AT_LEAST, low, To::Fails, To::Holds))
        }
        Comparison::LessOrEqual => {
            ordered(To::Fails, To::Holds, Step::Compare(JUMP_ABOVE, low, To::Fails, To::Holds))
        }
    }
}

/// The lower and the upper 32 bits.
fn halves(value: u64) -> (u32, u32) {
    // The low one of a shifted word always fits.
    let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (low(value), low(value >> 32))
}

#[cfg(test)]
mod tests {
    use super::super::compile::tests::{NATIVE_FOR_TESTS, run_wide};
    use super::*;

    fn decided(profile: &Profile, call: u32, arguments: [u64; 6]) -> u32 {
        let holds = |condition: &Condition| {
            let (is, value) = (arguments[usize::from(condition.argument)], condition.value);
            match condition.comparison {
                Comparison::Equal => is == value,
                Comparison::NotEqual => is != value,
                Comparison::Less => is < value,
                Comparison::LessOrEqual => is <= value,
                Comparison::Greater => is > value,
                Comparison::GreaterOrEqual => is >= value,
                Comparison::MaskedEqual(mask) => is & mask == value,
            }
        };
        if call >= X32 {
            return ERRNO | ENOSYS;
        }
        let mut rules = profile.rules.iter().filter(|rule| rule.calls.contains(&call));
        rules
            .find(|rule| rule.conditions.iter().all(holds))
            .map_or(profile.default, |rule| rule.action)
            .word()
    }

    fn rule(calls: &[u32], action: Action, conditions: &[Condition]) -> Rule {
        Rule { calls: calls.to_vec(), action, conditions: conditions.to_vec() }
    }

    const VALUES: [u64; 9] = [0, 1, 7, 8, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0007, 0x2_0000_0007, u64::MAX];

    #[test]
    fn the_program_says_what_the_rules_say_for_every_comparison() {
        let comparisons = [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
            Comparison::MaskedEqual(0x1_0000_000f),
        ];
        for comparison in comparisons {
            for value in VALUES {
                let condition = Condition { argument: 2, comparison, value };
                let profile = Profile {
                    default: Action::Errno(1),
                    rules: vec![rule(&[5], Action::Allow, &[condition])],
                };
                let program = profile.compile().expect("program");
                for argument in VALUES {
                    let arguments = [9, 9, argument, 9, 9, 9];
                    assert_eq!(
                        run_wide(&program, NATIVE_FOR_TESTS, 5, arguments),
                        decided(&profile, 5, arguments),
                        "{comparison:?} {value:#x} {argument:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn rules_of_one_call_are_tried_in_their_order() {
        let on = |argument, value| Condition { argument, comparison: Comparison::Equal, value };
        let profile = Profile {
            default: Action::KillProcess,
            rules: vec![
                rule(&[1, 2, 3, 60], Action::Allow, &[]),
                rule(&[4], Action::Errno(9), &[on(0, 1), on(1, 2)]),
                rule(&[4, 5], Action::Allow, &[on(0, 1)]),
                rule(&[4], Action::Log, &[on(0, 3)]),
                rule(&[5], Action::Trap, &[]),
                rule(&[5], Action::Allow, &[]),
                rule(&[X32 + 1], Action::Allow, &[]),
            ],
        };
        let program = profile.compile().expect("program");
        for call in (0..70).chain([X32 - 1, X32, X32 + 1, u32::MAX]) {
            for first in [0, 1, 3, 1 << 32] {
                for second in [0, 2] {
                    let arguments = [first, second, 0, 0, 0, 0];
                    assert_eq!(
                        run_wide(&program, NATIVE_FOR_TESTS, call, arguments),
                        decided(&profile, call, arguments),
                        "{call} {first} {second}"
                    );
                }
            }
        }
        assert_eq!(run_wide(&program, 0x4000_0003, 1, [0; 6]), KILL_PROCESS, "another architecture");
    }

    #[test]
    fn what_no_program_can_say_is_refused() {
        let condition = Condition { argument: 6, comparison: Comparison::Equal, value: 0 };
        let profile = |rules| Profile { default: Action::Allow, rules };
        assert_eq!(
            profile(vec![rule(&[1], Action::Allow, &[condition])]).compile(),
            Err(ProfileError::Argument(6))
        );
        let condition = Condition { argument: 0, ..condition };
        let rules = (0..1000).map(|call| rule(&[call * 2], Action::Trap, &[condition])).collect();
        assert!(matches!(profile(rules).compile(), Err(ProfileError::TooLong(_))));
    }
}
