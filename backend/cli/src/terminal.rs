//! The person's terminal: raw while a remote one is shown in it, silent while a password is typed.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::output;

/// `Ctrl-P Ctrl-Q`, as with Docker, leaves the container running.
const DETACH: [u8; 2] = [0x10, 0x11];

/// Whether a person types here.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Rows and columns, if standard output is a terminal.
pub(crate) fn size() -> Option<(u16, u16)> {
    tcgetwinsize(io::stdout()).ok().map(|size| (size.ws_row, size.ws_col)).filter(|size| size.0 > 0)
}

/// While it lives, every key goes through as it is; then the terminal is what it was.
#[derive(Debug)]
pub(crate) struct Changed {
    before: Termios,
}

impl Changed {
    /// Makes standard input's terminal raw.
    pub(crate) fn raw() -> Result<Self> {
        // What was typed ahead is for the remote terminal.
        Self::with(OptionalActions::Now, Termios::make_raw)
    }

    fn silent() -> Result<Self> {
        // What was typed ahead, and shown, is no secret.
        Self::with(OptionalActions::Flush, |modes| modes.local_modes.remove(LocalModes::ECHO))
    }

    fn with(when: OptionalActions, change: impl FnOnce(&mut Termios)) -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("ask standard input for its terminal")?;
        let mut after = before.clone();
        change(&mut after);
        tcsetattr(io::stdin(), when, &after).context("change the terminal")?;
        Ok(Self { before })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Now, &self.before) {
            output::note(&format!("wharf: the terminal stays as it is ({error}); `reset` mends it"));
        }
    }
}

/// Reads a secret: from standard input as a whole if asked to, else typed without being shown.
pub(crate) fn secret(prompt: &str, from_stdin: bool) -> Result<String> {
    if from_stdin {
        return not_empty(&line()?);
    }
    if !is_interactive() {
        bail!("nobody can type here; give it on standard input, and say so with --password-stdin");
    }
    output::write_err(format!("{prompt}: ").as_bytes())?;
    let silent = Changed::silent()?;
    let read = line();
    drop(silent);
    output::write_err(b"\n")?;
    not_empty(&read?)
}

/// Asks for a new secret twice, or reads it from standard input.
pub(crate) fn new_secret(prompt: &str, from_stdin: bool) -> Result<String> {
    let first = secret(prompt, from_stdin)?;
    if !from_stdin && secret(&format!("{prompt}, again"), false)? != first {
        bail!("the two are not the same");
    }
    Ok(first)
}

/// Asks for a line of text that could also be given as an option.
pub(crate) fn ask(prompt: &str, option: &str) -> Result<String> {
    if !is_interactive() {
        bail!("nobody can type here; give it with {option}");
    }
    output::write_err(format!("{prompt}: ").as_bytes())?;
    not_empty(line()?.trim())
}

fn line() -> Result<String> {
    let mut text = String::new();
    io::stdin().lock().read_line(&mut text).context("read standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn not_empty(text: &str) -> Result<String> {
    if text.is_empty() {
        bail!("nothing was given");
    }
    Ok(text.to_owned())
}

/// Finds the detach keys in what is typed, also when they come in two pieces.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    matched: usize,
}

impl DetachKeys {
    /// What to pass on, and whether the keys were typed.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(typed.len() + self.matched);
        for &key in typed {
            if DETACH.get(self.matched) == Some(&key) {
                self.matched += 1;
                if self.matched == DETACH.len() {
                    return (pass, true);
                }
            } else {
                // What looked like the keys was something else.
                pass.extend(DETACH.iter().take(self.matched));
                self.matched = usize::from(key == DETACH[0]);
                if self.matched == 0 {
                    pass.push(key);
                }
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::default();
        let mut pass = Vec::new();
        for piece in pieces {
            let (more, detach) = keys.feed(piece);
            pass.extend(more);
            if detach {
                return (pass, true);
            }
        }
        (pass, false)
    }

    #[test]
    fn the_detach_keys_are_found_whole_and_in_pieces_and_never_passed_on() {
        assert_eq!(feed(&[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(feed(&[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(feed(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn a_lone_key_of_them_is_passed_on_with_the_next() {
        assert_eq!(feed(&[b"a\x10", b"b\x11"]), (b"a\x10b\x11".to_vec(), false));
        assert_eq!(feed(&[b"\x11\x10\x10c"]), (b"\x11\x10\x10c".to_vec(), false));
    }
}
