//! A PostgreSQL server of the test's own, on a socket in a directory of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Runs the server until its standard input ends, however this process ends, and removes everything.
const SCRIPT: &str = r#"
    set -eu
    PATH="$PATH:$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)"
    directory=$(mktemp -d /tmp/wharf-e2e-postgres.XXXXXX)
    trap 'rm -rf "$directory"' EXIT
    cd "$directory"
    initdb -D data -U wharf -A trust --no-sync -E UTF8 --locale=C >log 2>&1 || { cat log >&2; exit 1; }
    postgres -D data -c listen_addresses= -c unix_socket_directories="$directory" -c fsync=off >>log 2>&1 &
    server=$!
    tries=0
    until pg_isready -q -h "$directory"; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || { cat log >&2; exit 1; }
        sleep 0.05
    done
    echo "$directory"
    read -r _ || true
    kill -INT "$server"
    wait "$server" || true
"#;

/// The server.
#[derive(Debug)]
pub struct Postgres {
    /// Address of an empty database.
    pub url: String,
    shell: Child,
}

impl Postgres {
    /// Starts it. The server refuses to run as root, so it runs as Debian's user for it.
    pub fn start() -> Result<Self> {
        let mut shell = Command::new("setpriv")
            .args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", "sh", "-c", SCRIPT])
            .current_dir("/tmp")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start setpriv")?;
        let output = shell.stdout.take().context("take the shell's output")?;
        let mut directory = String::new();
        BufReader::new(output).read_line(&mut directory).context("wait for PostgreSQL")?;
        let directory = directory.trim_end();
        let server = Self { url: format!("postgres://wharf@localhost/postgres?host={directory}"), shell };
        ensure!(Path::new(directory).is_dir(), "PostgreSQL did not start (package postgresql)");
        Ok(server)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}
