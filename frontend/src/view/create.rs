//! The create form: what people typed, as a spec or as problems next to their fields.

use std::collections::BTreeMap;

use wharf_shared::container::{ContainerSpec, RestartPolicy};
use wharf_shared::id::TenantId;
use wharf_shared::network::PortMapping;
use wharf_shared::problem::FieldProblem;
use wharf_shared::volume::{VolumeMount, VolumeSource};

use super::{command, quantity};

/// The form as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    /// Image reference.
    pub(crate) image: String,
    /// Name, or empty.
    pub(crate) name: String,
    /// Tenant's id, or empty for one's own.
    pub(crate) tenant: String,
    /// Command line, or empty for the image's.
    pub(crate) command: String,
    /// Entrypoint, or empty for the image's.
    pub(crate) entrypoint: String,
    /// `KEY=value` a line.
    pub(crate) env: String,
    /// `key=value` a line.
    pub(crate) labels: String,
    /// `[[ip:]host:]container[/protocol]` a line.
    pub(crate) ports: String,
    /// `name:/path[:ro]` a line.
    pub(crate) volumes: String,
    /// User.
    pub(crate) user: String,
    /// Working directory.
    pub(crate) workdir: String,
    /// CPUs.
    pub(crate) cpus: String,
    /// Memory.
    pub(crate) memory: String,
    /// Processes.
    pub(crate) pids: String,
    /// One of [`RESTART`].
    pub(crate) restart: String,
    /// A pseudo-terminal and open standard input.
    pub(crate) terminal: bool,
    /// Read-only root.
    pub(crate) read_only: bool,
    /// Remove it when it has ended.
    pub(crate) auto_remove: bool,
}

/// Restart policies of the form and what they mean.
pub(crate) const RESTART: [(&str, &str); 4] = [
    ("no", "Never"),
    ("on-failure", "After a failure, at most 5 times in a row"),
    ("unless-stopped", "Always, unless stopped by hand"),
    ("always", "Always"),
];

/// The spec, and everything that is wrong with it.
pub(crate) fn spec(draft: &Draft) -> (ContainerSpec, Vec<FieldProblem>) {
    let mut problems = Vec::new();
    let mut spec = ContainerSpec {
        image: draft.image.trim().to_owned(),
        name: text(&draft.name),
        user: text(&draft.user),
        workdir: text(&draft.workdir),
        terminal: draft.terminal,
        stdin: draft.terminal,
        read_only: draft.read_only,
        auto_remove: draft.auto_remove,
        restart: match draft.restart.as_str() {
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => RestartPolicy::OnFailure { max_retries: 5 },
            _ => RestartPolicy::No,
        },
        ..ContainerSpec::default()
    };
    let mut keep = |field: &str, detail: String| {
        problems.push(FieldProblem { field: field.to_owned(), detail });
    };
    if !draft.tenant.is_empty() {
        match draft.tenant.parse::<TenantId>() {
            Ok(tenant) => spec.tenant = Some(tenant),
            Err(error) => keep("tenant", error.to_string()),
        }
    }
    for (field, typed, words) in [
        ("command", &draft.command, &mut spec.command),
        ("entrypoint", &draft.entrypoint, &mut spec.entrypoint),
    ] {
        match command::split(typed) {
            Ok(found) if found.is_empty() => {}
            Ok(found) => *words = Some(found),
            Err(detail) => keep(field, detail),
        }
    }
    for (field, typed, map) in
        [("env", &draft.env, &mut spec.env), ("labels", &draft.labels, &mut spec.labels)]
    {
        match pairs(typed) {
            Ok(found) => *map = found,
            Err(detail) => keep(field, detail),
        }
    }
    for line in lines(&draft.ports) {
        match line.parse::<PortMapping>() {
            Ok(port) => spec.ports.push(port),
            Err(detail) => keep("ports", detail),
        }
    }
    for line in lines(&draft.volumes) {
        match mount(line) {
            Ok(mount) => spec.volumes.push(mount),
            Err(detail) => keep("volumes", detail),
        }
    }
    if !draft.cpus.trim().is_empty() {
        match quantity::parse_cpus(&draft.cpus) {
            Ok(millis) => spec.limits.cpu_millis = Some(millis),
            Err(detail) => keep("limits.cpu_millis", detail),
        }
    }
    if !draft.memory.trim().is_empty() {
        match quantity::parse_bytes(&draft.memory) {
            Ok(bytes) => spec.limits.memory_bytes = Some(bytes),
            Err(detail) => keep("limits.memory_bytes", detail),
        }
    }
    if !draft.pids.trim().is_empty() {
        match draft.pids.trim().parse() {
            Ok(pids) => spec.limits.pids = Some(pids),
            Err(_) => keep("limits.pids", "a whole number is needed".to_owned()),
        }
    }
    problems.extend(spec.problems());
    (spec, problems)
}

/// What is wrong with a field of the form: problems of parts (`ports[1].host_port`) belong to it too.
pub(crate) fn of_field(problems: &[FieldProblem], field: &str) -> Option<String> {
    let belongs = |problem: &&FieldProblem| {
        problem.field.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
    };
    let found: Vec<&str> = problems.iter().filter(belongs).map(|problem| problem.detail.as_str()).collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// The request as the API takes it, without what is as it would be anyway.
pub(crate) fn as_json(spec: &ContainerSpec) -> String {
    use serde_json::Value;
    fn differing(value: Value, default: &Value) -> Option<Value> {
        match (value, default) {
            (value, default) if value == *default => None,
            (Value::Object(fields), Value::Object(defaults)) => {
                let kept = fields.into_iter().filter_map(|(key, value)| {
                    let default = defaults.get(&key).unwrap_or(&Value::Null);
                    differing(value, default).map(|value| (key, value))
                });
                Some(Value::Object(kept.collect()))
            }
            (value, _) => Some(value),
        }
    }
    let value = serde_json::to_value(spec).unwrap_or_default();
    let default = serde_json::to_value(ContainerSpec::default()).unwrap_or_default();
    let kept = differing(value, &default).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_json::to_string_pretty(&kept).unwrap_or_default()
}

/// The same as a command line.
pub(crate) fn as_command_line(spec: &ContainerSpec, tenant_name: &str) -> String {
    let mut words = vec!["wharf".to_owned(), "run".to_owned(), "-d".to_owned()];
    let mut flag = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if !tenant_name.is_empty() {
        flag("--tenant", tenant_name.to_owned());
    }
    if let Some(name) = &spec.name {
        flag("--name", name.clone());
    }
    for (key, value) in &spec.env {
        flag("-e", format!("{key}={value}"));
    }
    for (key, value) in &spec.labels {
        flag("-l", format!("{key}={value}"));
    }
    for port in &spec.ports {
        flag("-p", port.to_string());
    }
    for mount in &spec.volumes {
        let source = match &mount.source {
            VolumeSource::Volume(name) | VolumeSource::Host(name) => name.clone(),
            VolumeSource::Tmpfs(bytes) => format!("tmpfs={bytes}"),
        };
        let mode = if mount.read_only { ":ro" } else { "" };
        flag("-v", format!("{source}:{}{mode}", mount.target));
    }
    if let Some(millis) = spec.limits.cpu_millis {
        flag("--cpus", quantity::cpus(u64::from(millis)));
    }
    if let Some(bytes) = spec.limits.memory_bytes {
        flag("--memory", bytes.to_string());
    }
    words.push(if spec.image.is_empty() { "IMAGE".to_owned() } else { spec.image.clone() });
    words.extend(spec.command.iter().flatten().cloned());
    command::join(&words)
}

fn text(typed: &str) -> Option<String> {
    let typed = typed.trim();
    (!typed.is_empty()).then(|| typed.to_owned())
}

fn lines(typed: &str) -> impl Iterator<Item = &str> {
    typed.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn pairs(typed: &str) -> Result<BTreeMap<String, String>, String> {
    lines(typed)
        .map(|line| {
            let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?}: write NAME=value"))?;
            Ok((key.trim().to_owned(), value.to_owned()))
        })
        .collect()
}

fn mount(line: &str) -> Result<VolumeMount, String> {
    let bad =
        || format!("{line:?}: write name:/path, /host/path:/path or tmpfs=64m:/path, with :ro for read-only");
    let (line_rest, read_only) = line
        .strip_suffix(":ro")
        .map_or((line.strip_suffix(":rw").unwrap_or(line), false), |rest| (rest, true));
    let (source, target) = line_rest.split_once(':').ok_or_else(bad)?;
    let source = if let Some(size) = source.strip_prefix("tmpfs=") {
        VolumeSource::Tmpfs(quantity::parse_bytes(size)?)
    } else if source.starts_with('/') {
        VolumeSource::Host(source.to_owned())
    } else {
        VolumeSource::Volume(source.to_owned())
    };
    Ok(VolumeMount { source, target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            image: " busybox:1.36 ".to_owned(),
            command: "sh -c 'echo hi'".to_owned(),
            env: "A=1\n\nB=x=y\n".to_owned(),
            ports: "8080:80\n53/udp".to_owned(),
            volumes: "data:/data:ro\ntmpfs=64m:/tmp".to_owned(),
            cpus: "250m".to_owned(),
            memory: "64m".to_owned(),
            restart: "on-failure".to_owned(),
            ..Draft::default()
        }
    }

    #[test]
    fn a_typed_form_becomes_a_spec() {
        let (spec, problems) = spec(&draft());
        assert_eq!(problems, []);
        assert_eq!(spec.image, "busybox:1.36");
        assert_eq!(spec.command.as_deref().map(<[String]>::len), Some(3));
        assert_eq!(spec.env.get("B").map(String::as_str), Some("x=y"));
        assert_eq!(spec.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["8080:80/tcp", "53/udp"]);
        assert!(spec.volumes.iter().any(|mount| mount.read_only && mount.target == "/data"));
        assert_eq!((spec.limits.cpu_millis, spec.limits.memory_bytes), (Some(250), Some(67_108_864)));
    }

    #[test]
    fn each_problem_stands_at_its_field() {
        let (_, problems) = spec(&Draft {
            image: String::new(),
            memory: "1k".to_owned(),
            ports: "eighty\n1:1\n1:2".to_owned(),
            command: "'".to_owned(),
            volumes: "x".to_owned(),
            ..draft()
        });
        for field in ["image", "limits.memory_bytes", "ports", "command", "volumes"] {
            assert!(of_field(&problems, field).is_some(), "{field}: {problems:?}");
        }
        assert_eq!(of_field(&problems, "name"), None);
        assert!(of_field(&problems, "ports").is_some_and(|found| found.contains("given twice")));
    }

    #[test]
    fn the_request_leaves_out_what_is_the_default_and_reads_as_the_same_spec() {
        let (spec, _) = spec(&draft());
        let json = as_json(&spec);
        assert!(!json.contains("workdir") && json.contains("\"cpu_millis\": 250"), "{json}");
        assert_eq!(serde_json::from_str::<ContainerSpec>(&json).expect("a spec"), spec);
        assert_eq!(as_json(&ContainerSpec::default()), "{}");
    }

    #[test]
    fn the_command_line_says_the_same() {
        let (spec, _) = spec(&draft());
        assert_eq!(
            as_command_line(&spec, "acme"),
            "wharf run -d --tenant acme -e A=1 -e B=x=y -p 8080:80/tcp -p 53/udp -v data:/data:ro \
             -v tmpfs=67108864:/tmp --cpus 0.25 --memory 67108864 busybox:1.36 sh -c 'echo hi'"
        );
    }
}
