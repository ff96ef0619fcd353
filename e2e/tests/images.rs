//! Images from a real registry and from archives, and what goes wrong with them.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use wharf_e2e::{Image, World, run, run_with};
use wharf_shared::container::ContainerState;
use wharf_shared::image::{ImageDetail, ImageView, PullState, PullView};
use wharf_shared::page::Page;
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::TenantView;

#[test]
fn a_pulled_image_is_shown_with_its_layers() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let pull = pull(world, &tenant, &world.busybox()?)?;
        assert_eq!(pull.state, PullState::Done, "{:?}", pull.error);
        let path = format!("/images/detail?reference={}&tenant=acme", world.busybox()?);
        let detail: ImageDetail = world.api().get(&path)?;
        assert_eq!(detail.command, ["/bin/sh"]);
        assert_eq!(detail.layers.len(), 1);
        let layer = detail.layers.first().context("a layer")?;
        assert!(
            layer.compressed_bytes > 500_000 && layer.unpacked_bytes > layer.compressed_bytes,
            "{layer:?}"
        );
        Ok(())
    })
}

#[test]
fn a_missing_tag_a_dead_registry_and_a_corrupt_layer_fail_clearly_and_leave_nothing() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let busybox = world.busybox()?;
        let missing = pull(world, &tenant, &format!("{busybox}-not-there"))?;
        let error = failed(&missing)?;
        ensure!(error.contains("not-there") || error.contains("not found"), "{error}");

        let layers = world.registry.borrow().blobs_above(500_000)?;
        assert_eq!(layers.len(), 1, "one layer is on the registry's disk");
        let layer = layers.first().context("the layer")?;
        let mut bytes = fs::read(layer)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0xff;
        }
        fs::write(layer, bytes)?;
        let corrupt = pull(world, &tenant, &busybox)?;
        let error = failed(&corrupt)?;
        ensure!(error.contains("digest") || error.contains("sha256"), "{error}");

        world.registry.borrow_mut().stop()?;
        let dead = pull(world, &tenant, &busybox)?;
        let error = failed(&dead)?;
        ensure!(error.contains(&world.registry.borrow().host), "{error}");

        assert!(world.api().get::<Page<ImageView>>("/images")?.items.is_empty());
        nothing_is_stored(world)
    })
}

#[test]
fn a_stalled_registry_is_given_up_and_a_pull_can_be_cancelled() -> Result<()> {
    // In a network namespace of its own every port is free.
    let host = "127.0.0.1:4999";
    let insecure = format!("registry.insecure_hosts=[\"{host}\"]");
    run_with(&[&insecure, "registry.stall_timeout_s=3"], |world| {
        let tenant = world.tenant("acme")?;
        let listener = TcpListener::bind(host)?;
        // Promises a manifest, and never sends it.
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n{";
                if stream.read(&mut request).is_ok() && stream.write_all(head).is_ok() {
                    held.push(stream);
                }
            }
        });
        let image = format!("{host}/library/stalled:1");
        let error = failed(&pull(world, &tenant, &image)?)?;
        ensure!(error.contains("stalled") && error.contains(host), "{error}");

        let begun: PullView =
            world.api().post("/images/pull", &json!({ "image": image, "tenant": tenant.id }))?;
        let path = format!("/images/pulls/{}", begun.id);
        world.api().delete(&path)?;
        let error = failed(&world.api().get(&path)?)?;
        ensure!(error.contains("cancelled by admin"), "{error}");
        assert_eq!(world.api().refused(Method::DELETE, &path, None)?.kind, ProblemKind::Conflict);
        nothing_is_stored(world)
    })
}

#[test]
fn an_imported_archive_runs() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let dir = world.dir().join("import");
        fs::create_dir_all(&dir)?;
        let archive = Image::busybox(&dir)?.archive(&world.dir().join("import.tar"))?;
        // Nothing of the archive comes from the registry.
        world.registry.borrow_mut().stop()?;
        let views: Vec<ImageView> = world.api().import("tenant=acme&reference=local/box:1", archive)?;
        let reference = &views.first().context("an image")?.reference;
        let spec = json!({ "image": reference, "tenant": tenant.id, "command": ["echo", "imported"] });
        let view: wharf_shared::container::ContainerView =
            world.api().post("/containers?start=true", &spec)?;
        let view = world.container_until(view.id.as_str(), "it has ended", |view| {
            matches!(view.state, ContainerState::Exited | ContainerState::Failed)
        })?;
        assert_eq!(view.error, None);
        assert_eq!(world.logs(view.id.as_str())?, "imported\n");
        Ok(())
    })
}

#[test]
fn a_plain_root_file_system_is_imported_and_rubbish_is_refused() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let dir = world.dir().join("import");
        fs::create_dir_all(&dir)?;
        Image::busybox(&dir)?;
        let root = fs::read(dir.join("layer.tar"))?;
        let views: Vec<ImageView> = world.api().import("tenant=acme&reference=local/root:1", root)?;
        let spec = json!({ "image": views.first().context("an image")?.reference, "name": "plain" });
        let view = world.script(&tenant, "echo plain", spec)?;
        assert_eq!(world.logs(view.id.as_str())?, "plain\n");
        let rubbish =
            world.api().import::<Vec<ImageView>>("tenant=acme&reference=local/bad:1", vec![0x5a; 100_000]);
        let error = format!("{:#}", rubbish.err().context("rubbish was taken")?);
        ensure!(error.contains("422") || error.contains("400"), "{error}");
        Ok(())
    })
}

#[test]
fn a_tag_keeps_the_layers_and_the_last_removal_collects_them() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let busybox = world.busybox()?;
        let view = world.script(&tenant, "true", json!({}))?;
        let body = json!({ "source": busybox, "target": "local/mine:2", "tenant": tenant.id });
        let tagged: ImageView = world.api().post("/images/tag", &body)?;
        assert_eq!(world.api().get::<Page<ImageView>>("/images")?.items.len(), 2);
        let remove = |reference: &str| format!("/images?reference={reference}&tenant=acme");
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.api().delete(&remove(&busybox))?;
        let view = world.script(
            &tenant,
            "echo still here",
            json!({ "image": tagged.reference, "name": "still" }),
        )?;
        assert_eq!(world.logs(view.id.as_str())?, "still here\n");
        let refused = world.api().refused(Method::DELETE, &remove(&tagged.reference), None)?;
        assert_eq!(refused.kind, ProblemKind::InUse);
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.api().delete(&remove(&tagged.reference))?;
        nothing_is_stored(world)
    })
}

fn pull(world: &World, tenant: &TenantView, image: &str) -> Result<PullView> {
    let begun: PullView =
        world.api().post("/images/pull", &json!({ "image": image, "tenant": tenant.id }))?;
    let mut last = begun;
    world.until("the pull has ended", || {
        last = world.api().get(&format!("/images/pulls/{}", last.id))?;
        Ok(matches!(last.state, PullState::Done | PullState::Failed))
    })?;
    Ok(last)
}

fn failed(pull: &PullView) -> Result<String> {
    ensure!(pull.state == PullState::Failed, "it did not fail: {pull:?}");
    pull.error.clone().context("no error is told")
}

/// Waits until the agent's disk holds no layer and no blob.
fn nothing_is_stored(world: &World) -> Result<()> {
    world.until("layers and blobs are collected", || {
        let layers = fs::read_dir(world.state_dir().join("layers")).into_iter().flatten().count();
        let ingests = fs::read_dir(world.state_dir().join("images/ingest")).into_iter().flatten().count();
        let blobs = fs::read_dir(world.state_dir().join("images/blobs/sha256")).into_iter().flatten().count();
        Ok(layers + ingests + blobs == 0)
    })
}
