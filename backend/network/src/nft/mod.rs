//! Talking to the `nft` program: one call, one transaction.
//!
//! A call takes about 3 ms, nearly all of it the start of the process and its reading of the rule set. Callers that arrive while one
//! runs are therefore put together into the next (group commit). If such a common transaction fails, each
//! caller's part runs alone, so that one caller's error is never another's.

mod elements;
mod probe;
pub mod ruleset;
pub mod traffic;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

pub use elements::Change;
pub(crate) use elements::Elements;
pub use probe::try_rules;
use ruleset::Element;

use crate::names::Instance;

/// Where `nft` is looked for: fixed, so that no environment decides what runs as root.
const PLACES: [&str; 4] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft"];
/// How long one call may take. Thousands of elements take a fraction of a second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why the kernel's rule set could not be changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NftError {
    /// The program is not installed.
    #[error("nft is not installed (looked at {}): install the package nftables", list(.searched))]
    Missing {
        /// The paths that were tried.
        searched: Vec<PathBuf>,
    },
    /// The program could not be run or talked to.
    #[error("running {}", .binary.display())]
    Run {
        /// The program.
        binary: PathBuf,
        /// What the system said; shared, because a common transaction's error goes to several callers.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The program or the kernel refused the transaction.
    #[error("nft refused the transaction: {message}")]
    Refused {
        /// What it wrote on standard error.
        message: String,
    },
    /// The kernel refused to add or remove a container's elements.
    #[error("the kernel refused to {change} the elements of table {table}{}", hint(.source))]
    Elements {
        /// The table.
        table: String,
        /// What was to be done.
        change: Change,
        /// What the kernel said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The kernel did not say whether our tables are there.
    #[error("the kernel does not say whether table {table} is there")]
    Tables {
        /// The table.
        table: String,
        /// What the kernel said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The program did not end in time and was killed.
    #[error("nft did not end within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn hint(source: &std::io::Error) -> &'static str {
    if source.kind() == std::io::ErrorKind::NotFound {
        "; somebody flushed the rule set: the agent writes it anew within a second"
    } else {
        ""
    }
}

impl Elements {
    /// Adds or removes the elements of one container, whole or not at all. Repeating it changes nothing.
    pub(crate) async fn change(
        self: Arc<Self>,
        instance: &Instance,
        change: Change,
        elements: Vec<Element>,
    ) -> Result<(), NftError> {
        let names = instance.clone();
        let committed = tokio::task::spawn_blocking(move || self.commit(&names, change, &elements)).await;
        committed.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(|source| {
            NftError::Elements { table: instance.name().to_owned(), change, source: Arc::new(source) }
        })
    }

    /// Tells whether our tables are there.
    pub(crate) async fn are_there(self: Arc<Self>, instance: &Instance) -> Result<bool, NftError> {
        let names = instance.clone();
        let asked = tokio::task::spawn_blocking(move || self.tables_are_there(&names)).await;
        asked.unwrap_or_else(|panic| Err(std::io::Error::other(panic))).map_err(|source| NftError::Tables {
            table: instance.name().to_owned(),
            source: Arc::new(source),
        })
    }
}

/// A transaction that waits for its turn.
#[derive(Debug)]
struct Waiting {
    text: String,
    done: oneshot::Sender<Result<(), NftError>>,
}

/// The program, and the transactions that wait for it.
#[derive(Debug)]
pub(crate) struct Nft {
    binary: PathBuf,
    waiting: Mutex<Vec<Waiting>>,
    turn: AsyncMutex<()>,
}

impl Nft {
    /// Finds the program at `binary`, or in its usual places.
    pub(crate) fn find(binary: Option<&Path>) -> Result<Self, NftError> {
        let places: Vec<PathBuf> = match binary {
            Some(path) => vec![path.to_owned()],
            None => PLACES.map(PathBuf::from).to_vec(),
        };
        match places.iter().find(|path| path.is_file()) {
            Some(path) => {
                Ok(Self { binary: path.clone(), waiting: Mutex::default(), turn: AsyncMutex::default() })
            }
            None => Err(NftError::Missing { searched: places }),
        }
    }

    /// Where the program is.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs a transaction, together with others that arrived meanwhile.
    ///
    /// The text must be safe to run twice: when the caller whose turn it was is cancelled, those whose parts it
    /// had taken along run them again.
    pub(crate) async fn commit(&self, text: &str) -> Result<(), NftError> {
        loop {
            let (done, mut result) = oneshot::channel();
            self.queue().push(Waiting { text: text.to_owned(), done });
            let turn = self.turn.lock().await;
            match result.try_recv() {
                // A caller before us took our part along.
                Ok(result) => return result,
                // It was cancelled half-way: nobody knows how far it came.
                Err(oneshot::error::TryRecvError::Closed) => continue,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let batch = std::mem::take(&mut *self.queue());
            self.run_batch(batch).await;
            drop(turn);
            if let Ok(result) = result.try_recv() {
                return result;
            }
        }
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        // A push or a take cannot leave the queue half-changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_batch(&self, batch: Vec<Waiting>) {
        let together: String = batch.iter().map(|waiting| waiting.text.as_str()).collect();
        let common = self.run(&together).await;
        if common.is_ok() || batch.len() == 1 {
            for waiting in batch {
                answer(waiting.done, common.clone());
            }
            return;
        }
        for waiting in batch {
            let own = self.run(&waiting.text).await;
            answer(waiting.done, own);
        }
    }

    /// Runs one transaction.
    async fn run(&self, text: &str) -> Result<(), NftError> {
        let failed = |source| NftError::Run { binary: self.binary.clone(), source: Arc::new(source) };
        let mut child = Command::new(&self.binary)
            .args(["-f", "-"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take();
        let talk = async move {
            if let Some(mut input) = input
                && let Err(error) = input.write_all(text.as_bytes()).await
                // It may refuse before it has read everything; its message says why.
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                return Err(error);
            }
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(TIMEOUT, talk).await.map_err(|_elapsed| NftError::TimedOut)?;
        let output = output.map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(NftError::Refused {
            message: if message.is_empty() { output.status.to_string() } else { message },
        })
    }
}

/// Gives a caller its result; one that was cancelled does not want it any more.
fn answer(done: oneshot::Sender<Result<(), NftError>>, result: Result<(), NftError>) {
    drop(done.send(result));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        let error = Nft::find(Some(Path::new("/nowhere/nft"))).expect_err("no such program");
        assert!(matches!(&error, NftError::Missing { .. }));
        assert!(error.to_string().contains("/nowhere/nft"), "{error}");
    }

    /// A program in place of `nft` that appends its input and a line to a file, and refuses the word `bad`.
    fn recorder(directory: &Path) -> Nft {
        use std::os::unix::fs::PermissionsExt as _;
        let path = directory.join("nft");
        let script = format!(
            "#!/bin/sh\nPATH=/usr/bin:/bin\ntext=$(cat)\nsleep 0.05\ncase $text in *bad*) echo 'no bad things' >&2; exit 1;; esac\nprintf '%s\\n' \"$text\" | tr '\\n' ' ' >> {0}/log\necho >> {0}/log\n",
            directory.display()
        );
        std::fs::write(&path, script).expect("write the script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
        Nft::find(Some(&path)).expect("the script is there")
    }

    #[tokio::test]
    async fn callers_that_wait_share_a_call_and_each_gets_its_own_result() {
        let directory = tempfile::tempdir().expect("a directory");
        let nft = recorder(directory.path());
        let (first, second, third) =
            tokio::join!(nft.commit("one\n"), nft.commit("two\n"), nft.commit("three\n"));
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        let log = std::fs::read_to_string(directory.path().join("log")).expect("the log");
        assert_eq!(log.lines().count(), 2, "the first alone, those that waited together: {log}");

        let (first, good, bad) =
            tokio::join!(nft.commit("first\n"), nft.commit("good\n"), nft.commit("bad\n"));
        assert!(first.is_ok() && good.is_ok());
        assert!(matches!(bad, Err(NftError::Refused { message }) if message == "no bad things"));
    }

    #[tokio::test]
    async fn a_cancelled_caller_does_not_take_the_others_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let nft = recorder(directory.path());
        let cancelled = tokio::time::timeout(Duration::from_millis(10), nft.commit("one\n"));
        let (first, second) = tokio::join!(cancelled, nft.commit("two\n"));
        assert!(first.is_err());
        assert!(second.is_ok());
        let log = std::fs::read_to_string(directory.path().join("log")).expect("the log");
        assert!(log.contains("two"), "{log}");
    }
}
