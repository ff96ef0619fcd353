//! Databases to test on. PostgreSQL is a private cluster on a socket in a directory of its own, or the
//! server of `WHARF_TEST_POSTGRES` (a URL whose user may create databases).

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use wharf_store::{Db, Scope, tenants};

/// An empty database.
pub(crate) struct Database {
    pub(crate) db: Db,
    _directory: Option<TempDir>,
    name: String,
}

impl Database {
    pub(crate) async fn remove(self) {
        self.db.close().await;
        administer(&format!("DROP DATABASE {}", self.name)).await;
    }
}

pub(crate) async fn sqlite() -> Database {
    let directory = TempDir::new().expect("a directory");
    let url = format!("sqlite:{}/new/store.db", directory.path().display());
    let db = Db::connect(&url).await.expect("an empty store");
    Database { db, _directory: Some(directory), name: String::new() }
}

pub(crate) async fn postgres() -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("wharf_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    administer(&format!("CREATE DATABASE {name}")).await;
    let db = Db::connect(&url_of(&name)).await.expect("an empty store");
    Database { db, _directory: None, name }
}

async fn administer(sql: &str) {
    let mut connection = PgConnection::connect(&url_of("postgres")).await.expect("a server");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect(sql);
    connection.close().await.expect("closes");
}

fn url_of(database: &str) -> String {
    let server = server_url();
    let (address, options) = server.split_once('?').unwrap_or((server, ""));
    let (address, _) = address.rsplit_once('/').expect("a URL that names a database");
    format!("{address}/{database}?{options}")
}

fn server_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| std::env::var("WHARF_TEST_POSTGRES").unwrap_or_else(|_| Cluster::start().url))
}

/// A private cluster. Its shell waits for the end of its standard input, which comes however this
/// process ends, and then stops the server and removes the directory.
struct Cluster {
    url: String,
}

impl Cluster {
    const SCRIPT: &str = r#"
        set -eu
        PATH="$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)"
        directory=$(mktemp -d /tmp/wharf-postgres.XXXXXX)
        trap 'rm -rf "$directory"' EXIT
        cd "$directory"
        initdb -D data -U wharf -A trust --no-sync -E UTF8 --locale=C >log 2>&1 || { cat log >&2; exit 1; }
        postgres -D data -c listen_addresses= -c unix_socket_directories="$directory" -c fsync=off \
            -c max_connections=300 >>log 2>&1 &
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

    fn start() -> Self {
        static RUNNING: OnceLock<Child> = OnceLock::new();
        let shell = ["sh", "-c", Self::SCRIPT];
        // The server refuses to run as root.
        let mut command = if is_root() {
            let user = if has_user("postgres") { "postgres" } else { "nobody" };
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", &group_of(user), "--clear-groups", "--"]).args(shell);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(shell.iter().skip(1));
            command
        };
        let child = command.current_dir("/tmp").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("sh and setpriv are there");
        let mut directory = String::new();
        let output = child.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut directory).expect("an answer");
        let directory = directory.trim_end();
        assert!(
            Path::new(directory).is_dir(),
            "PostgreSQL 13 or newer (initdb, postgres) is needed: {directory:?}"
        );
        RUNNING.set(child).expect("one cluster a process");
        Self { url: format!("postgres://wharf@localhost/postgres?host={directory}") }
    }
}

fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().expect("coreutils are there");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn is_root() -> bool {
    output_of("id", &["-u"]).as_deref() == Some("0")
}

fn has_user(name: &str) -> bool {
    output_of("id", &["-u", name]).is_some()
}

fn group_of(user: &str) -> String {
    output_of("id", &["-g", user]).expect("the user exists")
}

pub(crate) async fn every_statement_is_valid(db: Db) {
    assert!(db.check_statements().await.expect("all are valid") > 50);
}

pub(crate) async fn a_dropped_transaction_leaves_no_trace(db: Db) {
    let mut tx = db.begin().await.expect("begins");
    let new = tenants::NewTenant {
        id: super::id("tnt"),
        name: "gone".to_owned(),
        quota: wharf_shared::tenant::Quota::default(),
        created_at: super::NOW,
    };
    tenants::insert(&mut tx, &new, &tenants::TenantRanges::default()).await.expect("made");
    drop(tx);
    let mut tx = db.read().await.expect("begins");
    assert_eq!(tenants::find(&mut tx, &Scope::All, "gone").await.expect("reads"), None);
    assert!(
        tenants::insert(&mut tx, &new, &tenants::TenantRanges::default()).await.is_err(),
        "a reading transaction cannot write"
    );
}
