//! Volumes and images.

use std::collections::BTreeMap;

use wharf_store::images::{self, ImageRecord};
use wharf_store::pagination::PageRequest;
use wharf_store::volumes::{self, VolumeRecord};
use wharf_store::{Db, Scope, StoreError, containers, tenants};

use super::{NOW, container, id, tenant};

pub(crate) async fn volumes_know_who_mounts_them(db: Db) {
    let (blue, red) = (tenant(&db, "blue").await, tenant(&db, "red").await);
    let volume = |tenant: &tenants::TenantRecord, name: &str| VolumeRecord {
        id: id("vol"),
        tenant: tenant.id.clone(),
        tenant_name: tenant.name.clone(),
        name: name.to_owned(),
        labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
        created_at: NOW,
    };
    let mut tx = db.begin().await.expect("begins");
    let (data, logs, foreign) = (volume(&blue, "data"), volume(&blue, "logs"), volume(&red, "data"));
    for made in [&data, &logs, &foreign] {
        volumes::insert(&mut tx, made).await.expect("made");
    }
    assert!(matches!(volumes::insert(&mut tx, &volume(&blue, "data")).await, Err(StoreError::Taken("name"))));
    let own = Scope::Tenant(blue.id.clone());
    assert_eq!(volumes::find(&mut tx, &own, "data").await.expect("reads"), Some(data.clone()));
    assert_eq!(volumes::find(&mut tx, &own, foreign.id.as_str()).await.expect("reads"), None);
    assert!(matches!(
        volumes::find(&mut tx, &Scope::All, "data").await,
        Err(StoreError::Ambiguous("volume"))
    ));
    assert!(volumes::get(&mut tx, &own, &foreign.id).await.is_err());
    let page = PageRequest { cursor: None, limit: Some(1) };
    let first = volumes::list(&mut tx, &own, &page).await.expect("reads");
    let page = PageRequest { cursor: first.next_cursor.clone(), limit: Some(1) };
    let second = volumes::list(&mut tx, &own, &page).await.expect("reads");
    assert_eq!([first.items, second.items].concat(), [data.clone(), logs.clone()]);

    let mounting = [data.id.clone(), data.id.clone()];
    for (number, name) in [(1, "web"), (2, "db")] {
        let made = container(&blue.id, number, name);
        containers::insert(&mut tx, &made, &mounting).await.expect("made");
    }
    assert_eq!(volumes::used_by(&mut tx, &data.id).await.expect("reads"), ["db", "web"]);
    assert!(matches!(volumes::delete(&mut tx, &own, &data.id).await, Err(StoreError::InUse("volume"))));
    assert!(matches!(volumes::delete(&mut tx, &own, &foreign.id).await, Err(StoreError::NotFound("volume"))));
    volumes::delete(&mut tx, &own, &logs.id).await.expect("nobody mounts it");
    for number in [1, 2] {
        containers::delete(&mut tx, &super::container_id(number)).await.expect("goes");
    }
    volumes::delete(&mut tx, &own, &data.id).await.expect("nobody mounts it any more");

    let (web, kept) = (container(&blue.id, 3, "web"), volume(&blue, "kept"));
    containers::insert(&mut tx, &web, &[]).await.expect("made");
    volumes::insert(&mut tx, &kept).await.expect("made");
    volumes::attach_anonymous(&mut tx, &web.id, &kept.id, "/data").await.expect("mounted");
    let anonymous = volumes::anonymous_of(&mut tx, &web.id).await.expect("reads");
    assert_eq!(anonymous, BTreeMap::from([("/data".to_owned(), kept.id.clone())]));
    assert_eq!(volumes::used_by(&mut tx, &kept.id).await.expect("reads"), ["web"]);
    tx.commit().await.expect("committed");
}

pub(crate) async fn images_are_names_of_digests(db: Db) {
    let (blue, red) = (tenant(&db, "blue").await, tenant(&db, "red").await);
    let image = |tenant: &tenants::TenantRecord, reference: &str, digest: &str| ImageRecord {
        tenant: tenant.id.clone(),
        tenant_name: tenant.name.clone(),
        reference: reference.to_owned(),
        manifest_digest: digest.to_owned(),
        size_bytes: 5_000_000_000,
        platform: "linux/amd64".to_owned(),
        built_at: None,
        pulled_at: NOW,
    };
    let mut tx = db.begin().await.expect("begins");
    for made in [image(&blue, "a:1", "d1"), image(&blue, "b:1", "d1"), image(&red, "a:1", "d2")] {
        images::put(&mut tx, &made).await.expect("kept");
    }
    let own = Scope::Tenant(blue.id.clone());
    assert_eq!(images::find(&mut tx, &own, "a:1").await.expect("reads"), Some(image(&blue, "a:1", "d1")));
    assert!(matches!(images::find(&mut tx, &Scope::All, "a:1").await, Err(StoreError::Ambiguous("image"))));
    assert_eq!(images::of_digest(&mut tx, &own, "d1").await.expect("reads").len(), 2);
    assert_eq!(images::of_digest(&mut tx, &own, "d2").await.expect("reads"), []);

    let (mut seen, mut page) = (Vec::new(), PageRequest { cursor: None, limit: Some(1) });
    loop {
        let found = images::list(&mut tx, &Scope::All, &page).await.expect("reads");
        seen.extend(found.items.into_iter().map(|image| (image.reference, image.tenant_name)));
        page.cursor = found.next_cursor;
        if page.cursor.is_none() {
            break;
        }
    }
    let expected = [("a:1", "blue"), ("a:1", "red"), ("b:1", "blue")];
    assert_eq!(seen, expected.map(|(reference, tenant)| (reference.to_owned(), tenant.to_owned())));

    images::put(&mut tx, &image(&blue, "a:1", "d3")).await.expect("moves the name");
    assert_eq!(images::digests(&mut tx).await.expect("reads"), ["d1", "d2", "d3"]);
    images::delete(&mut tx, &blue.id, "a:1").await.expect("there");
    assert!(matches!(images::delete(&mut tx, &blue.id, "a:1").await, Err(StoreError::NotFound("image"))));
    assert_eq!(images::digests(&mut tx).await.expect("reads"), ["d1", "d2"]);
    tenants::delete(&mut tx, &red.id).await.expect("names of images do not hold a tenant");
    assert_eq!(images::digests(&mut tx).await.expect("reads"), ["d1"]);
}
