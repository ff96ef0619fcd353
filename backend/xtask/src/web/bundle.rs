//! From source to the files that the agent embeds.
//!
//! ```text
//! frontend/dist/index.html
//! frontend/dist/assets/<16 hex>/{boot.js,app.js,app_bg.wasm,chunks.js,*.wasm,style.css}
//! frontend/dist/assets/<16 hex>/{snippets,vendor}/**
//! frontend/dist/stamp
//! ```
//! One hashed directory instead of hashed file names: no import has to be rewritten, and everything
//! but `index.html` may be cached for ever. The hash is that of the inputs and of this recipe, so that
//! the same source gives the same names everywhere. `stamp` changes exactly when the bundle does: the
//! agent's build script watches it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use sha2::{Digest as _, Sha256};

use super::toolchain::{TARGET, Toolchain};
use super::{files, vendor};
use crate::{process, say};

/// Below this size headers cost more than compression saves.
const COMPRESS_MIN_BYTES: usize = 512;

/// Builds the dashboard into `frontend/dist`, installing what is missing. With `release` it is small
/// and compressed; without, it is built quickly and keeps names for stack traces.
pub(crate) fn build(repo: &Path, release: bool) -> Result<()> {
    let frontend = repo.join("frontend");
    vendor::ensure(&frontend)?;
    let wasm = compile(repo, release)?;
    let inputs = Inputs::read(&frontend)?;
    let hash = inputs.hash(&wasm, release);
    let dist = frontend.join("dist");
    let stamp_file = dist.join("stamp");
    if files::is_fresh(&stamp_file, &hash) {
        return Ok(());
    }
    let fresh = frontend.join("dist.new");
    files::remove_dir(&fresh)?;
    let assets = fresh.join("assets").join(&hash);
    files::create_dir(&assets)?;
    let main = split(&wasm, &assets)?;
    bind(main, &assets, release)?;
    inputs.write(&fresh, &assets, &hash)?;
    if release {
        compress_all(&fresh)?;
        say::line(&format!(
            "The dashboard's first load is {} KiB compressed",
            first_load_kib(&fresh, &assets)?
        ));
    }
    files::write(&fresh.join("stamp"), &hash)?;
    files::remove_dir(&dist)?;
    files::rename(&fresh, &dist)
}

fn compile(repo: &Path, release: bool) -> Result<Vec<u8>> {
    let profile = if release { "web" } else { "web-dev" };
    say::line("Building the dashboard");
    // A target directory of its own: no lock is shared with the cargo that runs this program, and
    // neither throws the other's work away.
    let target = repo.join("target/web");
    let mut command = Toolchain::find(repo)?.cargo(repo);
    command
        .args(["build", "--quiet", "--package", "wharf-frontend", "--bin", "wharf-frontend"])
        .args(["--target", TARGET, "--profile", profile])
        .env("CARGO_TARGET_DIR", &target);
    process::run(&mut command)?;
    let file = target.join(TARGET).join(profile).join("wharf-frontend.wasm");
    files::read(&file)
}

/// Cuts the program at its lazy pages; returns what is loaded first.
fn split(wasm: &[u8], assets: &Path) -> Result<Vec<u8>> {
    let main = assets.join("main.wasm");
    let mut options = wasm_split_cli_support::Options::new(wasm);
    options.output_dir = assets;
    options.main_out_path = &main;
    options.link_name = "./chunks.js";
    options.main_module = "./app.js";
    wasm_split_cli_support::transform(options)
        .map_err(|error| anyhow!("{error:#}"))
        .context("cut the dashboard into chunks")?;
    let first = files::read(&main)?;
    fs::remove_file(&main).with_context(|| format!("remove {}", main.display()))?;
    Ok(first)
}

fn bind(wasm: Vec<u8>, assets: &Path, release: bool) -> Result<()> {
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen
        .web(true)?
        .input_bytes("app", wasm)
        // Without it `init()` finds the .wasm file only when told its path.
        .omit_default_module_path(false)
        .typescript(false)
        // Chunks are linked by these names.
        .keep_lld_exports(true)
        .demangle(false)
        .remove_name_section(release)
        .remove_producers_section(true)
        .keep_debug(false)
        .generate(assets)
        .context("make the JavaScript around the dashboard's WebAssembly")
}

/// Everything but the program itself.
struct Inputs {
    index: String,
    boot: String,
    style: String,
    vendor: Vec<(String, Vec<u8>)>,
}

impl Inputs {
    fn read(frontend: &Path) -> Result<Self> {
        let mut style = String::new();
        for sheet in files::below(&frontend.join("style"))?.iter().chain([&frontend.join("vendor/xterm.css")])
        {
            style += &files::read_text(sheet)?;
        }
        let mut vendor = Vec::new();
        for path in files::below(&frontend.join("vendor"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name != "pins" && name != "xterm.css" {
                vendor.push((name, files::read(&path)?));
            }
        }
        Ok(Self {
            index: files::read_text(&frontend.join("index.html"))?,
            boot: files::read_text(&frontend.join("js/boot.js"))?,
            style,
            vendor,
        })
    }

    fn hash(&self, wasm: &[u8], release: bool) -> String {
        let mut hasher = Sha256::new();
        let recipe = include_str!("bundle.rs").as_bytes();
        let mut parts =
            vec![recipe, wasm, self.index.as_bytes(), self.boot.as_bytes(), self.style.as_bytes()];
        for (name, content) in &self.vendor {
            parts.extend([name.as_bytes(), content]);
        }
        for part in parts {
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        hasher.update([u8::from(release)]);
        let digest = hex::encode(hasher.finalize());
        digest.get(..16).unwrap_or(&digest).to_owned()
    }

    fn write(&self, dist: &Path, assets: &Path, hash: &str) -> Result<()> {
        let vendor = assets.join("vendor");
        files::create_dir(&vendor)?;
        for (name, content) in &self.vendor {
            files::write(&vendor.join(name), content)?;
        }
        files::write(&assets.join("style.css"), &self.style)?;
        files::write(&assets.join("boot.js"), &self.boot)?;
        files::write(&dist.join("index.html"), self.index.replace("{{assets}}", &format!("/assets/{hash}")))
    }
}

fn compress_all(dir: &Path) -> Result<()> {
    for file in files::below(dir)? {
        let raw = files::read(&file)?;
        if raw.len() < COMPRESS_MIN_BYTES {
            continue;
        }
        for (suffix, packed) in [("br", brotli(&raw)?), ("gz", gzip(&raw)?)] {
            if packed.len() < raw.len() {
                files::write(&suffixed(&file, suffix), packed)?;
            }
        }
    }
    Ok(())
}

fn brotli(raw: &[u8]) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    let parameters = brotli::enc::BrotliEncoderParams { quality: 11, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut &*raw, &mut packed, &parameters).context("compress with brotli")?;
    Ok(packed)
}

fn gzip(raw: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(raw).context("compress with gzip")?;
    encoder.finish().context("compress with gzip")
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// What a browser fetches before the first page stands, terminal not included.
fn first_load_kib(dist: &Path, assets: &Path) -> Result<u64> {
    let mut bytes = 0;
    let names = ["boot.js", "app.js", "app_bg.wasm", "chunks.js", "style.css"];
    for file in names.iter().map(|name| assets.join(name)).chain([dist.join("index.html")]) {
        let packed = suffixed(&file, "br");
        let file = if packed.exists() { packed } else { file };
        bytes += fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?.len();
    }
    Ok(bytes.div_ceil(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Inputs {
        Inputs {
            index: "<link href=\"{{assets}}/style.css\">".to_owned(),
            boot: "import './app.js';".to_owned(),
            style: "a {}".to_owned(),
            vendor: vec![("x.mjs".to_owned(), b"export {}".to_vec())],
        }
    }

    #[test]
    fn the_hash_follows_every_input_and_nothing_else() {
        let first = inputs().hash(b"wasm", true);
        assert_eq!(inputs().hash(b"wasm", true), first);
        assert_eq!(first.len(), 16);
        assert_ne!(inputs().hash(b"wasm2", true), first);
        assert_ne!(inputs().hash(b"wasm", false), first);
        assert_ne!(Inputs { style: "b {}".to_owned(), ..inputs() }.hash(b"wasm", true), first);
    }

    #[test]
    fn the_index_names_the_hashed_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let assets = dir.path().join("assets/00ff");
        fs::create_dir_all(&assets).expect("create");
        inputs().write(dir.path(), &assets, "00ff").expect("write");
        let index = fs::read_to_string(dir.path().join("index.html")).expect("an index");
        assert_eq!(index, "<link href=\"/assets/00ff/style.css\">");
    }

    #[test]
    fn large_files_are_compressed_both_ways_and_small_ones_are_left() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("large.js"), "let a = 1;\n".repeat(200)).expect("write");
        fs::write(dir.path().join("small.js"), "1").expect("write");
        compress_all(dir.path()).expect("compress");
        let names = ["large.js.br", "large.js.gz", "small.js.br", "small.js.gz"];
        assert_eq!(names.map(|name| dir.path().join(name).exists()), [true, true, false, false]);
    }
}
