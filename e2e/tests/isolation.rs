//! What a tenant cannot do to the host and to other tenants.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::run;
use wharf_shared::container::ContainerView;
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::volume::VolumeView;

/// Attacks: D3, D7.
#[test]
fn root_in_a_container_is_nobody_on_the_host() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let other = world.tenant("other")?;
        ensure!(acme.id_base.abs_diff(other.id_base) >= 65_536, "ranges overlap");
        for tenant in [&acme, &other] {
            let script = "id -u; cat /proc/self/uid_map; exec sleep 1000";
            let view = world.start(tenant, &["sh", "-c", script], json!({}))?;
            world.until("the map is printed", || Ok(world.logs(view.id.as_str())?.lines().count() >= 2))?;
            let log = world.logs(view.id.as_str())?;
            let numbers: Vec<_> = log.split_whitespace().collect();
            assert_eq!(numbers, ["0", "0", &tenant.id_base.to_string(), "65536"]);
            let status = fs::read_to_string(format!("/proc/{}/status", view.pid.context("a pid")?))?;
            let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("a Uid line")?;
            for uid in uids.split_whitespace() {
                assert_eq!(uid, tenant.id_base.to_string());
            }
            for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
                ensure!(status.contains(line), "{line} is not in {status}");
            }
        }
        Ok(())
    })
}

/// Attacks: B11, B13.
#[test]
fn the_kernel_s_doors_are_shut() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "
            head -c 16 /proc/kcore 2>/dev/null | wc -c
            (echo h > /proc/sysrq-trigger) 2>/dev/null || echo no sysrq
            (echo 1 > /proc/sys/kernel/panic) 2>/dev/null || echo no sysctl
            mount -t tmpfs none /tmp 2>/dev/null || echo no mount
            hostname other 2>/dev/null || echo no hostname
            (echo x > /sys/kernel/uevent_helper) 2>/dev/null || echo no sysfs
            test -e /dev/sda -o -e /dev/vda -o -e /dev/mem && echo device || echo no devices
            test $(ls -d /proc/[0-9]* | wc -l) -lt 10 && echo own processes";
        let view = world.script(&tenant, script, json!({}))?;
        let log = world.logs(view.id.as_str())?;
        let wanted = [
            "0",
            "no sysrq",
            "no sysctl",
            "no mount",
            "no hostname",
            "no sysfs",
            "no devices",
            "own processes",
        ];
        assert_eq!(log.lines().map(str::trim).collect::<Vec<_>>(), wanted);
        Ok(())
    })
}

/// Attacks: D2, D12, H6.
#[test]
fn a_member_sees_and_changes_nothing_of_another_tenant() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let other = world.tenant("other")?;
        let mounts = json!({ "volumes": [{ "source": { "volume": "box" }, "target": "/data" }] });
        let view = world.start(&acme, &["sleep", "1000"], mounts)?;
        let volumes: Page<VolumeView> = world.api().get("/volumes")?;
        let volume = &volumes.items.first().context("a volume")?.id;
        let member = world.member(&other)?;
        let path = format!("/containers/{}", view.id);
        let exec = json!({ "command": ["id"] });
        let signal = json!({ "signal": "KILL" });
        let update = json!({ "name": "mine" });
        let none = json!({});
        let body = |method: Method, rest: &str, body: Option<&Value>| {
            let path = format!("{path}{rest}");
            let problem = member.refused(method, &path, body).with_context(|| path.clone())?;
            ensure!(problem.kind == ProblemKind::NotFound, "{path}: {problem}");
            Ok(())
        };
        body(Method::GET, "", None)?;
        body(Method::PATCH, "", Some(&update))?;
        body(Method::DELETE, "?force=true", None)?;
        body(Method::POST, "/start", None)?;
        body(Method::POST, "/stop", Some(&none))?;
        body(Method::POST, "/pause", None)?;
        body(Method::POST, "/kill", Some(&signal))?;
        body(Method::POST, "/exec", Some(&exec))?;
        body(Method::GET, "/logs", None)?;
        body(Method::GET, "/metrics", None)?;
        for path in [
            format!("/containers/{}", view.name),
            format!("/containers/{}", view.id.short()),
            format!("/volumes/{volume}"),
            "/volumes/box".to_owned(),
            format!("/tenants/{}", acme.id),
        ] {
            let problem = member.refused(Method::GET, &path, None)?;
            ensure!(problem.kind == ProblemKind::NotFound, "{path}: {problem}");
        }
        assert!(member.get::<Page<ContainerView>>("/containers?all=true")?.items.is_empty());
        assert!(member.get::<Page<VolumeView>>("/volumes")?.items.is_empty());
        let spec = world.spec(&acme, &["true"], json!({}))?;
        let problem = member.refused(Method::POST, "/containers", Some(&spec))?;
        ensure!(matches!(problem.kind, ProblemKind::NotFound | ProblemKind::Forbidden), "{problem}");

        // What only operators may ask for.
        let host_mount = json!({ "volumes": [{ "source": { "host": "/etc" }, "target": "/data" }] });
        for more in [host_mount, json!({ "network": "host" }), json!({ "cap_add": ["SYS_ADMIN"] })] {
            let spec = world.spec(&other, &["true"], more)?;
            let problem = member.refused(Method::POST, "/containers", Some(&spec))?;
            ensure!(problem.kind == ProblemKind::Forbidden, "{problem}");
        }
        let problem = world.stranger().refused(Method::GET, &path, None)?;
        assert_eq!(problem.kind, ProblemKind::Unauthenticated);
        assert!(world.process_runs(view.pid)?);
        Ok(())
    })
}
