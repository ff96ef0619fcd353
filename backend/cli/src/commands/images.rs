//! Images: pull, import, list, look at, name, remove.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use futures_util::TryStreamExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Body, Method};
use tokio_util::io::ReaderStream;
use wharf_shared::id::TenantId;
use wharf_shared::image::{
    ImageDetail, ImageView, LayerPhase, LayerProgress, PullRequest, PullState, PullView, RegistryCredentials,
    TagRequest,
};

use super::Shell;
use crate::client::{Client, read};
use crate::output::{self, Table};
use crate::quantity::{show_bytes, show_span};
use crate::{clock, terminal};

/// Progress is asked for this often.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);
/// A large archive takes a while.
const IMPORT_TIMEOUT: Duration = Duration::from_hours(6);
const BAR: &str = "{prefix:12} {msg:<11} [{bar:30}] {bytes:>10} / {total_bytes}";
const SPINNER: &str = "{prefix:12} {msg:<11} {bytes:>10}";

/// `wharf pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// Whose image it becomes; your own tenant's when absent.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// User name for the registry; the password is asked for.
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Read the registry's password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Show no progress.
    #[arg(short, long)]
    quiet: bool,
    /// The image, such as busybox:1.36 or registry.example/team/app@sha256:….
    image: String,
}

/// `wharf images`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those of this tenant.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
}

/// `wharf import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// Whose image it becomes; your own tenant's when absent.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// Its name; an archive's own names when absent.
    #[arg(long, value_name = "REFERENCE")]
    reference: Option<String>,
    /// The tar file, perhaps compressed; `-` for standard input.
    file: PathBuf,
}

/// `wharf image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Show all about an image, as JSON.
    Inspect(OneArguments),
    /// Show the steps that made an image.
    History(OneArguments),
    /// Give an image a further name.
    Tag {
        #[command(flatten)]
        image: OneArguments,
        /// The further name.
        target: String,
    },
    /// Remove images' names; what nobody uses any more goes from the disk.
    Rm {
        /// Also when containers use it.
        #[arg(short, long)]
        force: bool,
        #[command(flatten)]
        image: OneArguments,
    },
}

/// One image.
#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    /// Whose image; your own tenant's when absent.
    #[arg(long, value_name = "NAME", env = "WHARF_TENANT")]
    tenant: Option<String>,
    /// Its name.
    reference: String,
}

/// Pulls an image.
pub(crate) async fn pull(shell: &Shell, arguments: PullArguments) -> Result<()> {
    let client = shell.client()?;
    let credentials = match arguments.username {
        None => None,
        Some(username) => {
            let password = terminal::secret("Registry password", arguments.password_stdin)?;
            Some(RegistryCredentials { username, password })
        }
    };
    let tenant = client.tenant_id(arguments.tenant.as_deref()).await?;
    let request = PullRequest { image: arguments.image, tenant, credentials };
    let view = pull_image(&client, &request, !(arguments.quiet || shell.output.json)).await?;
    shell.output.outcome(&view, &view.image)
}

/// Pulls an image and waits for it, perhaps with bars on standard error.
pub(crate) async fn pull_image(client: &Client, request: &PullRequest, show: bool) -> Result<PullView> {
    let mut view: PullView = client.post(&["images", "pull"], &[], request).await?;
    let mut bars = Bars::new(show);
    loop {
        bars.update(&view.layers);
        match view.state {
            PullState::Done => return Ok(view),
            PullState::Failed => {
                let why = view.error.as_deref().unwrap_or("the agent gives no reason");
                bail!("{} could not be pulled: {why}", view.image);
            }
            PullState::Resolving | PullState::Pulling => {}
        }
        let id = view.id.clone();
        let one = ["images", "pulls", id.as_str()];
        // Either branch only says what to ask next.
        tokio::select! {
            () = tokio::time::sleep(PROGRESS_PERIOD) => view = client.get(&one, &[]).await?,
            // Without a way to hear of Ctrl-C the pull goes on.
            Ok(()) = tokio::signal::ctrl_c() => {
                client.act(client.request(Method::DELETE, &one)).await?;
                bail!("the pull of {} was cancelled", view.image);
            }
        }
    }
}

/// One bar a layer, on standard error if that is a terminal.
struct Bars {
    all: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn new(show: bool) -> Self {
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { all: MultiProgress::with_draw_target(target), bars: BTreeMap::new() }
    }

    fn update(&mut self, layers: &[LayerProgress]) {
        for layer in layers {
            let all = &self.all;
            let bar = self.bars.entry(layer.digest.clone()).or_insert_with(|| {
                all.add(ProgressBar::no_length()).with_prefix(short(&layer.digest).to_owned())
            });
            match layer.total_bytes {
                Some(total) => {
                    bar.set_style(style(BAR));
                    bar.set_length(total);
                }
                None => bar.set_style(style(SPINNER)),
            }
            bar.set_position(layer.current_bytes);
            bar.set_message(phase(layer.phase));
            if matches!(layer.phase, LayerPhase::Done | LayerPhase::Exists) {
                bar.abandon();
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants, checked by a test; a wrong one shows the plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn phase(phase: LayerPhase) -> &'static str {
    match phase {
        LayerPhase::Waiting => "waiting",
        LayerPhase::Downloading => "downloading",
        LayerPhase::Extracting => "extracting",
        LayerPhase::Done => "done",
        LayerPhase::Exists => "exists",
    }
}

/// The first twelve characters of a digest's hash.
fn short(digest: &str) -> &str {
    let hash = digest.split_once(':').map_or(digest, |(_, hash)| hash);
    hash.get(..12).unwrap_or(hash)
}

/// Lists images.
pub(crate) async fn list(shell: &Shell, arguments: ListArguments) -> Result<()> {
    let query: Vec<_> = arguments.tenant.iter().map(|tenant| ("tenant", tenant.as_str())).collect();
    let views: Vec<ImageView> = shell.client()?.list(&["images"], &query).await?;
    let now = clock::now();
    shell.output.list(&views, |views| {
        let mut table = Table::new(&["REFERENCE", "TENANT", "DIGEST", "PLATFORM", "SIZE", "PULLED"]);
        for view in views {
            table.row([
                view.reference.clone(),
                view.tenant_name.clone(),
                short(&view.digest).to_owned(),
                view.platform.clone(),
                show_bytes(view.size_bytes),
                format!("{} ago", show_span(view.pulled_at, now)),
            ]);
        }
        table
    })
}

/// Looks at, names or removes an image.
pub(crate) async fn image(shell: &Shell, command: ImageCommand) -> Result<()> {
    let client = shell.client()?;
    match command {
        ImageCommand::Inspect(one) => output::document(&detail(&client, &one).await?),
        ImageCommand::History(one) => {
            let detail = detail(&client, &one).await?;
            shell.output.list(&detail.history, |steps| {
                let mut table = Table::new(&["CREATED", "LAYER", "STEP", "COMMENT"]);
                for step in steps {
                    table.row([
                        step.created.clone().unwrap_or_default(),
                        if step.empty_layer { "no" } else { "yes" }.to_owned(),
                        step.created_by.clone(),
                        step.comment.clone(),
                    ]);
                }
                table
            })
        }
        ImageCommand::Tag { image, target } => {
            let tenant = client.tenant_id(image.tenant.as_deref()).await?;
            let request = TagRequest { source: image.reference, target, tenant };
            let view: ImageView = client.post(&["images", "tag"], &[], &request).await?;
            shell.output.outcome(&view, &view.reference)
        }
        ImageCommand::Rm { force, image } => {
            let tenant = client.tenant_id(image.tenant.as_deref()).await?;
            let mut query = query(&image.reference, tenant.as_ref());
            query.push(("force", if force { "true" } else { "false" }));
            client.act(client.request(Method::DELETE, &["images"]).query(&query)).await?;
            shell.output.outcome(&image.reference, &image.reference)
        }
    }
}

async fn detail(client: &Client, one: &OneArguments) -> Result<ImageDetail> {
    let tenant = client.tenant_id(one.tenant.as_deref()).await?;
    client.get(&["images", "detail"], &query(&one.reference, tenant.as_ref())).await
}

fn query<'a>(reference: &'a str, tenant: Option<&'a TenantId>) -> Vec<(&'static str, &'a str)> {
    let mut query = vec![("reference", reference)];
    query.extend(tenant.map(|tenant| ("tenant", tenant.as_str())));
    query
}

/// Imports a tar file.
pub(crate) async fn import(shell: &Shell, arguments: ImportArguments) -> Result<()> {
    let client = shell.client()?;
    let tenant = client.tenant_id(arguments.tenant.as_deref()).await?;
    let mut query: Vec<_> =
        arguments.reference.iter().map(|reference| ("reference", reference.as_str())).collect();
    query.extend(tenant.as_ref().map(|tenant| ("tenant", tenant.as_str())));
    let (body, bar) = upload(&arguments.file, !shell.output.json).await?;
    let request = client
        .request(Method::POST, &["images", "import"])
        .query(&query)
        .header("content-type", "application/x-tar")
        .timeout(IMPORT_TIMEOUT)
        .body(body);
    let sent = client.send(request).await;
    bar.finish_and_clear();
    let views: Vec<ImageView> = read(sent?).await?;
    if shell.output.json {
        return output::document(&views);
    }
    views.iter().try_for_each(|view| output::line(&output::visible(&view.reference)))
}

/// A file as a request's body, with a bar that moves as it is sent.
async fn upload(path: &Path, show: bool) -> Result<(Body, ProgressBar)> {
    let is_shown = show && std::io::stderr().is_terminal();
    let bar = |length| {
        let bar = if is_shown { ProgressBar::new(length) } else { ProgressBar::hidden() };
        bar.with_style(style(if length > 0 { BAR } else { SPINNER })).with_message("sending")
    };
    if path == Path::new("-") {
        let bar = bar(0);
        let counted = bar.clone();
        let stream = ReaderStream::new(tokio::io::stdin()).inspect_ok(move |bytes| count(&counted, bytes));
        return Ok((Body::wrap_stream(stream), bar));
    }
    let file = tokio::fs::File::open(path).await.with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata().await.with_context(|| format!("look at {}", path.display()))?.len();
    let bar = bar(length);
    let counted = bar.clone();
    let stream = ReaderStream::with_capacity(file, 64 * 1024).inspect_ok(move |bytes| count(&counted, bytes));
    Ok((Body::wrap_stream(stream), bar))
}

fn count(bar: &ProgressBar, bytes: &bytes::Bytes) {
    bar.inc(u64::try_from(bytes.len()).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        assert!(ProgressStyle::with_template(BAR).is_ok() && ProgressStyle::with_template(SPINNER).is_ok());
    }

    #[test]
    fn a_digest_is_shown_by_its_hash_s_begin() {
        assert_eq!(short(&format!("sha256:{}", "ab".repeat(32))), "abababababab");
        assert_eq!(short("odd"), "odd");
    }

    #[test]
    fn every_layer_gets_one_bar_that_moves() {
        let mut bars = Bars::new(false);
        let layer = |current_bytes| LayerProgress {
            digest: "sha256:aa".to_owned(),
            phase: LayerPhase::Downloading,
            current_bytes,
            total_bytes: Some(10),
        };
        bars.update(&[layer(1)]);
        bars.update(&[layer(7)]);
        let positions: Vec<_> = bars.bars.values().map(|bar| (bar.position(), bar.length())).collect();
        assert_eq!(positions, [(7, Some(10))]);
    }
}
