//! What the agent is told at its start: a TOML file, then `WHARF__SECTION__KEY` in the environment, then flags.
//!
//! The later source wins. A key that nobody reads is refused with its name, wherever it came from:
//! a misspelt limit that is silently ignored is worse than an agent that does not start.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use wharf_shared::container::{Limits, LogLimits};

/// The file that is read when no other is named; it need not exist.
pub(crate) const DEFAULT_FILE: &str = "/etc/wharf/wharfd.toml";
/// What the environment's keys begin with.
const ENV_PREFIX: &str = "WHARF__";

/// All settings. Each has a default with which a single host works.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Every kernel name (cgroup root, bridges, nft table) derives from it, so that two agents can share a host.
    pub(crate) instance: String,
    /// Where the API listens.
    pub(crate) listen: SocketAddr,
    /// Durable state; `/var/lib/<instance>` when empty.
    pub(crate) state_dir: PathBuf,
    /// State that ends with the boot; `/run/<instance>` when empty.
    pub(crate) run_dir: PathBuf,
    /// The supervisor's executable; beside the agent's own when empty.
    pub(crate) shim: PathBuf,
    /// The control group, below the root of each hierarchy, in which that of the instance is made: one that the
    /// init system hands over, such as `wharf.slice/wharf-containers.service`. The root itself when empty.
    pub(crate) cgroup_parent: PathBuf,
    pub(crate) database: Database,
    pub(crate) tls: Tls,
    pub(crate) access: Access,
    pub(crate) registry: Registry,
    pub(crate) network: Network,
    pub(crate) containers: Containers,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) metering: Metering,
    pub(crate) billing: Billing,
    pub(crate) outbox: Outbox,
    pub(crate) budgets: Budgets,
    pub(crate) retention: Retention,
    pub(crate) log: Log,
}

/// Where rows are kept.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Database {
    /// `sqlite:…` or `postgres://…`; a file in the state directory when empty.
    pub(crate) url: String,
}

impl std::fmt::Debug for Database {
    /// The URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Database(hidden)")
    }
}

impl Database {
    /// The same, fit to be shown.
    pub(crate) fn without_password(&self) -> Self {
        let hidden = || {
            let (scheme, rest) = self.url.split_once("://")?;
            let (login, place) = rest.rsplit_once('@')?;
            let (user, _password) = login.split_once(':')?;
            Some(format!("{scheme}://{user}:***@{place}"))
        };
        Self { url: hidden().unwrap_or_else(|| self.url.clone()) }
    }
}

/// Whether the API speaks TLS, and with which certificate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) mode: TlsMode,
    /// PEM file with the certificate chain (`mode = "files"`).
    pub(crate) certificate: PathBuf,
    /// PEM file with the private key (`mode = "files"`).
    pub(crate) key: PathBuf,
    /// Further names and addresses of a generated certificate.
    pub(crate) names: Vec<String>,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TlsMode {
    /// Plain HTTP: only on loopback.
    #[default]
    Off,
    /// A self-signed certificate is made once and kept in the state directory; clients pin its fingerprint.
    Generate,
    /// One's own files.
    Files,
}

/// Who may talk to the API, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Access {
    /// Names in the Host header that are accepted besides loopback's and the listening address (where
    /// that is every address: besides any address and the machine's own name).
    pub(crate) allowed_hosts: Vec<String>,
    /// Origins of browsers that are accepted besides the agent's own, such as `https://wharf.example`.
    pub(crate) allowed_origins: Vec<String>,
    /// A browser session ends after so many idle minutes.
    pub(crate) session_idle_minutes: u32,
    /// A browser session ends after so many hours in any case.
    pub(crate) session_max_hours: u32,
    /// Changing requests a second that one tenant's members may send on average.
    pub(crate) tenant_changes_per_s: u32,
    /// Requests in work at once; more get 503.
    pub(crate) max_requests: u32,
    /// Open connections; more wait to be accepted.
    pub(crate) max_connections: u32,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            session_idle_minutes: 12 * 60,
            session_max_hours: 7 * 24,
            tenant_changes_per_s: 50,
            max_requests: 512,
            max_connections: 2_048,
        }
    }
}

/// Where images come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Registry {
    /// Hosts that are asked before docker.io itself.
    pub(crate) mirrors: Vec<String>,
    /// Registries (`host:port`) that are spoken to without TLS.
    pub(crate) insecure_hosts: Vec<String>,
    /// A registry that sends next to nothing for so many seconds is given up.
    pub(crate) stall_timeout_s: u32,
    /// A pull takes at most so many seconds in all.
    pub(crate) pull_timeout_s: u32,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            mirrors: Vec::new(),
            insecure_hosts: Vec::new(),
            stall_timeout_s: 60,
            pull_timeout_s: 6 * 60 * 60,
        }
    }
}

/// Addresses of containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Network {
    /// All tenants' addresses come from here.
    pub(crate) pool: Ipv4Net,
    /// Prefix length of one tenant's subnet.
    pub(crate) subnet_prefix: u8,
    /// Name servers of containers; the host's when empty.
    pub(crate) nameservers: Vec<IpAddr>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pool: Ipv4Net::new_assert(Ipv4Addr::new(10, 201, 0, 0), 16),
            subnet_prefix: 22,
            nameservers: Vec::new(),
        }
    }
}

/// What containers get when nothing else is asked for, and what they may leave on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Containers {
    /// Limits of a container that asks for none.
    pub(crate) limits: Limits,
    /// Bounds of the log of a container that asks for none.
    pub(crate) log: LogLimits,
    /// Devices of the host that members may give to their containers, such as `/dev/fuse`.
    pub(crate) allowed_devices: Vec<String>,
    /// First host user and group id of tenants' ranges.
    pub(crate) id_base: u32,
    /// Most bytes of an imported archive.
    pub(crate) import_max_bytes: u64,
    /// Most bytes of one unpacked layer.
    pub(crate) layer_max_bytes: u64,
    /// Tenants share the files of image layers on disk and in memory. Without it each tenant has copies of its
    /// own: that takes disk, memory and time at a first start, and closes a channel between tenants.
    pub(crate) shared_layers: bool,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            limits: Limits { pids: Some(512), ..Limits::default() },
            log: LogLimits::default(),
            allowed_devices: Vec::new(),
            id_base: 1_000_000_000,
            import_max_bytes: 16 << 30,
            layer_max_bytes: 32 << 30,
            shared_layers: true,
        }
    }
}

/// How containers are saved and restored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Checkpoints {
    /// CRIU's program, 4.1 or later; looked for in the usual places when empty.
    pub(crate) criu: PathBuf,
}

/// How often counters are read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Metering {
    /// For live views.
    pub(crate) live_interval_ms: u32,
    /// For the journal, from which usage is computed.
    pub(crate) journal_interval_ms: u32,
}

impl Default for Metering {
    fn default() -> Self {
        Self { live_interval_ms: 1_000, journal_interval_ms: 10_000 }
    }
}

/// What exports and statements say about who sells and where, and when statements are due.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Billing {
    /// Provider, publisher and issuer of invoices.
    pub(crate) provider: String,
    /// Id of the account that pays for all tenants.
    pub(crate) account_id: String,
    /// Its name.
    pub(crate) account_name: String,
    /// Where the host stands.
    pub(crate) region: String,
    /// Hours after a period's end in which late readings are waited for before a statement is issued.
    pub(crate) grace_hours: u32,
    /// Days in which a statement is to be paid, where no contract says otherwise.
    pub(crate) payment_days: u32,
}

impl Default for Billing {
    fn default() -> Self {
        Self {
            provider: "Wharfage".to_owned(),
            account_id: "default".to_owned(),
            account_name: "Default account".to_owned(),
            region: "local".to_owned(),
            grace_hours: 48,
            payment_days: 30,
        }
    }
}

/// Where events of usage are sent, as `CloudEvents`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Outbox {
    /// An endpoint that takes one event a POST, such as `https://openmeter.example/api/v1/events`; nothing is
    /// sent when empty.
    pub(crate) url: String,
    /// File with the token that is sent as `Authorization: Bearer`; none is sent when empty.
    pub(crate) token_file: PathBuf,
    /// An hour's events are sent so many seconds after its end; what comes later is an event of its own.
    pub(crate) settle_s: u32,
    /// Most events that wait; of more it is only counted how many there were.
    pub(crate) max_events: u64,
    /// An answer that does not come in so many seconds is none.
    pub(crate) timeout_s: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            url: String::new(),
            token_file: PathBuf::new(),
            settle_s: 300,
            max_events: 1_000_000,
            timeout_s: 30,
        }
    }
}

/// What budgets may do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Budgets {
    /// Hosts that webhooks may be sent to, as they are written in addresses; any when empty. Whoever may set a
    /// budget has the agent ask what they name, from where it stands.
    pub(crate) webhook_hosts: Vec<String>,
}

/// How long records that only grow are kept; 0 is for ever. Usage and its readings always stay.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    /// Events so many days old go.
    pub(crate) events_days: u32,
    /// Most events that are kept.
    pub(crate) events_max: u32,
    /// Audit entries so many days old go.
    pub(crate) audit_days: u32,
    /// Most audit entries that are kept.
    pub(crate) audit_max: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 90, events_max: 1_000_000, audit_days: 730, audit_max: 0 }
    }
}

/// The agent's own log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// As tracing-subscriber's `EnvFilter` reads it.
    pub(crate) filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info,sqlx=warn".to_owned() }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: "wharf".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            state_dir: PathBuf::new(),
            run_dir: PathBuf::new(),
            shim: PathBuf::new(),
            cgroup_parent: PathBuf::new(),
            database: Database::default(),
            tls: Tls::default(),
            access: Access::default(),
            registry: Registry::default(),
            network: Network::default(),
            containers: Containers::default(),
            checkpoints: Checkpoints::default(),
            metering: Metering::default(),
            billing: Billing::default(),
            outbox: Outbox::default(),
            budgets: Budgets::default(),
            retention: Retention::default(),
            log: Log::default(),
        }
    }
}

/// Flags that set what the file and the environment can set too.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(crate) listen: Option<SocketAddr>,
    /// Directory of durable state
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Directory of state that ends with the boot
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Name from which every kernel name derives
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) instance: Option<String>,
    /// Any other setting, such as `metering.journal_interval_ms=5000`
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", global = true)]
    pub(crate) set: Vec<String>,
}

impl ConfigArgs {
    /// Whether no flag was given.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { config, listen, state_dir, run_dir, instance, set } = self;
        config.is_none()
            && listen.is_none()
            && state_dir.is_none()
            && run_dir.is_none()
            && instance.is_none()
            && set.is_empty()
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("read configuration file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {} is not acceptable", path.display())]
    File { path: PathBuf, source: Box<toml::de::Error> },
    #[error("the setting {key} from {origin} is not acceptable")]
    Setting { key: String, origin: &'static str, source: Box<toml::de::Error> },
    #[error("{given:?} is no setting; write section.key=value")]
    NoSetting { given: String },
    #[error("the environment variable {name} is not UTF-8")]
    NotUtf8 { name: String },
    #[error("the settings together are not acceptable")]
    Whole { source: Box<toml::de::Error> },
    #[error("{key}: {reason}")]
    Value { key: &'static str, reason: String },
}

impl Config {
    /// Reads file, environment and flags, in this order.
    pub(crate) fn load(
        args: &ConfigArgs,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut table = match &args.config {
            Some(path) => read_file(path)?,
            None if Path::new(DEFAULT_FILE).exists() => read_file(Path::new(DEFAULT_FILE))?,
            None => toml::Table::new(),
        };
        for (name, value) in environment {
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(ENV_PREFIX)) else { continue };
            let key: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
            let not_utf8 = || ConfigError::NotUtf8 { name: name.to_string_lossy().into() };
            let value = value.into_string().ok().ok_or_else(not_utf8)?;
            put(&mut table, &key, &value, "the environment")?;
        }
        for given in &args.set {
            let (key, value) =
                given.split_once('=').ok_or_else(|| ConfigError::NoSetting { given: given.clone() })?;
            let key: Vec<String> = key.split('.').map(str::to_owned).collect();
            put(&mut table, &key, value, "a flag")?;
        }
        let mut config: Self = toml::Value::Table(table)
            .try_into()
            .map_err(|source| ConfigError::Whole { source: Box::new(source) })?;
        if let Some(listen) = args.listen {
            config.listen = listen;
        }
        for (flag, setting) in
            [(&args.state_dir, &mut config.state_dir), (&args.run_dir, &mut config.run_dir)]
        {
            if let Some(path) = flag {
                setting.clone_from(path);
            }
        }
        if let Some(instance) = &args.instance {
            config.instance.clone_from(instance);
        }
        config.complete()
    }

    /// Reads the text of a file, and nothing else.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|source| ConfigError::Whole { source: Box::new(source) })?;
        config.complete()
    }

    /// The control group above those of the tenants, below the root of each hierarchy.
    pub(crate) fn cgroup_root(&self) -> PathBuf {
        self.cgroup_parent.join(&self.instance)
    }

    /// The database: the one that is named, or a file in the state directory.
    pub(crate) fn database_url(&self) -> String {
        if self.database.url.is_empty() {
            format!("sqlite://{}", self.state_dir.join("wharf.db").display())
        } else {
            self.database.url.clone()
        }
    }

    /// Fills in what derives from the instance's name, and checks what types cannot.
    fn complete(mut self) -> Result<Self, ConfigError> {
        let refuse = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        let name_is_good = (1..=10).contains(&self.instance.len())
            && self.instance.starts_with(|first: char| first.is_ascii_lowercase())
            && self.instance.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !name_is_good {
            return refuse("instance", "1 to 10 characters from a-z and 0-9, a letter first");
        }
        if self.state_dir.as_os_str().is_empty() {
            self.state_dir = Path::new("/var/lib").join(&self.instance);
        }
        if self.run_dir.as_os_str().is_empty() {
            self.run_dir = Path::new("/run").join(&self.instance);
        }
        for (key, path) in [("state_dir", &self.state_dir), ("run_dir", &self.run_dir)] {
            if !path.is_absolute() {
                return refuse(key, "an absolute path is needed");
            }
        }
        if !self.cgroup_parent.components().all(|part| matches!(part, Component::Normal(_))) {
            return refuse("cgroup_parent", "a path below the root of a hierarchy, without . and ..");
        }
        if self.tls.mode == TlsMode::Files
            && (self.tls.certificate.as_os_str().is_empty() || self.tls.key.as_os_str().is_empty())
        {
            return refuse("tls.mode", "with \"files\", tls.certificate and tls.key are needed");
        }
        if self.tls.mode == TlsMode::Off && !self.listen.ip().is_loopback() {
            return refuse(
                "listen",
                "without TLS the agent listens on loopback only; set tls.mode = \"generate\" or \"files\"",
            );
        }
        for origin in &self.access.allowed_origins {
            if !(origin.starts_with("https://") || origin.starts_with("http://")) || origin.ends_with('/') {
                return refuse("access.allowed_origins", "write scheme://host[:port], nothing after it");
            }
        }
        if !(self.network.pool.prefix_len()..=29).contains(&self.network.subnet_prefix) {
            return refuse("network.subnet_prefix", "between the pool's own prefix and 29");
        }
        if self.containers.id_base < 65_536 {
            return refuse("containers.id_base", "at least 65536: lower ids are the host's own");
        }
        if self.metering.live_interval_ms < 100 || self.metering.journal_interval_ms < 100 {
            return refuse("metering", "an interval has at least 100 ms");
        }
        if self.registry.stall_timeout_s == 0 || self.registry.pull_timeout_s == 0 {
            return refuse("registry", "a time limit of 0 would let no pull succeed");
        }
        let billing = &self.billing;
        for (key, text) in [
            ("billing.provider", &billing.provider),
            ("billing.account_id", &billing.account_id),
            ("billing.account_name", &billing.account_name),
            ("billing.region", &billing.region),
        ] {
            let plain = |byte: char| byte.is_ascii_alphanumeric() || matches!(byte, ' ' | '.' | '_' | '-');
            if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) || !text.chars().all(plain) {
                return refuse(key, "letters, digits, spaces and ._- only, a letter or digit first");
            }
        }
        if self.access.max_requests == 0
            || self.access.max_connections == 0
            || self.access.tenant_changes_per_s == 0
        {
            return refuse("access", "a bound of 0 would refuse everything");
        }
        Ok(self)
    }
}

fn read_file(path: &Path) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let refuse = |source| ConfigError::File { path: path.to_owned(), source: Box::new(source) };
    // Read once as settings: these errors name line and key.
    toml::from_str::<Config>(&text).map_err(refuse)?;
    toml::from_str(&text).map_err(refuse)
}

/// Puts one setting into the table and tries the whole, so that an error names the setting that caused it.
fn put(table: &mut toml::Table, key: &[String], text: &str, origin: &'static str) -> Result<(), ConfigError> {
    let no_setting = || ConfigError::NoSetting { given: key.join(".") };
    let (last, sections) = key.split_last().ok_or_else(no_setting)?;
    let mut inner = &mut *table;
    for section in sections {
        inner = inner
            .entry(section.clone())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(no_setting)?;
    }
    // `true`, `5` and `["a"]` mean what they mean in the file; anything else is text.
    let value = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()));
    inner.insert(last.clone(), value);
    toml::Value::Table(table.clone()).try_into::<Config>().map(drop).map_err(|source| ConfigError::Setting {
        key: key.join("."),
        origin,
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn load(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("wharfd.toml");
        std::fs::write(&path, file).expect("the file is written");
        let args = ConfigArgs {
            config: Some(path),
            set: set.iter().map(|&text| text.to_owned()).collect(),
            ..ConfigArgs::default()
        };
        let environment = environment.iter().map(|&(name, value)| (name.into(), value.into()));
        Config::load(&args, environment).map_err(|error| chain(&error))
    }

    #[test]
    fn the_empty_file_gives_a_working_single_host() {
        let config = load("", &[], &[]).expect("defaults are good");
        assert!(config.listen.ip().is_loopback());
        assert_eq!(config.state_dir, Path::new("/var/lib/wharf"));
        assert_eq!(config.run_dir, Path::new("/run/wharf"));
        assert_eq!(config.database_url(), "sqlite:///var/lib/wharf/wharf.db");
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let file = "[metering]\njournal_interval_ms = 1000\nlive_interval_ms = 1001";
        let environment =
            [("WHARF__METERING__JOURNAL_INTERVAL_MS", "2000"), ("HOME", "/root"), ("WHARF__INSTANCE", "two")];
        let config = load(file, &environment, &["metering.journal_interval_ms=3000"]).expect("good");
        assert_eq!(config.metering.journal_interval_ms, 3000);
        assert_eq!(config.metering.live_interval_ms, 1001);
        assert_eq!(config.run_dir, Path::new("/run/two"));
    }

    #[test]
    fn lists_come_from_the_environment_as_toml() {
        let config =
            load("", &[("WHARF__REGISTRY__INSECURE_HOSTS", r#"["localhost:5000"]"#)], &[]).expect("good");
        assert_eq!(config.registry.insecure_hosts, ["localhost:5000"]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_name_wherever_it_comes_from() {
        let file = load("[metering]\njurnal_ms = 1", &[], &[]).expect_err("unknown in the file");
        assert!(file.contains("jurnal_ms") && file.contains("line 2"), "{file}");
        let environment =
            load("", &[("WHARF__METERNG__LIVE_INTERVAL_MS", "5")], &[]).expect_err("unknown section");
        assert!(environment.contains("meterng") && environment.contains("environment"), "{environment}");
        let flag = load("", &[], &["access.allowed_host=a"]).expect_err("unknown flag");
        assert!(flag.contains("access.allowed_host") && flag.contains("a flag"), "{flag}");
        assert!(load("", &[], &["nonsense"]).is_err());
    }

    #[test]
    fn a_wrong_type_is_refused() {
        assert!(load("", &[("WHARF__METERING__LIVE_INTERVAL_MS", "soon")], &[]).is_err());
        assert!(load("listen = 8080", &[], &[]).is_err());
    }

    #[test]
    fn plain_http_is_refused_outside_loopback() {
        let error = load("listen = \"0.0.0.0:8080\"", &[], &[]).expect_err("no open door");
        assert!(error.contains("tls.mode"), "{error}");
        assert!(load("listen = \"0.0.0.0:8080\"\n[tls]\nmode = \"generate\"", &[], &[]).is_ok());
    }

    #[test]
    fn the_group_of_the_instance_is_below_the_one_that_was_handed_over() {
        let root = |file: &str| load(file, &[], &[]).map(|config| config.cgroup_root());
        assert_eq!(root("").expect("good"), Path::new("wharf"));
        assert_eq!(root("cgroup_parent = \"a.slice/b\"").expect("good"), Path::new("a.slice/b/wharf"));
        for bad in ["/a", "../a", "a/../b"] {
            assert!(root(&format!("cgroup_parent = {bad:?}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let shown = |url: &str| Database { url: url.to_owned() }.without_password().url;
        assert_eq!(shown("postgres://wharf:s3cret@db/wharf"), "postgres://wharf:***@db/wharf");
        assert_eq!(shown("sqlite:///var/lib/wharf/wharf.db"), "sqlite:///var/lib/wharf/wharf.db");
    }

    #[test]
    fn an_instance_that_cannot_name_a_bridge_is_refused() {
        for bad in ["", "Wharf", "9a", "a-b", "a/b", "abcdefghijk"] {
            assert!(load(&format!("instance = {bad:?}"), &[], &[]).is_err(), "{bad}");
        }
    }
}
