//! What operators may take away of a container's walls, and an init system that has walls of its own.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use wharf_e2e::{run, run_with};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::problem::ProblemKind;

/// Refuses to make directories, and nothing else.
const NO_MKDIR: &str = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
    {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;

/// Attacks: D12.
#[test]
fn no_tenant_takes_its_own_walls_away_and_who_may_is_written_down() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let member = world.member(&acme)?;
        for (more, named) in [
            (json!({ "privileged": true }), "privileged"),
            (json!({ "host_namespaces": ["pid"] }), "pid namespace"),
            (json!({ "host_namespaces": ["ipc"] }), "ipc namespace"),
            (json!({ "host_namespaces": ["uts"] }), "uts namespace"),
            (json!({ "host_namespaces": ["user"] }), "user namespace"),
            (json!({ "seccomp": "unconfined" }), "system calls"),
            (json!({ "seccomp": { "profile": NO_MKDIR } }), "seccomp profile"),
            (json!({ "apparmor": "unconfined" }), "AppArmor"),
        ] {
            let spec = world.spec(&acme, &["true"], more.clone())?;
            let refused = member.refused(Method::POST, "/containers", Some(&spec))?;
            assert_eq!(refused.kind, ProblemKind::Forbidden, "{more}: {refused}");
            ensure!(refused.detail.contains(named), "{more}: {refused}");
            // An operator may, and the trail says what was done.
            let view: ContainerView = world.api().post("/containers", &spec)?;
            let trail: Value = world.api().get("/audit?limit=1000")?;
            ensure!(trail.to_string().contains(named), "{more} is not in the trail");
            world.api().delete(&format!("/containers/{}", view.id))?;
        }
        for (more, field) in [
            (json!({ "host_namespaces": ["pid"], "init": true }), "init"),
            (json!({ "privileged": true, "system": true }), "system"),
            (json!({ "host_namespaces": ["uts"], "hostname": "mine" }), "hostname"),
            (json!({ "host_namespaces": ["ipc"], "sysctls": { "kernel.shmmax": "1" } }), "sysctls"),
            (json!({ "seccomp": { "profile": "{" } }), "seccomp"),
            (json!({ "seccomp": { "profile": NO_MKDIR.replace("mkdirat", "execve") } }), "execve"),
        ] {
            let spec = world.spec(&acme, &["true"], more.clone())?;
            let refused = world.api().refused(Method::POST, "/containers", Some(&spec))?;
            ensure!(refused.to_string().contains(field), "{more}: {refused}");
        }
        // A wall that this host does not have is not promised.
        let named = world.spec(&acme, &["true"], json!({ "apparmor": { "profile": "web" } }))?;
        let refused = member.refused(Method::POST, "/containers", Some(&named))?;
        assert_eq!(refused.kind, ProblemKind::Forbidden, "{refused}");
        if !Path::new("/sys/kernel/security/apparmor").exists() {
            let refused = world.api().refused(Method::POST, "/containers", Some(&named))?;
            ensure!(refused.to_string().contains("no AppArmor"), "{refused}");
        }
        world.no_container_is_left()
    })
}

#[test]
fn a_profile_holds_for_the_container_and_its_execs() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let file = world.dir().join("profile.json");
        fs::write(&file, NO_MKDIR)?;
        let option = format!("seccomp={}", file.display());
        let script = "mkdir /x 2>&1; touch /y && echo touched; exec sleep 1000";
        world.said(&["run", "-d", "--name", "it", "--security-opt", &option, &image, "sh", "-c", script])?;
        let refused = "mkdir: can't create directory '/x': Operation not supported\n";
        world
            .until("both were tried", || Ok(world.said(&["logs", "it"])? == format!("{refused}touched\n")))?;
        let output = world.wharf(&["exec", "it", "mkdir", "/z"])?;
        ensure!(!output.status.success(), "{output:?}");
        // Without any, what the default refuses goes on to the next wall.
        let script = "unshare -U true 2>&1";
        let default = world.wharf(&["run", "--rm", &image, "sh", "-c", script])?;
        ensure!(!default.status.success(), "{default:?}");
        let option = "seccomp=unconfined";
        world.said(&["run", "--rm", "--security-opt", option, &image, "sh", "-c", script])?;
        world.said(&["rm", "-f", "it"])?;
        world.no_container_is_left()
    })
}

#[test]
fn namespaces_of_the_host_are_the_host_s_and_the_others_are_not() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let own = |name: &str| fs::read_link(format!("/proc/self/ns/{name}"));
        for (option, name, implied) in [
            ("--pid", "pid", true),
            ("--ipc", "ipc", true),
            ("--uts", "uts", false),
            ("--userns", "user", true),
        ] {
            world.said(&["run", "-d", "--name", "it", option, "host", &image, "sleep", "1000"])?;
            // The first process and what joins it are in the same.
            for seen in [["exec", "it"].as_slice(), &["exec", "-w", "/", "it"]] {
                for other in ["pid", "ipc", "uts", "user", "mnt", "net"] {
                    let link = format!("/proc/self/ns/{other}");
                    let inside = world.said(&[seen, &["ls", "-l", &link]].concat())?;
                    let shared = inside.trim().ends_with(&*own(other)?.to_string_lossy());
                    let expected = other == name || implied && other == "user";
                    assert_eq!(shared, expected, "{option} host: {other}");
                }
            }
            let rows: Value = serde_json::from_str(&world.said(&["top", "it", "--json"])?)?;
            ensure!(rows.to_string().contains("sleep 1000"), "{option}: {rows}");
            // Whatever it leaves behind ends with it, in every namespace.
            world.said(&["exec", "it", "sh", "-c", "sleep 2000 >/dev/null 2>&1 &"])?;
            world.said(&["stop", "-t", "0", "it"])?;
            world.said(&["rm", "it"])?;
            world.no_container_is_left()?;
        }
        Ok(())
    })
}

#[test]
fn a_privileged_container_has_no_walls_but_its_limits() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let script = "
            grep CapEff /proc/self/status
            head -n1 /proc/self/uid_map | tr -s ' '
            mkdir /t && mount -t tmpfs none /t && echo mounted
            test -w /proc/sys/kernel/hostname && echo sysctls
            mknod /t/null c 1 3 && echo x >/t/null && echo node
            mkdir /sys/fs/cgroup/x 2>/dev/null || echo no cgroups
            test -b /dev/$DISK && echo disk";
        let disks = fs::read_dir("/sys/class/block")?.flatten().map(|entry| entry.file_name());
        let disk = disks.filter_map(|name| name.into_string().ok()).find(|name| {
            fs::symlink_metadata(format!("/dev/{name}"))
                .is_ok_and(|found| found.file_type().is_block_device())
        });
        let disk = format!("DISK={}", disk.context("this host has no block device")?);
        let run = ["run", "--rm", "--privileged", "-m", "64m", "-e", &disk, &image, "sh", "-c", script];
        let printed = world.said(&run)?;
        let lines: Vec<&str> = printed.lines().map(str::trim).collect();
        // All that this host's root has.
        let own = fs::read_to_string("/proc/self/status")?;
        let own = own.lines().find(|line| line.starts_with("CapEff")).context("capabilities")?;
        assert_eq!(lines, [own, "0 0 4294967295", "mounted", "sysctls", "node", "no cgroups", "disk"]);
        world.no_container_is_left()
    })
}

/// Attacks: B11.
#[test]
fn an_init_system_divides_its_own_cgroup_and_no_other() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let member = world.member(&acme)?;
        let limits = json!({ "memory_bytes": 256 << 20, "pids": 200 });
        let more = json!({ "image": world.debian()?, "name": "os", "system": true, "limits": limits });
        let spec = world.spec(&acme, &["/sbin/init"], more)?;
        let view: ContainerView = member.post("/containers?start=true", &spec)?;
        let id = view.id.as_str();
        world.container_until(id, "it runs", |view| view.state == ContainerState::Running)?;
        let run = |script: &str| -> Result<String> {
            let output = world.wharf(&["exec", "os", "sh", "-c", script])?;
            let text = [output.stdout, output.stderr].concat();
            Ok(String::from_utf8_lossy(&text).trim().to_owned())
        };
        let booted = world.until("systemd has started what it starts", || {
            Ok(matches!(run("systemctl is-system-running")?.as_str(), "running" | "degraded"))
        });
        booted.with_context(|| {
            let now: Result<ContainerView> = world.api().get(&format!("/containers/{id}"));
            format!(
                "{now:?}, {:?}, {:?}",
                world.logs(id),
                run("systemctl list-jobs; ps ax; journalctl -n 40")
            )
        })?;
        assert_eq!(run("cat /proc/1/comm")?, "systemd");
        let failed = run("systemctl --failed --plain --no-legend")?;
        // A service of its own, in a group of its own, is started, seen and stopped.
        let started = run("systemd-run --unit=mine --service-type=exec sleep 1000")?;
        ensure!(run("systemctl is-active mine")? == "active", "{started}; failed: {failed}");
        ensure!(run("cat /proc/$(pgrep -x sleep)/cgroup")?.contains("mine.service"));
        let rows: Value = serde_json::from_str(&world.said(&["top", "os", "--json"])?)?;
        ensure!(rows.to_string().contains("sleep 1000"), "{rows}");
        run("systemctl stop mine")?;
        ensure!(run("systemctl is-active mine")? != "active");
        // The limits above are not in its reach.
        let tried = run("for file in /sys/fs/cgroup/unified/*.max /sys/fs/cgroup/*.max \
             /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max; do \
             test -e $file && (echo max >$file) 2>/dev/null && echo $file; done; echo tried")?;
        assert_eq!(tried, "tried");
        let most = run("cd /sys/fs/cgroup/unified 2>/dev/null || cd /sys/fs/cgroup; \
             i=0; while mkdir x$i 2>/dev/null; do i=$((i+1)); test $i -gt 5000 && break; done; echo $i; rmdir x*")?;
        ensure!((1..5_000).contains(&most.parse::<u32>()?), "{most} groups could be made");

        // It is asked to halt in its own words, and all of it goes.
        let stopped: ContainerView = {
            world.api().act(&format!("/containers/{id}/stop"), &json!({ "grace_s": 60 }))?;
            world.ended(id)?
        };
        let exit = stopped.exit.context("an exit")?;
        ensure!(exit.signal != Some(9), "it had to be killed: {exit:?}");
        world.api().delete(&format!("/containers/{id}"))?;
        world.no_container_is_left()
    })
}

/// Attacks: C12.
#[test]
fn tenants_can_be_kept_from_sharing_an_image_s_files() -> Result<()> {
    run_with(&["containers.shared_layers=false"], |world| {
        // What one tenant's files on the disk are changed to, one tenant's containers read, and no other.
        let layers = world.state_dir().join("layers");
        let mut ids = Vec::new();
        for name in ["acme", "other"] {
            let tenant = world.tenant(name)?;
            let view = world.start(&tenant, &["sleep", "1000"], json!({ "name": name }))?;
            ids.push((tenant, view));
        }
        let own = |tenant: &str| -> Result<Vec<std::path::PathBuf>> {
            let found = fs::read_dir(&layers)?.flatten().map(|layer| layer.path().join("own").join(tenant));
            Ok(found.filter(|path| path.join("bin/busybox").exists()).collect())
        };
        for (tenant, _) in &ids {
            let found = own(tenant.id.as_str())?;
            assert_eq!(found.len(), 1, "{found:?}");
            fs::write(found[0].join("etc/whose"), &tenant.name)?;
        }
        for (tenant, view) in &ids {
            // A new start reads the directory anew.
            world.api().act(&format!("/containers/{}/restart", view.id), &json!({ "grace_s": 0 }))?;
            let seen = world.wharf(&["exec", view.id.as_str(), "cat", "/etc/whose"])?;
            assert_eq!(String::from_utf8_lossy(&seen.stdout), tenant.name, "{seen:?}");
        }
        let [one, other] =
            [0, 1].map(|at| own(ids[at].0.id.as_str()).map(|found| found[0].join("bin/busybox")));
        let inode = |path: &Path| fs::metadata(path).map(|found| std::os::unix::fs::MetadataExt::ino(&found));
        assert_ne!(inode(&one?)?, inode(&other?)?);
        // They go with their tenant.
        let (tenant, view) = &ids[0];
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        world.api().delete(&format!("/tenants/{}", tenant.id))?;
        assert_eq!(own(tenant.id.as_str())?, [] as [std::path::PathBuf; 0]);
        assert_eq!(own(ids[1].0.id.as_str())?.len(), 1);
        Ok(())
    })
}
