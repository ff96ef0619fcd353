//! A container's files: what it changed, all of them, an image of them.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

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
