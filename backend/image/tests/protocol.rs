//! What a registry may do wrong, and where credentials may go.
//!
//! Needs root, for layers are unpacked with their owners.
#![expect(clippy::tests_outside_test_module, reason = "an integration test")]
#![expect(clippy::expect_used, reason = "an integration test and its support")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use support::fake::{Fake, Intercept, broken_off, dripping, stalled};
use support::layout::{GZIP, Layout, PLAIN, ZSTD, busybox};
use support::{Host, Tar, chain};
use tokio::sync::watch;
use wharf_image::{
    Credentials, Digest, Image, ImageError, ImageRef, Limits, ManifestError, Mirror, Phase, PullOptions,
    RegistryClient, RegistryConfig, RegistryError,
};

fn config(insecure: &[&Fake]) -> RegistryConfig {
    RegistryConfig {
        insecure_hosts: insecure.iter().map(|fake| fake.address.clone()).collect(),
        read_timeout_ms: 500,
        attempts: 3,
        ..RegistryConfig::default()
    }
}

fn client(insecure: &[&Fake]) -> RegistryClient {
    RegistryClient::new(config(insecure)).expect("a client")
}

fn reference(fake: &Fake) -> ImageRef {
    format!("{}/team/app:1", fake.address).parse().expect("a reference")
}

fn credentials() -> PullOptions {
    let credentials = Credentials { username: "user".to_owned(), password: "canary".to_owned() };
    PullOptions { credentials: Some(credentials), ..PullOptions::default() }
}

fn one_layer(packing: &str, tar: &[u8]) -> (Layout, Value) {
    let mut layout = Layout::new();
    let image = layout.image(&wharf_image::Platform::host().architecture, &[(packing, tar)]);
    (layout, image)
}

fn honest() -> Intercept {
    Box::new(|_, _| None)
}

fn manifest(layout: &Layout, image: &Value) -> Value {
    serde_json::from_slice(&layout.blobs[image["digest"].as_str().expect("digest")]).expect("JSON")
}

async fn pull(host: &Host, fake: &Fake) -> Result<Image, ImageError> {
    client(&[fake]).pull(&host.store, &host.store.lease(), &reference(fake), PullOptions::default()).await
}

/// Asserts that the pull fails so and leaves nothing.
async fn fails(fake: &Fake, expected: fn(&ImageError) -> bool) {
    let host = Host::new(Limits::default());
    let error = pull(&host, fake).await.expect_err("must fail");
    assert!(expected(&error), "{error:?}");
    host.assert_empty();
}

#[tokio::test]
async fn a_registry_without_tls_is_named_as_such_and_not_asked_again() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let fake = Fake::serve(&layout, &image, honest()).await;
    let host = Host::new(Limits::default());
    let error = client(&[])
        .pull(&host.store, &host.store.lease(), &reference(&fake), PullOptions::default())
        .await
        .expect_err("nobody said that it may be asked in the clear");
    assert!(matches!(error, ImageError::Registry(RegistryError::NoTls { .. })), "{error:?}");
    assert!(chain(&error).contains("registry.insecure_hosts"), "{}", chain(&error));
}

#[tokio::test]
async fn a_token_is_fetched_with_the_password_and_used_without_it() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let realm = Fake::serve(
        &layout,
        &image,
        Box::new(|seen, _| {
            assert!(
                seen.path.starts_with("/token?service=fake&scope=repository%3Ateam%2Fapp%3Apull"),
                "{}",
                seen.path
            );
            Some(json!({"token": "t0ken"}).to_string().into_response())
        }),
    )
    .await;
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="fake",scope="repository:team/app:pull,push""#,
        realm.address
    );
    let fake = Fake::serve(
        &layout,
        &image,
        Box::new(move |seen, _| {
            let authorised = seen.authorization.as_deref() == Some("Bearer t0ken");
            (!authorised).then(|| {
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge.clone())]).into_response()
            })
        }),
    )
    .await;
    let host = Host::new(Limits::default());
    let lease = host.store.lease();
    client(&[&fake, &realm])
        .pull(&host.store, &lease, &reference(&fake), credentials())
        .await
        .expect("pulls");
    let tokens = realm.seen();
    assert_eq!(tokens.len(), 1, "one token serves the whole pull");
    assert!(tokens[0].authorization.as_ref().is_some_and(|value| value.starts_with("Basic ")));
    assert!(
        fake.seen()
            .iter()
            .all(|seen| !seen.authorization.as_ref().is_some_and(|value| value.starts_with("Basic")))
    );

    // The realm is not named insecure: nothing is sent there, the password least of all.
    let before = realm.seen().len();
    let host = Host::new(Limits::default());
    let error = client(&[&fake])
        .pull(&host.store, &lease, &reference(&fake), credentials())
        .await
        .expect_err("refused");
    assert!(chain(&error).contains("realm is not https"), "{}", chain(&error));
    assert_eq!(realm.seen().len(), before);
}

/// Attacks: C7.
#[tokio::test]
async fn a_redirect_to_another_host_does_not_take_the_credentials_along() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let storage = Fake::serve(&layout, &image, honest()).await;
    let elsewhere = storage.address.clone();
    let fake = Fake::serve(
        &layout,
        &image,
        Box::new(move |seen, _| {
            if seen.authorization.is_none() {
                return Some(
                    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")]).into_response(),
                );
            }
            let target = format!("http://{elsewhere}{}", seen.path);
            seen.path
                .contains("/blobs/")
                .then(|| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target)]).into_response())
        }),
    )
    .await;
    let host = Host::new(Limits::default());
    client(&[&fake])
        .pull(&host.store, &host.store.lease(), &reference(&fake), credentials())
        .await
        .expect("pulls");
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
}

/// Attacks: C7.
#[tokio::test]
async fn credentials_for_docker_hub_do_not_go_to_a_mirror() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let fake = Fake::serve(
        &layout,
        &image,
        Box::new(|seen, _| {
            seen.authorization.is_none().then(|| {
                (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=x")]).into_response()
            })
        }),
    )
    .await;
    let other = Fake::serve(&layout, &image, honest()).await;
    let mirror =
        |fake: &Fake| Mirror { host: fake.address.clone(), prefix: String::new(), credentials: None };
    let config = RegistryConfig { mirrors: vec![mirror(&fake), mirror(&other)], ..config(&[&fake, &other]) };
    let host = Host::new(Limits::default());
    let client = RegistryClient::new(config).expect("a client");
    client
        .pull(&host.store, &host.store.lease(), &"thing".parse().expect("a name"), credentials())
        .await
        .expect("the second");
    assert!(fake.seen().iter().chain(&other.seen()).all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn an_interrupted_layer_resumes_where_it_stopped() {
    for ranges in [true, false] {
        let (layout, image) = one_layer(PLAIN, &busybox());
        let layer = manifest(&layout, &image)["layers"][0]["digest"].as_str().expect("digest").to_owned();
        let bytes = layout.blobs[&layer].clone();
        let fake = Fake::serve(
            &layout,
            &image,
            Box::new(move |seen, before| match before {
                0 if seen.path.ends_with(&layer) => Some(broken_off(&bytes, 700_000)),
                // Without ranges everything comes again.
                1 if seen.path.ends_with(&layer) && !ranges => Some(bytes.clone().into_response()),
                _ => None,
            }),
        )
        .await;
        let host = Host::new(Limits::default());
        pull(&host, &fake).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let asked: Vec<_> = fake.seen().into_iter().filter_map(|seen| seen.range).collect();
        assert_eq!(asked.len(), 1);
        let from: u64 =
            asked[0].trim_start_matches("bytes=").trim_end_matches('-').parse().expect("a number");
        assert!(from > 0 && from <= 700_000, "{from}");
    }
}

#[tokio::test]
async fn failures_that_pass_are_waited_out_and_lasting_ones_are_told() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let fake = Fake::serve(
        &layout,
        &image,
        Box::new(|_, before| (before < 2).then(|| StatusCode::BAD_GATEWAY.into_response())),
    )
    .await;
    pull(&Host::new(Limits::default()), &fake).await.expect("the third try");
    let fake =
        Fake::serve(&layout, &image, Box::new(|_, _| Some(StatusCode::BAD_GATEWAY.into_response()))).await;
    fails(&fake, |error| matches!(error, ImageError::Registry(RegistryError::Status { status: 502, .. })))
        .await;
    assert_eq!(fake.seen().len(), 3);
    let slow = Fake::serve(
        &layout,
        &image,
        Box::new(|_, _| Some((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "0")]).into_response())),
    )
    .await;
    fails(&slow, |error| matches!(error, ImageError::Registry(RegistryError::RateLimited { .. }))).await;
    let teapot =
        Fake::serve(&layout, &image, Box::new(|_, _| Some(StatusCode::IM_A_TEAPOT.into_response()))).await;
    fails(&teapot, |error| matches!(error, ImageError::Registry(RegistryError::Status { status: 418, .. })))
        .await;
    assert_eq!(teapot.seen().len(), 1, "what will not pass is not tried again");
}

#[tokio::test]
async fn a_registry_that_stalls_is_given_up() {
    let (layout, image) = one_layer(PLAIN, &busybox());
    let layer = manifest(&layout, &image)["layers"][0]["digest"].as_str().expect("digest").to_owned();
    let bytes = layout.blobs[&layer].clone();
    let fake = Fake::serve(
        &layout,
        &image,
        Box::new(move |seen, _| seen.path.ends_with(&layer).then(|| stalled(&bytes, 0))),
    )
    .await;
    fails(&fake, |error| matches!(error, ImageError::Registry(RegistryError::Unreachable { .. }))).await;
}

#[tokio::test]
async fn a_registry_that_sends_a_byte_now_and_then_is_given_up() {
    let (layout, image) = one_layer(PLAIN, &busybox());
    let layer = manifest(&layout, &image)["layers"][0]["digest"].as_str().expect("digest").to_owned();
    for of_what in [layer, "/manifests/1".to_owned()] {
        let (bytes, wanted) = (layout.blobs.values().next().expect("a blob").clone(), of_what.clone());
        let drip: Intercept = Box::new(move |seen, _| seen.path.ends_with(&wanted).then(|| dripping(&bytes)));
        let fake = Fake::serve(&layout, &image, drip).await;
        let host = Host::new(Limits::default());
        let patient = RegistryConfig { stall_timeout_ms: 1_500, ..config(&[&fake]) };
        let client = RegistryClient::new(patient).expect("a client");
        let begun = Instant::now();
        let (lease, name) = (host.store.lease(), reference(&fake));
        let pull = client.pull(&host.store, &lease, &name, PullOptions::default());
        let error = pull.await.expect_err("it never ends");
        let stalled = matches!(error, ImageError::Registry(RegistryError::Stalled { .. }));
        assert!(stalled, "{of_what}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{of_what}: {:?}", begun.elapsed());
        host.assert_empty();
    }
}

/// Attacks: C6.
#[tokio::test]
async fn what_differs_from_its_digest_or_size_is_refused() {
    let (layout, image) = one_layer(PLAIN, &busybox());
    let layer = manifest(&layout, &image)["layers"][0]["digest"].as_str().expect("digest").to_owned();
    let config = manifest(&layout, &image)["config"]["digest"].as_str().expect("digest").to_owned();
    let serve = async |path: String, body: Vec<u8>| {
        Fake::serve(
            &layout,
            &image,
            Box::new(move |seen, _| seen.path.ends_with(&path).then(|| body.clone().into_response())),
        )
        .await
    };
    let other = layout.blobs[&layer].iter().map(|byte| byte ^ 1).collect::<Vec<u8>>();
    let mismatch =
        |error: &ImageError| matches!(error, ImageError::Registry(RegistryError::DigestMismatch { .. }));
    let size = |error: &ImageError| matches!(error, ImageError::Registry(RegistryError::SizeMismatch { .. }));
    fails(&serve(layer.clone(), other).await, mismatch).await;
    let longer = [layout.blobs[&layer].as_slice(), b"more"].concat();
    fails(&serve(layer.clone(), longer).await, size).await;
    let shorter = layout.blobs[&layer].get(..900_000).expect("long").to_vec();
    fails(&serve(layer.clone(), shorter).await, size).await;
    let forged =
        String::from_utf8(layout.blobs[&config].clone()).expect("text").replace("/bin/sh", "/bin/su");
    fails(&serve(config, forged.into_bytes()).await, mismatch).await;
    // A header that names another digest than the body has.
    let body = layout.blobs[image["digest"].as_str().expect("digest")].clone();
    let named = Digest::of(b"other").to_string();
    let lying = Fake::serve(
        &layout,
        &image,
        Box::new(move |seen, _| {
            seen.path
                .contains("/manifests/")
                .then(|| ([("docker-content-digest", named.clone())], body.clone()).into_response())
        }),
    )
    .await;
    fails(&lying, mismatch).await;
}

/// Attacks: C6.
#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    for packing in [GZIP, ZSTD, PLAIN] {
        let mut layout = Layout::new();
        let here = wharf_image::Platform::host().architecture;
        let config = json!({"architecture": here, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"other")]}});
        let image = layout.image_with(&config, &[(packing, &busybox())]);
        let fake = Fake::serve(&layout, &image, honest()).await;
        fails(&fake, |error| matches!(error, ImageError::DiffIdMismatch { .. })).await;
    }
}

/// Attacks: C1.
#[tokio::test]
async fn hostile_layers_are_refused_over_the_network_too() {
    for tar in [
        Tar::default().file("../../evil", "x").end(),
        Tar::default().symlink("d", "/").file("d/evil", "x").end(),
        Tar::default().file("f", "x").unended().into_iter().chain([1; 100]).collect(),
    ] {
        let (layout, image) = one_layer(GZIP, &tar);
        let fake = Fake::serve(&layout, &image, honest()).await;
        fails(&fake, |error| matches!(error, ImageError::Unpack { .. })).await;
    }
}

#[tokio::test]
async fn large_answers_are_cut_short() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let endless =
        Fake::serve(&layout, &image, Box::new(|_, _| Some(vec![b' '; 5 << 20].into_response()))).await;
    let too_large =
        |error: &ImageError| matches!(error, ImageError::Registry(RegistryError::TooLarge { .. }));
    fails(&endless, too_large).await;
    let fake = Fake::serve(&layout, &image, honest()).await;
    let host = Host::new(Limits::default());
    let small =
        RegistryClient::new(RegistryConfig { layer_max_bytes: 1000, ..config(&[&fake]) }).expect("a client");
    let error = small
        .pull(&host.store, &host.store.lease(), &reference(&fake), PullOptions::default())
        .await
        .expect_err("large");
    assert!(too_large(&error), "{error:?}");
    assert_eq!(fake.blob_requests(), 0, "refused by its announced size");
}

#[tokio::test]
async fn other_kinds_of_content_are_refused_by_name() {
    let layout = Layout::new();
    for body in [
        json!({"schemaVersion": 1, "name": "x", "fsLayers": []}),
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json"}),
    ] {
        let fake =
            Fake::serve(&layout, &Value::Null, Box::new(move |_, _| Some(body.to_string().into_response())))
                .await;
        fails(&fake, |error| matches!(error, ImageError::Manifest(ManifestError::UnsupportedMediaType(_))))
            .await;
    }
    let fake = Fake::serve(&layout, &Value::Null, Box::new(|_, _| Some("{".into_response()))).await;
    fails(&fake, |error| matches!(error, ImageError::Manifest(ManifestError::Malformed { .. }))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_at_the_same_time_share_one_download() {
    let (layout, image) = one_layer(GZIP, &busybox());
    let fake = Fake::serve(&layout, &image, honest()).await;
    let host = Host::new(Limits::default());
    let pulls = (0..8).map(|_| pull(&host, &fake));
    let images = futures_util::future::join_all(pulls).await;
    let first = images[0].as_ref().expect("pulls");
    assert!(images.iter().all(|image| image.as_ref().is_ok_and(|image| image == first)));
    let layer = first.layers[0].digest.to_string();
    let fetched = fake.seen().into_iter().filter(|seen| seen.path.ends_with(&layer)).count();
    assert_eq!(fetched, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_stops_and_leaves_nothing_and_the_next_one_succeeds() {
    let (layout, image) = one_layer(PLAIN, &busybox());
    let layer = manifest(&layout, &image)["layers"][0]["digest"].as_str().expect("digest").to_owned();
    let bytes = layout.blobs[&layer].clone();
    let stalling = Arc::new(AtomicBool::new(true));
    let stall = Arc::clone(&stalling);
    let fake = Fake::serve(
        &layout,
        &image,
        Box::new(move |seen, _| {
            (stall.load(Ordering::SeqCst) && seen.path.ends_with(&layer)).then(|| stalled(&bytes, 900_000))
        }),
    )
    .await;
    let host = Host::new(Limits::default());
    let patient = RegistryClient::new(RegistryConfig { read_timeout_ms: 60_000, ..config(&[&fake]) })
        .expect("a client");
    let (sender, mut receiver) = watch::channel(Vec::new());
    let options = PullOptions { progress: Some(sender), ..PullOptions::default() };
    let (lease, reference) = (host.store.lease(), reference(&fake));
    tokio::select! {
        result = patient.pull(&host.store, &lease, &reference, options) => panic!("it cannot end: {result:?}"),
        reached = receiver.wait_for(|layers| layers.iter().any(|layer| layer.phase == Phase::Downloading && layer.current_bytes == 900_000)) => {
            assert!(reached.is_ok());
        }
    }
    let layers = host.store.layers_root();
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::read_dir(layers).expect("lists").next().is_some() {
        assert!(Instant::now() < deadline, "the unpacker did not notice");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.assert_empty();
    stalling.store(false, Ordering::SeqCst);
    pull(&host, &fake).await.expect("pulls");
}
