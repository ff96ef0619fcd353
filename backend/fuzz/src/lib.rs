//! Fuzzing on a stable compiler: an entry point is run over a corpus, then over mutations of it.
//!
//! A test calls [`fuzz`] with a directory of inputs in the repository, with samples that it makes
//! itself, and with a function that may panic but never should. What the function returns says
//! what became of the input (which error, which variant): an input with an outcome that was not seen
//! before joins those that are mutated, which stands in for coverage.
//!
//! It takes two seconds, ten minutes with `WHARF_SOAK`, or `WHARF_FUZZ_SECONDS`. The seed is printed, and
//! `WHARF_FUZZ_SEED` gives it again. With `WHARF_FUZZ_KEEP` the inputs with new outcomes go into the corpus. An input that made the function panic is left in the directory for
//! temporary files and named: copied into the corpus it is run first, each time.
#![forbid(unsafe_code)]

mod mutate;

use std::collections::HashSet;
use std::fmt::Display;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

pub use mutate::Random;

/// Inputs do not grow beyond this, unless the corpus has a larger one.
const MAX_BYTES: usize = 64 * 1024;
/// So many inputs are mutated at most.
const MAX_POOL: usize = 4096;

/// Runs `entry` over the files in `corpus`, over `samples`, and over mutations of both until the time is
/// over; returns how many inputs it ran. A missing directory is an empty corpus.
///
/// # Errors
/// When the corpus cannot be read, or there is no input at all.
///
/// # Panics
/// Passes on the panic of `entry`, after it has printed the input.
pub fn fuzz<O: Hash>(
    name: &str,
    corpus: &Path,
    samples: impl IntoIterator<Item = Vec<u8>>,
    entry: impl Fn(&[u8]) -> O,
) -> io::Result<u64> {
    let seed = seed()?;
    let time = time();
    say(format_args!("{name}: WHARF_FUZZ_SEED={seed}, for {} s", time.as_secs()));
    let deadline = Instant::now() + time;
    let mut random = Random::new(seed);
    let mut pool = read_corpus(corpus)?;
    pool.extend(samples);
    if pool.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, format!("{name}: there is no input to begin with")));
    }
    let max_bytes = pool.iter().map(Vec::len).max().unwrap_or(0).max(MAX_BYTES);
    let mut outcomes = HashSet::new();
    let mut count = 0;
    for input in &pool {
        outcomes.insert(run(name, seed, input, &entry));
        count += 1;
    }
    while Instant::now() < deadline {
        let mut input = mutate::mutated(&mut random, &pool);
        input.truncate(max_bytes);
        let is_new = outcomes.insert(run(name, seed, &input, &entry));
        if is_new && pool.len() < MAX_POOL {
            if std::env::var_os("WHARF_FUZZ_KEEP").is_some() {
                fs::create_dir_all(corpus)?;
                fs::write(corpus.join(format!("{:016x}", hash(&input))), &input)?;
            }
            pool.push(input);
        }
        count += 1;
    }
    say(format_args!("{name}: {count} inputs, {} outcomes", outcomes.len()));
    Ok(count)
}

/// Runs one input and returns its outcome as a number.
fn run<O: Hash>(name: &str, seed: u64, input: &[u8], entry: &impl Fn(&[u8]) -> O) -> u64 {
    match catch_unwind(AssertUnwindSafe(|| entry(input))) {
        Ok(outcome) => hash(&outcome),
        Err(panic) => {
            let path = std::env::temp_dir().join(format!("wharf-fuzz-{name}-{:016x}", hash(&input)));
            let kept = match fs::write(&path, input) {
                Ok(()) => path.display().to_string(),
                Err(error) => format!("nowhere ({error})"),
            };
            say(format_args!("{name}: an input of {} bytes, kept in {kept}, panics", input.len()));
            say(format_args!("{name}: WHARF_FUZZ_SEED={seed} finds it again"));
            resume_unwind(panic)
        }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// In the order of their names, so that a seed means the same everywhere.
fn read_corpus(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(fs::read).collect()
}

/// The seed that was given, or another one each time.
///
/// # Errors
/// When the one that was given is no number, or the kernel gives no random bytes.
pub fn seed() -> io::Result<u64> {
    if let Ok(given) = std::env::var("WHARF_FUZZ_SEED") {
        return given.parse().map_err(|error| io::Error::new(ErrorKind::InvalidInput, error));
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

fn time() -> Duration {
    let given = std::env::var("WHARF_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let usual = if std::env::var_os("WHARF_SOAK").is_some() { 600 } else { 2 };
    Duration::from_secs(given.unwrap_or(usual))
}

#[expect(clippy::print_stderr, reason = "a failed test says how to repeat it; libtest shows it only then")]
fn say(text: impl Display) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_corpus_is_run_first_and_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("b"), "second").expect("an input");
        fs::write(dir.path().join("a"), "first").expect("another");
        let seen = RefCell::new(Vec::new());
        let note = |input: &[u8]| seen.borrow_mut().push(input.to_vec());
        let count = fuzz("order", dir.path(), [b"third".to_vec()], note).expect("inputs");
        assert!(count > 100, "{count}");
        assert_eq!(seen.borrow()[..3], [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()]);
    }

    #[test]
    fn a_fault_three_steps_away_is_found_because_each_step_is_kept() {
        let steps =
            |input: &[u8]| input.iter().zip(b"abc").take_while(|(found, wanted)| found == wanted).count();
        let found = catch_unwind(AssertUnwindSafe(|| {
            fuzz("steps", Path::new("/nonexistent"), [b"xxx".to_vec()], |input| {
                let steps = steps(input);
                assert!(steps < 3, "there it is");
                steps
            })
        }));
        assert!(found.is_err(), "nothing was found");
    }

    #[test]
    fn without_any_input_nothing_is_proved() {
        assert!(fuzz("none", Path::new("/nonexistent"), [], |_| ()).is_err());
    }
}
