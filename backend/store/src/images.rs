//! Images' names: which tenant has which manifest under which reference. Blobs are not here.

use wharf_shared::id::TenantId;
use wharf_shared::page::Page;
use wharf_shared::time::Timestamp;

use crate::db::Tx;
use crate::error::StoreError;
use crate::pagination::PageRequest;
use crate::row::{Row, args};
use crate::scope::Scope;
use crate::statement::statements;

/// A tenant's name for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Whose.
    pub tenant: TenantId,
    /// The tenant's name; ignored when written.
    pub tenant_name: String,
    /// Reference, in canonical form.
    pub reference: String,
    /// Digest of the manifest.
    pub manifest_digest: String,
    /// Bytes of its unpacked layers.
    pub size_bytes: u64,
    /// `linux/amd64`.
    pub platform: String,
    /// When its builder made it, if it says so.
    pub built_at: Option<String>,
    /// When it was pulled or imported.
    pub pulled_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT i.tenant, t.name AS tenant_name, i.reference, i.manifest_digest, i.size_bytes, i.platform, ",
            "i.built_at, i.pulled_at FROM images i JOIN tenants t ON t.id = i.tenant ",
            "WHERE (i.tenant = $1 OR $1 IS NULL) ",
            $rest
        )
    };
}

statements! {
    PUT = "INSERT INTO images (tenant, reference, manifest_digest, size_bytes, platform, built_at, pulled_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant, reference) DO UPDATE SET \
        manifest_digest = excluded.manifest_digest, size_bytes = excluded.size_bytes, \
        platform = excluded.platform, built_at = excluded.built_at, pulled_at = excluded.pulled_at";
    FIND = select!("AND i.reference = $2 LIMIT 2");
    OF_DIGEST = select!("AND i.manifest_digest = $2 ORDER BY i.reference, i.tenant");
    LIST = select!("AND (i.reference > $2 OR (i.reference = $2 AND i.tenant > $3) OR $2 IS NULL) \
        ORDER BY i.reference, i.tenant LIMIT $4");
    DIGESTS = "SELECT DISTINCT manifest_digest FROM images ORDER BY manifest_digest";
    DELETE = "DELETE FROM images WHERE tenant = $1 AND reference = $2";
}

fn record(row: &Row) -> Result<ImageRecord, StoreError> {
    Ok(ImageRecord {
        tenant: row.parsed("tenant")?,
        tenant_name: row.text("tenant_name")?,
        reference: row.text("reference")?,
        manifest_digest: row.text("manifest_digest")?,
        size_bytes: row.number("size_bytes")?,
        platform: row.text("platform")?,
        built_at: row.optional_text("built_at")?,
        pulled_at: row.time("pulled_at")?,
    })
}

/// Gives an image the name; whatever had it before loses it.
pub async fn put(tx: &mut Tx, image: &ImageRecord) -> Result<(), StoreError> {
    let values = args![
        &image.tenant,
        &image.reference,
        &image.manifest_digest,
        image.size_bytes,
        &image.platform,
        image.built_at.clone(),
        image.pulled_at
    ];
    tx.execute(PUT, values).await.map(drop)
}

/// The image of this reference; an error if several tenants of the scope have one.
pub async fn find(tx: &mut Tx, scope: &Scope, reference: &str) -> Result<Option<ImageRecord>, StoreError> {
    let rows = tx.rows(FIND, args![scope.tenant(), reference]).await?;
    match rows.as_slice() {
        [] => Ok(None),
        [row] => record(row).map(Some),
        _ => Err(StoreError::Ambiguous("image")),
    }
}

/// All names of a manifest.
pub async fn of_digest(tx: &mut Tx, scope: &Scope, digest: &str) -> Result<Vec<ImageRecord>, StoreError> {
    let rows = tx.rows(OF_DIGEST, args![scope.tenant(), digest]).await?;
    rows.iter().map(record).collect()
}

/// Images by reference.
pub async fn list(tx: &mut Tx, scope: &Scope, page: &PageRequest) -> Result<Page<ImageRecord>, StoreError> {
    // A reference has no space.
    let (reference, tenant) = page.cursor.as_deref().and_then(|cursor| cursor.split_once(' ')).unzip();
    let rows = tx.rows(LIST, args![scope.tenant(), reference, tenant, page.fetch()]).await?;
    let images = rows.iter().map(record).collect::<Result<_, _>>()?;
    Ok(page.page(images, |image: &ImageRecord| format!("{} {}", image.reference, image.tenant)))
}

/// Every manifest that has a name: the roots that garbage collection keeps.
pub async fn digests(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    let rows = tx.rows(DIGESTS, args![]).await?;
    rows.iter().map(|row| row.text("manifest_digest")).collect()
}

/// Takes the name away.
pub async fn delete(tx: &mut Tx, tenant: &TenantId, reference: &str) -> Result<(), StoreError> {
    match tx.execute(DELETE, args![tenant, reference]).await? {
        0 => Err(StoreError::NotFound("image")),
        _ => Ok(()),
    }
}
