//! The command line of `wharf oci`, as callers of OCI runtimes write it.

use std::path::PathBuf;

/// What can be asked.
pub(super) const USAGE: &str = "usage: wharf oci [--root DIR] [--log FILE] [--log-format text|json] COMMAND
  run     [--bundle DIR] [--cgroup PATH] [--overlay DIR] [--detach] [--pid-file FILE]
          [--console-socket SOCKET] ID
  create  [the same, but for --detach] ID
  start   ID
  state   ID
  kill    [--all] ID [SIGNAL]
  delete  [--force] ID
  exec    [--process FILE | [--tty] [--cwd DIR] [--env KEY=VALUE] [--user UID[:GID]]]
          [--detach] [--pid-file FILE] [--console-socket SOCKET] ID [COMMAND ...]
  list";

/// Where containers are known, unless the caller says otherwise.
const DEFAULT_ROOT: &str = "/run/wharf-oci";

/// A whole command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) root: PathBuf,
    pub(super) log: Option<PathBuf>,
    pub(super) log_json: bool,
    pub(super) command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Run(Make),
    Create(Make),
    Start { id: String },
    State { id: String },
    Kill { id: String, signal: String, all: bool },
    Delete { id: String, force: bool },
    Exec(Exec),
    List,
    Help,
}

/// How to make a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Make {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) cgroup: Option<String>,
    pub(super) overlay: Option<PathBuf>,
    pub(super) detach: bool,
    pub(super) place: Reported,
}

/// Where a new process is told of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) pid_file: Option<PathBuf>,
    pub(super) console_socket: Option<PathBuf>,
}

/// How to run a further process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exec {
    pub(super) id: String,
    pub(super) process: Option<PathBuf>,
    pub(super) args: Vec<String>,
    pub(super) cwd: Option<String>,
    pub(super) env: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) terminal: bool,
    pub(super) detach: bool,
    pub(super) place: Reported,
}

/// Options and what follows them.
struct Words<'all> {
    rest: std::slice::Iter<'all, String>,
    /// The value of the option that was read last, if it came with `=`.
    value: Option<String>,
}

impl Words<'_> {
    /// The next option, without its dashes and value; `None` when there are no more.
    fn option(&mut self) -> Option<String> {
        let next = self.rest.as_slice().first()?;
        if !next.starts_with('-') || next == "-" {
            return None;
        }
        self.rest.next();
        if next == "--" {
            return None;
        }
        let name = next.trim_start_matches('-');
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        self.value = value;
        Some(name.to_owned())
    }

    fn value(&mut self, option: &str) -> Result<String, String> {
        let value = self.value.take().or_else(|| self.rest.next().cloned());
        value.ok_or_else(|| format!("the option {option} needs a value"))
    }

    fn id(&mut self) -> Result<String, String> {
        let id = self.rest.next().ok_or_else(|| "the container's id is missing".to_owned())?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
        // It becomes a name of directories.
        let good = (1..=255).contains(&id.len())
            && id.bytes().all(plain)
            && id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if good { Ok(id.clone()) } else { Err(format!("{id:?} cannot be a container's id")) }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(format!("{word:?} is one word too many")),
        }
    }
}

/// Reads a command line, without the program's name.
pub(super) fn parse(arguments: &[String]) -> Result<Arguments, String> {
    let mut words = Words { rest: arguments.iter(), value: None };
    let (mut root, mut log, mut log_json) = (PathBuf::from(DEFAULT_ROOT), None, false);
    while let Some(option) = words.option() {
        match option.as_str() {
            "root" => root = words.value("--root")?.into(),
            "log" => log = Some(words.value("--log")?.into()),
            "log-format" => log_json = words.value("--log-format")? == "json",
            // More than an error there is not to tell.
            "debug" => {}
            "help" | "h" => return Ok(Arguments { root, log, log_json, command: Command::Help }),
            other => return Err(format!("there is no option --{other}")),
        }
    }
    let name = words.rest.next().cloned().ok_or_else(|| "the command is missing".to_owned())?;
    let command = match name.as_str() {
        "run" => Command::Run(make(&mut words)?),
        "create" => Command::Create(make(&mut words)?),
        "exec" => Command::Exec(exec(&mut words)?),
        "help" => Command::Help,
        _ => simple(&name, &mut words)?,
    };
    Ok(Arguments { root, log, log_json, command })
}

fn make(words: &mut Words<'_>) -> Result<Make, String> {
    let mut make = Make { bundle: PathBuf::from("."), ..Make::default() };
    while let Some(option) = words.option() {
        match option.as_str() {
            "bundle" | "b" => make.bundle = words.value("--bundle")?.into(),
            "cgroup" => make.cgroup = Some(words.value("--cgroup")?),
            "overlay" => make.overlay = Some(words.value("--overlay")?.into()),
            "detach" | "d" => make.detach = true,
            other => reported(other, words, &mut make.place)?,
        }
    }
    make.id = words.id()?;
    words.end()?;
    Ok(make)
}

fn reported(option: &str, words: &mut Words<'_>, place: &mut Reported) -> Result<(), String> {
    match option {
        "pid-file" => place.pid_file = Some(words.value("--pid-file")?.into()),
        "console-socket" => place.console_socket = Some(words.value("--console-socket")?.into()),
        other => return Err(format!("there is no option --{other}")),
    }
    Ok(())
}

fn exec(words: &mut Words<'_>) -> Result<Exec, String> {
    let mut exec = Exec::default();
    while let Some(option) = words.option() {
        match option.as_str() {
            "process" | "p" => exec.process = Some(words.value("--process")?.into()),
            "cwd" => exec.cwd = Some(words.value("--cwd")?),
            "env" | "e" => exec.env.push(words.value("--env")?),
            "user" | "u" => exec.user = Some(words.value("--user")?),
            "tty" | "t" => exec.terminal = true,
            "detach" | "d" => exec.detach = true,
            other => reported(other, words, &mut exec.place)?,
        }
    }
    exec.id = words.id()?;
    exec.args = words.rest.by_ref().cloned().collect();
    if exec.process.is_some() == exec.args.is_empty() {
        return Ok(exec);
    }
    Err("a command is needed, or --process, not both".to_owned())
}

fn simple(name: &str, words: &mut Words<'_>) -> Result<Command, String> {
    let (mut all, mut force) = (false, false);
    while let Some(option) = words.option() {
        match (name, option.as_str()) {
            ("kill", "all" | "a") => all = true,
            ("delete", "force" | "f") => force = true,
            (_, other) => return Err(format!("there is no option --{other}")),
        }
    }
    let command = match name {
        "start" => Command::Start { id: words.id()? },
        "state" => Command::State { id: words.id()? },
        "delete" => Command::Delete { id: words.id()?, force },
        "kill" => {
            let id = words.id()?;
            let signal = words.rest.next().cloned().unwrap_or_else(|| "TERM".to_owned());
            Command::Kill { id, signal, all }
        }
        "list" => Command::List,
        other => return Err(format!("there is no command {other:?}")),
    };
    words.end()?;
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn options_take_their_value_either_way() {
        for line in ["--root /r run --bundle /b --overlay /o one", "--root=/r run -b /b --overlay=/o one"] {
            let arguments = read(line).expect(line);
            assert_eq!(arguments.root, PathBuf::from("/r"));
            let make =
                Make { id: "one".into(), bundle: "/b".into(), overlay: Some("/o".into()), ..Make::default() };
            assert_eq!(arguments.command, Command::Run(make), "{line}");
        }
    }

    #[test]
    fn the_words_of_an_exec_are_its_own() {
        let Command::Exec(exec) = read("exec --user 1:2 -t one ls -l --all").expect("exec").command else {
            panic!("not an exec")
        };
        assert_eq!(exec.args, ["ls", "-l", "--all"]);
        assert_eq!((exec.user.as_deref(), exec.terminal), (Some("1:2"), true));
    }

    #[test]
    fn a_kill_has_a_signal_also_without_saying() {
        let expected = |signal: &str| Command::Kill { id: "one".into(), signal: signal.into(), all: false };
        assert_eq!(read("kill one").expect("kill").command, expected("TERM"));
        assert_eq!(read("kill one KILL").expect("kill").command, expected("KILL"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "",
            "fly",
            "run",
            "run ../x",
            "run .x",
            "run a/b",
            "run one two",
            "run --fly one",
            "run --bundle",
            "exec one",
            "exec --process /p one ls",
            "delete --all one",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
