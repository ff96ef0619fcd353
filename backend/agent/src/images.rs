//! Images of tenants: pull, import, name, look at, remove.
//!
//! Content is shared by all tenants, names are not: a tenant sees an image only after the registry
//! gave it to that tenant, with that tenant's credentials. A pull runs to its end even when the
//! client that asked for it hangs up, unless it is called off; two pulls of one image share their layers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use wharf_image::{
    CommitOptions, ContentStore, Credentials, Digest, Image, ImageConfig, ImageError, ImageRef,
    ImportOptions, Limits, Mirror, Phase, Progress, PullOptions, RegistryClient, RegistryConfig,
    RegistryError, Root,
};
use wharf_shared::id::{PullId, TenantId};
use wharf_shared::image::{
    HistoryView, ImageDetail, ImageView, LayerPhase, LayerProgress, LayerView, PULL_CANCELLED_BY,
    PullRequest, PullState, PullView, TagRequest,
};
use wharf_shared::page::Page;
use wharf_shared::permission::Permission;
use wharf_shared::problem::ProblemKind;
use wharf_store::containers::{self, ContainerFilter};
use wharf_store::images::{self as rows, ImageRecord};
use wharf_store::pagination::PageRequest;
use wharf_store::{Db, Scope, StoreError, tenants};

use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::error::{Result, ServiceError, chain};
use crate::events::{Change, Deed, EventBus};
use crate::tasks::{OnEnd, Tasks};

/// Finished pulls that are still listed.
const PULLS_KEPT: usize = 50;
/// Descriptions of images that are kept in memory.
const LOADED_KEPT: usize = 64;
/// Pulls of one tenant at once.
const PULLS_PER_TENANT: usize = 4;
/// Progress that a slow watcher may lag behind; it is given the latest anyway.
const PULL_BACKLOG: usize = 64;
/// How often a moment without pulls is looked for.
const COLLECT_RETRY: Duration = Duration::from_millis(250);

/// The service.
#[derive(Clone)]
pub(crate) struct Images(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    events: EventBus,
    tasks: Tasks,
    content: ContentStore,
    registry: RegistryClient,
    import_max_bytes: u64,
    pull_timeout: Duration,
    pulls: Mutex<VecDeque<Pull>>,
    /// By manifest digest, which says what is in them: of those that starts, execs and stops asked for.
    loaded: Mutex<BTreeMap<String, Image>>,
    progress: broadcast::Sender<PullView>,
    /// Held shared by whoever makes content, alone by whoever collects it.
    collecting: tokio::sync::RwLock<()>,
}

/// A pull that runs, or one of the last that ended.
struct Pull {
    view: watch::Receiver<PullView>,
    /// Who called it off: the first one counts.
    cancelled: watch::Sender<Option<String>>,
}

impl Pull {
    fn runs(&self) -> bool {
        matches!(self.view.borrow().state, PullState::Resolving | PullState::Pulling)
    }
}

impl Images {
    pub(crate) fn open(
        config: &Config,
        db: Db,
        clock: Arc<dyn Clock>,
        events: EventBus,
        tasks: Tasks,
    ) -> Result<Self> {
        let limits = Limits { unpacked_bytes: config.containers.layer_max_bytes, ..Limits::default() };
        let content = ContentStore::open(&config.state_dir, limits)
            .map_err(|error| ServiceError::internal("the image store cannot be opened", error))?;
        let mirrors = config
            .registry
            .mirrors
            .iter()
            .map(|host| Mirror { host: host.clone(), prefix: String::new(), credentials: None })
            .collect();
        let registry = RegistryClient::new(RegistryConfig {
            insecure_hosts: config.registry.insecure_hosts.clone(),
            mirrors,
            stall_timeout_ms: u64::from(config.registry.stall_timeout_s) * 1_000,
            ..RegistryConfig::default()
        })
        .map_err(|error| ServiceError::internal("the registry client cannot be made", error))?;
        let (progress, _) = broadcast::channel(PULL_BACKLOG);
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            events,
            tasks,
            content,
            registry,
            import_max_bytes: config.containers.import_max_bytes,
            pull_timeout: Duration::from_secs(u64::from(config.registry.pull_timeout_s)),
            pulls: Mutex::default(),
            loaded: Mutex::default(),
            progress,
            collecting: tokio::sync::RwLock::default(),
        })))
    }

    pub(crate) fn content(&self) -> &ContentStore {
        &self.0.content
    }

    pub(crate) fn import_max_bytes(&self) -> u64 {
        self.0.import_max_bytes
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Image>> {
        self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pulls(&self) -> std::sync::MutexGuard<'_, VecDeque<Pull>> {
        self.0.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- get ----

    /// The tenant's image of this name, with the directories of its layers, uppermost first; pulled when the
    /// tenant does not have it, or not all of it is there.
    pub(crate) async fn ensure(&self, tenant: &TenantId, reference: &str) -> Result<(Image, Vec<PathBuf>)> {
        let reference = parse(reference)?;
        let found = {
            let mut tx = self.0.db.one().await?;
            rows::find(&mut tx, &Scope::Tenant(tenant.clone()), &reference.canonical()).await?
        };
        if let Some(row) = found {
            match self.whole(&reference, &row.manifest_digest).await {
                Ok(whole) => return Ok(whole),
                Err(error) => {
                    self.loaded().remove(&row.manifest_digest);
                    tracing::warn!(image.ref = %reference, error = chain(&error), "an image is not whole; pulling it again");
                }
            }
        }
        let ctx = Ctx::system("pull");
        let mut pull = self.begin_pull(&ctx, tenant.clone(), reference.clone(), None).await?;
        let done = pull
            .wait_for(|view| matches!(view.state, PullState::Done | PullState::Failed))
            .await
            .map(|view| view.clone())
            .map_err(|_closed| ServiceError::new(ProblemKind::Unavailable, "the agent is stopping"))?;
        if done.state == PullState::Failed {
            let detail = done.error.unwrap_or_else(|| "the pull failed".to_owned());
            return Err(ServiceError::new(ProblemKind::Registry, detail));
        }
        let row = {
            let mut tx = self.0.db.read().await?;
            rows::find(&mut tx, &Scope::Tenant(tenant.clone()), &reference.canonical()).await?
        };
        let row = row.ok_or_else(|| ServiceError::not_found("image", &reference.to_string()))?;
        self.whole(&reference, &row.manifest_digest).await
    }

    async fn whole(&self, reference: &ImageRef, digest: &str) -> Result<(Image, Vec<PathBuf>)> {
        let image = self.load(reference, digest).await?;
        let layers = self.0.content.layer_paths(&image).await.map_err(image_failed)?;
        Ok((image, layers))
    }

    async fn load(&self, reference: &ImageRef, digest: &str) -> Result<Image> {
        if let Some(known) = self.loaded().get(digest) {
            return Ok(Image { reference: reference.clone(), ..known.clone() });
        }
        let parsed: Digest =
            digest.parse().map_err(|error| ServiceError::internal("a stored digest is none", error))?;
        let image = self.0.content.load(reference.clone(), parsed).await.map_err(image_failed)?;
        let mut loaded = self.loaded();
        if loaded.len() >= LOADED_KEPT {
            loaded.clear();
        }
        loaded.insert(digest.to_owned(), image.clone());
        Ok(image)
    }

    /// The configuration of an image that a container runs, whatever its name means today.
    pub(crate) async fn config(&self, reference: &str, digest: &str) -> Result<ImageConfig> {
        Ok(self.of_container(reference, digest).await?.config)
    }

    /// An image that a container runs, whatever its name means today.
    pub(crate) async fn of_container(&self, reference: &str, digest: &str) -> Result<Image> {
        self.load(&parse(reference)?, digest).await
    }

    /// Makes an image of another and what a container of it has changed.
    pub(crate) async fn commit(
        &self,
        ctx: &Ctx,
        tenant: &TenantId,
        base: Image,
        root: Root,
        options: CommitOptions,
    ) -> Result<ImageView> {
        ctx.require(Permission::TenantWrite)?;
        let _making = self.0.collecting.read().await;
        let lease = self.0.content.lease();
        let image = self.0.content.commit(&lease, base, root, options).await.map_err(image_failed)?;
        let event = ("image.committed", "image.commit");
        self.record(ctx, tenant, &image.reference, &image, event).await
    }

    // ---- pull ----

    pub(crate) async fn pull(&self, ctx: &Ctx, request: PullRequest) -> Result<PullView> {
        ctx.require(Permission::TenantWrite)?;
        let tenant = ctx.tenant_for(request.tenant.as_ref())?;
        let reference = parse(&request.image)?;
        let credentials = request
            .credentials
            .map(|given| Credentials { username: given.username, password: given.password });
        let pull = self.begin_pull(ctx, tenant, reference, credentials).await?;
        let view = pull.borrow().clone();
        Ok(view)
    }

    async fn begin_pull(
        &self,
        ctx: &Ctx,
        tenant: TenantId,
        reference: ImageRef,
        credentials: Option<Credentials>,
    ) -> Result<watch::Receiver<PullView>> {
        self.check_tenant(&tenant).await?;
        let view = PullView {
            id: new_pull_id()?,
            image: reference.to_string(),
            tenant: tenant.clone(),
            state: PullState::Resolving,
            layers: Vec::new(),
            started_at: self.0.clock.now(),
            error: None,
        };
        let (sender, receiver) = watch::channel(view);
        let (cancelled, mut off) = watch::channel(None);
        {
            let mut pulls = self.pulls();
            let own = pulls.iter().filter(|pull| pull.runs() && pull.view.borrow().tenant == tenant);
            if own.count() >= PULLS_PER_TENANT {
                return Err(ServiceError::new(
                    ProblemKind::RateLimited,
                    format!("the tenant has {PULLS_PER_TENANT} pulls running already; wait for one to end"),
                ));
            }
            pulls.push_back(Pull { view: receiver.clone(), cancelled });
            if pulls.len() > PULLS_KEPT
                && let Some(oldest) = pulls.iter().position(|pull| !pull.runs())
            {
                pulls.remove(oldest);
            }
        }
        let (images, ctx) = (self.clone(), ctx.clone());
        self.0.tasks.spawn("pull", OnEnd::Fine, async move {
            let limit = images.0.pull_timeout;
            let pull = images.run_pull(&ctx, &tenant, &reference, credentials, &sender);
            // A pull that is dropped stops its downloads and removes what it had unpacked.
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(limit, pull) => outcome.unwrap_or_else(|_elapsed| {
                    Err(ServiceError::new(
                        ProblemKind::Registry,
                        format!("the pull took longer than {} s; registry.pull_timeout_s sets the limit", limit.as_secs()),
                    ))
                }),
                who = cancelled_by(&mut off) => {
                    Err(ServiceError::new(ProblemKind::Conflict, format!("{PULL_CANCELLED_BY}{who}")))
                }
            };
            if let Err(error) = &outcome {
                tracing::info!(image.ref = %reference, error = chain(error), "a pull failed");
            }
            sender.send_modify(|view| match outcome {
                Ok(()) => view.state = PullState::Done,
                Err(error) => {
                    view.state = PullState::Failed;
                    view.error = Some(error.detail);
                }
            });
            images.show(&sender.borrow());
        });
        Ok(receiver)
    }

    fn show(&self, view: &PullView) {
        // Nobody watches: fine.
        drop(self.0.progress.send(view.clone()));
    }

    async fn run_pull(
        &self,
        ctx: &Ctx,
        tenant: &TenantId,
        reference: &ImageRef,
        credentials: Option<Credentials>,
        view: &watch::Sender<PullView>,
    ) -> Result<()> {
        let _making = self.0.collecting.read().await;
        let lease = self.0.content.lease();
        let (progress, mut layers) = watch::channel(Vec::<Progress>::new());
        let options = PullOptions { credentials, progress: Some(progress), ..PullOptions::default() };
        let pull = self.0.registry.pull(&self.0.content, &lease, reference, options);
        tokio::pin!(pull);
        let image = loop {
            // Dropping the wait for progress loses nothing: the next one shows the latest.
            tokio::select! {
                image = &mut pull => break image.map_err(image_failed)?,
                Ok(()) = layers.changed() => {
                    let now: Vec<LayerProgress> = layers.borrow_and_update().iter().map(layer_progress).collect();
                    view.send_modify(|view| {
                        view.state = PullState::Pulling;
                        view.layers = now;
                    });
                    self.show(&view.borrow());
                }
            }
        };
        let now: Vec<LayerProgress> = layers.borrow().iter().map(layer_progress).collect();
        view.send_modify(|view| view.layers = now);
        self.record(ctx, tenant, reference, &image, ("image.pulled", "image.pull")).await.map(drop)
    }

    /// Gives the tenant the name for the image.
    async fn record(
        &self,
        ctx: &Ctx,
        tenant: &TenantId,
        reference: &ImageRef,
        image: &Image,
        (kind, action): (&'static str, &'static str),
    ) -> Result<ImageView> {
        let row = ImageRecord {
            tenant: tenant.clone(),
            tenant_name: String::new(),
            reference: reference.canonical(),
            manifest_digest: image.manifest_digest.to_string(),
            size_bytes: image.size_bytes,
            platform: format!("{}/{}", image.config.os, image.config.architecture),
            built_at: image.config.created.clone(),
            pulled_at: self.0.clock.now(),
        };
        let mut tx = self.0.db.begin().await?;
        rows::put(&mut tx, &row).await?;
        let change = Change {
            kind,
            tenant: Some(tenant.clone()),
            subject: reference.to_string(),
            subject_name: reference.to_string(),
            detail: BTreeMap::from([("digest".to_owned(), row.manifest_digest.clone())]),
        };
        self.0.events.changed(&mut tx, ctx, action, change).await?;
        let stored = rows::find(&mut tx, &Scope::Tenant(tenant.clone()), &row.reference).await?;
        tx.commit().await?;
        self.0.events.publish();
        Ok(view(&stored.unwrap_or(row)))
    }

    /// Pulls that the caller may see, newest first.
    pub(crate) fn list_pulls(&self, ctx: &Ctx) -> Result<Vec<PullView>> {
        ctx.require(Permission::TenantRead)?;
        let scope = ctx.scope()?;
        let pulls = self.pulls();
        Ok(pulls
            .iter()
            .rev()
            .map(|pull| pull.view.borrow().clone())
            .filter(|view| scope.covers(&view.tenant))
            .collect())
    }

    pub(crate) fn get_pull(&self, ctx: &Ctx, id: &PullId) -> Result<PullView> {
        self.list_pulls(ctx)?
            .into_iter()
            .find(|view| view.id == *id)
            .ok_or_else(|| ServiceError::not_found("pull", id.as_str()))
    }

    /// Calls a pull off, and waits until it has ended; what it had unpacked and nobody else needs goes.
    pub(crate) async fn cancel_pull(&self, ctx: &Ctx, id: &PullId) -> Result<()> {
        ctx.require(Permission::TenantWrite)?;
        let found = self.get_pull(ctx, id)?;
        let mut view = {
            let pulls = self.pulls();
            let pull = pulls.iter().find(|pull| pull.runs() && pull.view.borrow().id == *id);
            let pull = pull.ok_or_else(|| ServiceError::conflict("the pull has ended already"))?;
            pull.cancelled.send_if_modified(|who| {
                let first = who.is_none();
                who.get_or_insert_with(|| ctx.actor.clone());
                first
            });
            pull.view.clone()
        };
        let mut tx = self.0.db.begin().await?;
        let deed = Deed {
            action: "image.pull.cancel",
            tenant: Some(found.tenant),
            subject: found.image,
            ..Deed::default()
        };
        self.0.events.audit(&mut tx, ctx, deed).await?;
        tx.commit().await?;
        let ended = |view: &PullView| matches!(view.state, PullState::Done | PullState::Failed);
        // An agent that stops has ended it too.
        view.wait_for(ended).await.map(drop).unwrap_or_default();
        Ok(())
    }

    /// Progress of all pulls, as it happens.
    pub(crate) fn watch_pulls(&self) -> broadcast::Receiver<PullView> {
        self.0.progress.subscribe()
    }

    // ---- import ----

    /// Makes images of an archive file: docker save, an OCI layout, or a plain root file system.
    pub(crate) async fn import(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        reference: Option<&str>,
        file: PathBuf,
    ) -> Result<Vec<ImageView>> {
        ctx.require(Permission::TenantWrite)?;
        let tenant = ctx.tenant_for(tenant)?;
        self.check_tenant(&tenant).await?;
        let reference = reference.map(parse).transpose()?;
        let _making = self.0.collecting.read().await;
        let lease = self.0.content.lease();
        let options = ImportOptions { reference, ..ImportOptions::default() };
        let images = self.0.content.import_file(&lease, &file, options).await.map_err(image_failed)?;
        let mut views = Vec::with_capacity(images.len());
        for image in &images {
            let recorded =
                self.record(ctx, &tenant, &image.reference, image, ("image.imported", "image.import"));
            views.push(recorded.await?);
        }
        Ok(views)
    }

    async fn check_tenant(&self, tenant: &TenantId) -> Result<()> {
        let mut tx = self.0.db.read().await?;
        match tenants::get(&mut tx, tenant).await {
            Ok(_) => Ok(()),
            Err(StoreError::NotFound(_)) => Err(ServiceError::not_found("tenant", tenant.as_str())),
            Err(error) => Err(error.into()),
        }
    }

    // ---- look ----

    pub(crate) async fn list(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        page: &PageRequest,
    ) -> Result<Page<ImageView>> {
        ctx.require(Permission::TenantRead)?;
        let mut tx = self.0.db.read().await?;
        let found = rows::list(&mut tx, &ctx.scope_of(tenant)?, page).await?;
        Ok(Page { items: found.items.iter().map(view).collect(), next_cursor: found.next_cursor })
    }

    async fn find(&self, ctx: &Ctx, tenant: Option<&TenantId>, reference: &str) -> Result<ImageRecord> {
        let parsed = parse(reference)?;
        let mut tx = self.0.db.read().await?;
        match rows::find(&mut tx, &ctx.scope_of(tenant)?, &parsed.canonical()).await {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(ServiceError::not_found("image", reference)),
            Err(StoreError::Ambiguous(_)) => {
                Err(ServiceError::conflict("several tenants have this image; say which tenant's"))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn detail(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        reference: &str,
    ) -> Result<ImageDetail> {
        ctx.require(Permission::TenantRead)?;
        let row = self.find(ctx, tenant, reference).await?;
        let image = self.load(&parse(reference)?, &row.manifest_digest).await?;
        let run = image.config.config;
        Ok(ImageDetail {
            image: view(&row),
            config_digest: image.config_digest.to_string(),
            entrypoint: run.entrypoint,
            command: run.cmd,
            env: run.env,
            user: run.user,
            workdir: run.working_dir,
            labels: run.labels,
            exposed_ports: run.exposed_ports.into_iter().collect(),
            volumes: run.volumes.into_iter().collect(),
            layers: image
                .layers
                .iter()
                .map(|layer| LayerView {
                    digest: layer.digest.to_string(),
                    diff_id: layer.diff_id.to_string(),
                    compressed_bytes: layer.compressed_bytes,
                    unpacked_bytes: layer.unpacked_bytes,
                })
                .collect(),
            history: image
                .config
                .history
                .into_iter()
                .map(|step| HistoryView {
                    created: step.created,
                    created_by: step.created_by.unwrap_or_default(),
                    comment: step.comment.unwrap_or_default(),
                    empty_layer: step.empty_layer,
                })
                .collect(),
        })
    }

    // ---- change ----

    pub(crate) async fn tag(&self, ctx: &Ctx, request: TagRequest) -> Result<ImageView> {
        ctx.require(Permission::TenantWrite)?;
        let row = self.find(ctx, request.tenant.as_ref(), &request.source).await?;
        let target = parse(&request.target)?;
        let image = self.load(&parse(&request.source)?, &row.manifest_digest).await?;
        self.record(ctx, &row.tenant, &target, &image, ("image.tagged", "image.tag")).await
    }

    pub(crate) async fn remove(
        &self,
        ctx: &Ctx,
        tenant: Option<&TenantId>,
        reference: &str,
        force: bool,
    ) -> Result<()> {
        ctx.require(Permission::TenantWrite)?;
        let row = self.find(ctx, tenant, reference).await?;
        let scope = Scope::Tenant(row.tenant.clone());
        let familiar = parse(reference)?.to_string();
        let mut tx = self.0.db.begin().await?;
        let all =
            containers::list(&mut tx, &scope, &ContainerFilter::default(), &PageRequest::whole()).await?;
        let users: Vec<&str> = all
            .items
            .iter()
            .filter(|container| container.spec.image == familiar)
            .map(|container| container.name.as_str())
            .collect();
        if !users.is_empty() && !force {
            return Err(ServiceError::new(
                ProblemKind::InUse,
                format!(
                    "the image is used by {}; remove them, or use force to take only the name away",
                    users.join(", ")
                ),
            ));
        }
        rows::delete(&mut tx, &row.tenant, &row.reference).await?;
        let change = Change {
            kind: "image.removed",
            tenant: Some(row.tenant.clone()),
            subject: familiar.clone(),
            subject_name: familiar,
            detail: BTreeMap::from([("digest".to_owned(), row.manifest_digest.clone())]),
        };
        self.0.events.changed(&mut tx, ctx, "image.remove", change).await?;
        tx.commit().await?;
        self.0.events.publish();
        let images = self.clone();
        // In the background: it waits for running pulls, whose content it must not take away.
        self.0.tasks.spawn("collect images", OnEnd::Fine, async move {
            if let Err(error) = images.collect().await {
                tracing::error!(error = chain(&error), "unused image content was not removed");
            }
        });
        Ok(())
    }

    /// Removes content that no tenant names and no container runs.
    async fn collect(&self) -> Result<()> {
        // Whoever waits in the lock's queue holds up every pull behind it; pulls come and go, so a
        // moment without any is looked for from outside.
        let _alone = loop {
            if let Ok(alone) = self.0.collecting.try_write() {
                break alone;
            }
            let stopping = self.0.tasks.stopping();
            tokio::select! {
                () = tokio::time::sleep(COLLECT_RETRY) => {}
                () = stopping.cancelled() => return Ok(()),
            }
        };
        let mut tx = self.0.db.read().await?;
        let mut roots: BTreeSet<String> = rows::digests(&mut tx).await?.into_iter().collect();
        let all = containers::list(&mut tx, &Scope::All, &ContainerFilter::default(), &PageRequest::whole())
            .await?;
        roots.extend(all.items.into_iter().filter_map(|container| container.observed.image_digest));
        drop(tx);
        let roots: BTreeSet<Digest> = roots.iter().filter_map(|digest| digest.parse().ok()).collect();
        let collected = self.0.content.collect(roots).await.map_err(image_failed)?;
        tracing::info!(?collected, "unused image content was removed");
        Ok(())
    }
}

/// Who called the pull off; never, if nobody does.
async fn cancelled_by(off: &mut watch::Receiver<Option<String>>) -> String {
    match off.wait_for(Option::is_some).await.map(|who| who.clone()) {
        Ok(who) => who.unwrap_or_default(),
        // It was forgotten, and with it the way to call it off.
        Err(_closed) => std::future::pending().await,
    }
}

fn parse(reference: &str) -> Result<ImageRef> {
    reference.parse().map_err(|error: wharf_image::ReferenceError| {
        ServiceError::invalid_field("image", format!("{reference:?}: {error}"))
    })
}

fn new_pull_id() -> Result<PullId> {
    format!("pul_{}", uuid::Uuid::now_v7())
        .parse()
        .map_err(|error| ServiceError::internal("an id could not be made", error))
}

fn view(row: &ImageRecord) -> ImageView {
    let reference =
        row.reference.parse::<ImageRef>().map_or_else(|_| row.reference.clone(), |name| name.to_string());
    ImageView {
        reference,
        tenant: row.tenant.clone(),
        tenant_name: row.tenant_name.clone(),
        digest: row.manifest_digest.clone(),
        size_bytes: row.size_bytes,
        platform: row.platform.clone(),
        built_at: row.built_at.clone(),
        pulled_at: row.pulled_at,
    }
}

fn layer_progress(progress: &Progress) -> LayerProgress {
    LayerProgress {
        digest: progress.layer.to_string(),
        phase: match progress.phase {
            Phase::Waiting => LayerPhase::Waiting,
            Phase::Downloading => LayerPhase::Downloading,
            Phase::Extracting => LayerPhase::Extracting,
            Phase::Done => LayerPhase::Done,
            Phase::Exists => LayerPhase::Exists,
        },
        current_bytes: progress.current_bytes,
        total_bytes: Some(progress.total_bytes),
    }
}

/// What a failure with an image means to the caller.
pub(crate) fn image_failed(error: ImageError) -> ServiceError {
    let text = chain(&error);
    let kind = match &error {
        ImageError::Store(wharf_image::StoreError::DiskFull { .. })
        | ImageError::Unpack { source: wharf_image::UnpackError::DiskFull { .. }, .. }
        | ImageError::Rootfs { source: wharf_image::UnpackError::DiskFull { .. } } => {
            return ServiceError::new(ProblemKind::InsufficientStorage, "the disk is full; free some space")
                .because(text);
        }
        ImageError::Registry(RegistryError::NotFound { .. }) => ProblemKind::NotFound,
        ImageError::Registry(_) => ProblemKind::Registry,
        ImageError::Manifest(_)
        | ImageError::Archive(_)
        | ImageError::Unpack { .. }
        | ImageError::Rootfs { .. }
        | ImageError::DiffIdMismatch { .. } => ProblemKind::Invalid,
        // Something in the container that no layer can hold.
        ImageError::Commit { .. } => ProblemKind::Conflict,
        ImageError::Store(_) | ImageError::Walls(_) | ImageError::Task { .. } => {
            return ServiceError::internal("the image store failed", error);
        }
    };
    ServiceError::new(kind, text)
}
