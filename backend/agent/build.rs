//! Embeds the built dashboard: turns the files of `frontend/dist` (made by `cargo xtask web`) into a
//! sorted table of `include_bytes!`.
//!
//! Without them the agent still builds, and serves a page that says what to run; so that checks and
//! tests need no browser toolchain.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let dist = manifest.join("../../frontend/dist");
    // The stamp changes exactly when the dashboard does.
    let mut directives = format!("cargo::rerun-if-changed={}\n", dist.join("stamp").display());
    directives += "cargo::rerun-if-changed=build.rs\n";
    std::io::Write::write_all(&mut std::io::stdout(), directives.as_bytes())?;

    let mut files = Vec::new();
    if dist.join("stamp").exists() {
        collect(&dist.canonicalize()?, &mut files)?;
    }
    let dist = dist.canonicalize().unwrap_or(dist);
    let mut rows = Vec::new();
    for file in &files {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let url = format!("/{}", file.strip_prefix(&dist)?.to_str().ok_or("a file name is not UTF-8")?);
        if matches!(extension, "br" | "gz") || url == "/stamp" {
            continue;
        }
        let packed = |suffix: &str| {
            let path = PathBuf::from(format!("{}.{suffix}", file.display()));
            if path.exists() {
                format!("Some(include_bytes!(\"{}\"))", path.display())
            } else {
                "None".to_owned()
            }
        };
        let (brotli, gzip) = (packed("br"), packed("gz"));
        rows.push((
            url.clone(),
            format!(
                "Asset {{ path: {url:?}, raw: include_bytes!(\"{}\"), brotli: {brotli}, gzip: {gzip} }},\n",
                file.display()
            ),
        ));
    }
    rows.sort();
    let mut table = String::from("static ASSETS: &[Asset] = &[\n");
    for (_, row) in rows {
        write!(table, "    {row}")?;
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
