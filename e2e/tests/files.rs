//! A container's files: what it changed, all of them, an image of them.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use wharf_e2e::run;
use wharf_shared::container::{ChangeKind, ChangesView, ContainerState, ContainerView};
use wharf_shared::image::ImageView;
use wharf_shared::problem::ProblemKind;

#[test]
fn what_a_container_changed_is_told_exported_and_made_an_image() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let api = world.api();
        let script = "echo mine >/new; rm /etc/passwd; mkdir -p /deep/er; echo x >/deep/er/x; \
                      adduser -D nobody2 2>/dev/null; chown 33:44 /new; echo ready; exec sleep 1000";
        let view = world.start(&tenant, &["sh", "-c", script], json!({ "name": "made" }))?;
        world.logged(view.id.as_str(), "ready\n")?;
        let path = format!("/containers/{}", view.id);

        let changes: ChangesView = api.get(&format!("{path}/changes"))?;
        let kind = |path: &str| changes.changes.iter().find(|change| change.path == path).map(|c| c.kind);
        assert_eq!(kind("/new"), Some(ChangeKind::Added));
        assert_eq!(kind("/etc/passwd"), Some(ChangeKind::Deleted));
        assert_eq!(kind("/etc"), Some(ChangeKind::Changed));
        assert_eq!(kind("/deep/er/x"), Some(ChangeKind::Added));
        for place in ["/proc", "/dev", "/etc/hosts"] {
            assert_eq!(kind(place), None, "{place} is the runtime's");
        }

        // Running, then paused, then stopped: the same archive, which GNU tar reads.
        let listing = |name: &str| -> Result<String> {
            let file = world.dir().join(name);
            std::fs::write(&file, api.download(&format!("{path}/export"))?)?;
            let listed = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&file).output()?;
            ensure!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            Ok(String::from_utf8(listed.stdout)?)
        };
        let running = listing("running.tar")?;
        ensure!(running.lines().any(|line| line.contains(" 33/44 ") && line.ends_with(" new")), "{running}");
        ensure!(!running.contains("etc/passwd") && running.contains("bin/busybox"), "{running}");

        // Another tenant has none of it.
        let other = world.tenant("other")?;
        let member = world.member(&other)?;
        for rest in ["changes", "export"] {
            let refused = member.refused(Method::GET, &format!("{path}/{rest}"), None)?;
            assert_eq!(refused.kind, ProblemKind::NotFound, "{rest}");
        }

        let commit = json!({
            "reference": "made:1", "author": "somebody", "message": "a remark",
            "command": ["cat", "/new"], "env": { "COLOUR": "blue" },
        });
        let image: ImageView = api.post(&format!("{path}/commit"), &commit)?;
        assert_eq!((image.reference.as_str(), &image.tenant), ("made:1", &tenant.id));
        let after: ContainerView = api.get(&path)?;
        assert_eq!((after.state, after.pid), (ContainerState::Running, view.pid), "it goes on");
        api.act(&format!("{path}/stop"), &json!({ "grace_s": 0 }))?;
        assert_eq!(listing("stopped.tar")?, running);

        // The image runs as one from anywhere, and outlives what it was made of.
        api.delete(&path)?;
        let spec = json!({ "image": "made:1", "tenant": tenant.id });
        let made: ContainerView = api.post("/containers?start=true", &spec)?;
        let ended = world.ended(made.id.as_str())?;
        assert_eq!(ended.exit.context("an exit")?.code, Some(0));
        assert_eq!(world.logs(made.id.as_str())?, "mine\n");
        let spec = json!({
            "image": "made:1", "tenant": tenant.id,
            "command": ["sh", "-c", "echo $COLOUR; test -e /etc/passwd || echo gone; stat -c %u:%g /new"],
        });
        let made: ContainerView = api.post("/containers?start=true", &spec)?;
        world.ended(made.id.as_str())?;
        assert_eq!(world.logs(made.id.as_str())?, "blue\ngone\n33:44\n");

        // An export is an image again.
        let archive = std::fs::read(world.dir().join("stopped.tar"))?;
        let query = format!("reference=again:1&tenant={}", tenant.id);
        let _: Vec<ImageView> = api.import(&query, archive)?;
        let spec = json!({ "image": "again:1", "tenant": tenant.id, "command": ["cat", "/deep/er/x"] });
        let made: ContainerView = api.post("/containers?start=true", &spec)?;
        world.ended(made.id.as_str())?;
        assert_eq!(world.logs(made.id.as_str())?, "x\n");
        Ok(())
    })
}

#[test]
fn a_container_that_never_ran_has_its_image_s_files_and_bad_names_are_refused() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let api = world.api();
        let spec = world.spec(&tenant, &["true"], json!({}))?;
        let view: ContainerView = api.post("/containers", &spec)?;
        let path = format!("/containers/{}", view.id);
        let changes: ChangesView = api.get(&format!("{path}/changes"))?;
        assert_eq!(changes, ChangesView::default());
        let archive = api.download(&format!("{path}/export"))?;
        ensure!(archive.windows(11).any(|part| part == b"bin/busybox"), "{} bytes", archive.len());
        let refused =
            api.refused(Method::POST, &format!("{path}/commit"), Some(&json!({ "reference": "../../etc" })))?;
        assert_eq!(refused.kind, ProblemKind::Invalid, "{refused}");
        // A name that hides another in a layer.
        let view = world.script(&tenant, "touch /.wh.bin", json!({ "auto_remove": false }))?;
        let path = format!("/containers/{}/commit", view.id);
        let refused = api.refused(Method::POST, &path, Some(&json!({ "reference": "evil:1" })))?;
        assert_eq!(refused.kind, ProblemKind::Conflict, "{refused}");
        ensure!(refused.detail.contains(".wh.bin"), "{refused}");
        Ok(())
    })
}

/// Attacks: C5.
#[test]
fn files_are_copied_in_and_out_whether_it_runs_or_not() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let dir = world.dir();
        std::fs::create_dir_all(dir.join("tree/sub"))?;
        std::fs::write(dir.join("tree/one"), "first\n")?;
        std::fs::write(dir.join("tree/sub/two"), "second\n")?;
        std::os::unix::fs::symlink("sub/two", dir.join("tree/link"))?;
        let volumes = json!([
            { "source": { "volume": "data" }, "target": "/data" },
            { "source": { "tmpfs": 1_048_576 }, "target": "/scratch" },
            { "source": { "volume": "fixed" }, "target": "/fixed", "read_only": true },
        ]);
        let spec = json!({ "name": "box", "volumes": volumes });
        let spec = world.spec(&tenant, &["sleep", "1000"], spec)?;
        let view: ContainerView = world.api().post("/containers", &spec)?;

        // Created, running, paused, stopped: one set of rules.
        let there = |path: &str| world.said(&["cp", &format!("box:{path}"), "-"]);
        for state in ["created", "running", "paused", "exited"] {
            match state {
                "running" => drop(world.said(&["start", "box"])?),
                "paused" => drop(world.said(&["pause", "box"])?),
                "exited" => {
                    world.said(&["resume", "box"])?;
                    world.said(&["stop", "-t", "0", "box"])?;
                }
                _ => {}
            }
            let place = format!("/{state}");
            world.said(&["cp", "tree", &format!("box:{place}")])?;
            world.said(&["cp", "tree/one", &format!("box:{place}/renamed")])?;
            world.said(&["cp", "tree/.", &format!("box:{place}/sub")])?;
            world.said(&["cp", "tree/one", &format!("box:{place}/")])?;
            let out = format!("out-{state}");
            world.said(&["cp", &format!("box:{place}"), &out])?;
            let text =
                |path: &str| std::fs::read_to_string(dir.join(&out).join(path)).context(path.to_owned());
            for (path, expected) in [
                ("one", "first\n"),
                ("renamed", "first\n"),
                ("sub/two", "second\n"),
                ("sub/sub/two", "second\n"),
            ] {
                assert_eq!(text(path)?, expected, "{state} {path}");
            }
            assert_eq!(std::fs::read_link(dir.join(&out).join("link"))?, Path::new("sub/two"));
            world.said(&["cp", "-L", &format!("box:{place}/link"), &format!("{out}-link")])?;
            assert_eq!(std::fs::read_to_string(dir.join(format!("{out}-link")))?, "second\n");
            for refused in [
                ["cp", "tree", &format!("box:{place}/one")],
                ["cp", "tree/one", &format!("box:{place}/none/")],
                ["cp", &format!("box:{place}/none"), "x"],
                ["cp", "box:/proc/version", "x"],
                ["cp", "tree/one", "box:/sys/fs/cgroup/"],
            ] {
                let output = world.wharf(&refused)?;
                // What does not run has neither /proc nor /sys in it.
                ensure!(!output.status.success(), "{state} {refused:?}");
                ensure!(!output.stderr.is_empty(), "{state} {refused:?}");
            }
            let archive = there(&format!("{place}/one"))?;
            ensure!(archive.starts_with("one\0") && archive.contains("first\n"), "{state}");
        }

        // What runs in it sees them as its own root's, and can change them.
        world.said(&["start", "box"])?;
        let listed =
            world.said(&["exec", "box", "stat", "-c", "%u:%g %n", "/created/one", "/running/sub/two"])?;
        assert_eq!(listed, "0:0 /created/one\n0:0 /running/sub/two\n");
        world.said(&["exec", "box", "sh", "-c", "echo more >>/created/one && rm -r /running /exited/sub"])?;
        for source in ["tree", "tree/one"] {
            let refused = world.wharf(&["cp", source, "box:/fixed"])?;
            let said = String::from_utf8_lossy(&refused.stderr);
            ensure!(!refused.status.success() && said.to_lowercase().contains("read-only"), "{said}");
        }
        // Volumes and memory are there while it runs; elsewhere the client is told so.
        for place in ["/data", "/scratch"] {
            world.said(&["cp", "tree", &format!("box:{place}")])?;
            assert_eq!(world.said(&["exec", "box", "cat", &format!("{place}/tree/sub/two")])?, "second\n");
            world.said(&["exec", "box", "sh", "-c", &format!("echo own >{place}/own")])?;
            world.said(&["cp", &format!("box:{place}/own"), "own"])?;
            assert_eq!(std::fs::read_to_string(dir.join("own"))?, "own\n");
            std::fs::remove_file(dir.join("own"))?;
        }
        world.said(&["stop", "-t", "0", "box"])?;
        // So they are where it does not, but for what is in memory then.
        world.said(&["cp", "tree/sub", "box:/data/late"])?;
        world.said(&["cp", "box:/data", "volume"])?;
        assert_eq!(std::fs::read_to_string(dir.join("volume/late/two"))?, "second\n");
        assert_eq!(std::fs::read_to_string(dir.join("volume/own"))?, "own\n");
        std::fs::create_dir_all(dir.join("above/data"))?;
        std::fs::write(dir.join("above/data/hidden"), "")?;
        for (source, place, words) in [
            ("tree/one", "/scratch", "start it"),
            ("tree/one", "/fixed", "read-only"),
            ("above/.", "/", "volume is mounted there"),
        ] {
            let refused = world.wharf(&["cp", source, &format!("box:{place}")])?;
            let said = String::from_utf8_lossy(&refused.stderr);
            ensure!(!refused.status.success() && said.contains(words), "{place}: {said}");
        }
        world.said(&["start", "box"])?;
        let listed = world.said(&["exec", "box", "stat", "-c", "%u:%g %n", "/data/late/two"])?;
        assert_eq!(listed, "0:0 /data/late/two\n");
        world.said(&["stop", "-t", "0", "box"])?;

        // Another tenant has none of it, and each copy is in the audit trail.
        let member = world.member(&world.tenant("other")?)?;
        let path = format!("/containers/{}/files?path=/etc", view.id);
        assert_eq!(member.refused(Method::GET, &path, None)?.kind, ProblemKind::NotFound);
        assert_eq!(member.refused(Method::PUT, &path, None)?.kind, ProblemKind::NotFound);
        let trail: serde_json::Value = world.api().get("/audit?limit=1000")?;
        for action in ["container.copy_in", "container.copy_out"] {
            ensure!(trail.to_string().contains(action), "{action}");
        }
        Ok(())
    })
}

#[test]
fn a_file_s_capabilities_are_copied_in_and_hold_there() -> Result<()> {
    // cap_net_bind_service, which is number 10, permitted and effective.
    const BIND_SERVICE: &[u8; 20] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let dir = world.dir().join("tools");
        std::fs::create_dir(&dir)?;
        std::fs::copy(world.busybox_root()?.join("bin/busybox"), dir.join("cat"))?;
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(dir.join("cat"), "security.capability", BIND_SERVICE, flags)?;
        let user =
            ["run", "-d", "--name", "box", "-u", "1000:1000", "--security-opt", "no-new-privileges=false"];
        world.said(&[&user[..], &[&image, "sleep", "1000"]].concat())?;
        let source = dir.to_str().context("a name")?;
        world.said(&["cp", source, "box:/running"])?;
        world.said(&[
            "create",
            "--name",
            "next",
            "-u",
            "1000:1000",
            "--security-opt",
            "no-new-privileges=false",
            &image,
            "/made/cat",
            "/proc/self/status",
        ])?;
        world.said(&["cp", source, "next:/made"])?;
        let effective = "CapEff:\t0000000000000400";
        let status = world.said(&["exec", "box", "/running/cat", "/proc/self/status"])?;
        ensure!(status.contains(effective), "copied while it runs: {status}");
        world.said(&["start", "next"])?;
        world.logged("next", "CapEff")?;
        let status = world.said(&["logs", "next"])?;
        ensure!(status.contains(effective), "copied before it ran: {status}");
        // Out of it they stay behind.
        let out = world.dir().join("out");
        world.said(&["cp", "-a", "box:/running/cat", out.to_str().context("a name")?])?;
        let found = rustix::fs::getxattr(&out, "security.capability", &mut [0; 32]);
        ensure!(found == Err(rustix::io::Errno::NODATA), "{found:?}");
        world.said(&["rm", "-f", "box", "next"])?;
        world.no_container_is_left()
    })
}
