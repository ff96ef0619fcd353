//! Hostile bytes at the entries of an image: archives with all that is in them, references, configurations.
//!
//! The corpus is imported first, each file with the end that its name promises. Then mutations of it
//! follow, most with their checksums put right, as a fuzzer would have to learn. The seed is printed;
//! `WHARF_FUZZ_SEED` gives it again, and with `WHARF_SOAK` there are a thousand times as many.
//!
//! Needs root, as the product does: archives hold device nodes and foreign owners.
#![expect(clippy::tests_outside_test_module, reason = "an integration test")]
#![expect(clippy::expect_used, reason = "an integration test and its support")]

mod support;

use std::fs;
use std::io::{Cursor, Read as _};
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use support::{Host, chain};
use wharf_image::{ImageConfig, ImageError, ImageRef, ImportOptions, Limits};

const BLOCK_BYTES: usize = 512;

/// One change of an input: what, where, and with which byte.
type Edit = (u8, Index, u8);

/// The corpus in the order of its names, unpacked to plain archives.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> =
        fs::read_dir(directory).expect("corpus").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let mut archive = Vec::new();
        let packed = fs::File::open(&path).expect("opens");
        flate2::read::GzDecoder::new(packed).read_to_end(&mut archive).expect("gzip");
        (path.file_name().expect("a name").display().to_string(), archive)
    };
    paths.into_iter().map(read).collect()
}

/// A runner whose seed is printed, and can be given.
#[expect(clippy::print_stderr, reason = "a failed test says how to repeat it; libtest shows it only then")]
fn runner(name: &str, cases: u32) -> TestRunner {
    let seed = std::env::var("WHARF_FUZZ_SEED").ok().map_or_else(
        || {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("random bytes");
            u64::from_le_bytes(bytes)
        },
        |given| given.parse().expect("WHARF_FUZZ_SEED is a number"),
    );
    eprintln!("{name}: WHARF_FUZZ_SEED={seed}");
    let mut long_seed = [0; 32];
    long_seed[..8].copy_from_slice(&seed.to_le_bytes());
    let soak = std::env::var_os("WHARF_SOAK").is_some();
    let config = ProptestConfig {
        cases: if soak { cases * 1000 } else { cases },
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &long_seed))
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(any::<Edit>(), 0..9)
}

fn mutated(input: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut input = input.to_vec();
    for (what, place, byte) in edits {
        if input.is_empty() {
            break;
        }
        let at = place.index(input.len());
        match what % 8 {
            0 => input.truncate(at),
            1 => {
                input.remove(at);
            }
            2 => input.insert(at, *byte),
            3 => {
                // A whole member again, elsewhere, or taken out.
                let from = at / BLOCK_BYTES * BLOCK_BYTES;
                let until = input.len().min(from + BLOCK_BYTES * (1 + usize::from(byte % 3)));
                let piece: Vec<u8> = input.drain(from..until).collect();
                if byte % 2 == 0 {
                    input.extend_from_slice(&piece);
                }
            }
            4 => input[at] ^= 1 << (byte % 8),
            // What names, numbers and whiteouts are made of.
            5 => input[at] = b"./\0wh79="[usize::from(byte % 8)],
            6 => input[at] = b"0123456gxLKS"[usize::from(byte % 12)],
            _ => input[at] = *byte,
        }
    }
    input
}

/// Makes each header's checksum right, so that what is behind that check is reached.
fn with_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    for block in archive.as_chunks_mut::<BLOCK_BYTES>().0 {
        if block[257..262] == *b"ustar" {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    archive
}

/// Imports it, and asserts that nobody panicked, nothing outside changed and nothing half-made is left.
async fn import(host: &Host, archive: Vec<u8>) -> Result<(), ImageError> {
    let lease = host.store.lease();
    let options =
        ImportOptions { reference: Some("fuzz:1".parse().expect("a name")), ..ImportOptions::default() };
    let imported = host.store.import(&lease, Cursor::new(archive), options).await;
    assert!(!matches!(imported, Err(ImageError::Task { .. })), "{imported:?}");
    host.assert_canary_lives();
    let ingest = fs::read_dir(host.path().join("state/images/ingest")).expect("lists");
    assert_eq!(ingest.count(), 0, "something half-made is left");
    imported.map(drop)
}

/// Attacks: C1, C2, C9.
#[tokio::test]
async fn each_archive_of_the_corpus_ends_as_its_name_says() {
    for (name, archive) in corpus() {
        let host = Host::new(Limits::default());
        match (import(&host, archive).await, name.split_once('-').map(|(end, _)| end)) {
            (Ok(()), Some("taken")) => {}
            (Err(_), Some("refused")) => host.assert_empty(),
            (Ok(()), _) => panic!("{name} was taken"),
            (Err(error), _) => panic!("{name}: {}", chain(&error)),
        }
    }
}

/// Attacks: C1, C2.
#[test]
fn no_mutation_of_an_archive_reaches_outside_or_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let limits = Limits { entries: 1000, unpacked_bytes: 1 << 20, ..Limits::default() };
    let host = Host::new(limits);
    let pool = corpus();
    let (taken, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let checked = runner("archives", 400).run(&(any::<Index>(), edits(), 0..4_u8), |(which, edits, keep)| {
        let archive = mutated(&which.get(&pool).1, &edits);
        let archive = if keep == 0 { archive } else { with_checksums(archive) };
        let end = if runtime.block_on(import(&host, archive)).is_ok() { &taken } else { &refused };
        end.set(end.get() + 1);
        Ok(())
    });
    checked.expect("every archive is taken or refused");
    assert!(taken.get() > 20 && refused.get() > 20, "{taken:?} taken, {refused:?} refused: not a test");
}

#[test]
fn no_mutation_of_a_reference_means_something_else_when_read_again() {
    let hex = "0".repeat(64);
    let pinned = format!("ghcr.io/a/b@sha256:{hex}");
    let pool = ["debian", "debian:12", "host.io:5000/a/b__c:v1.0-x", "[::1]:80/x", "localhost/a", &pinned];
    let checked = runner("references", 20_000).run(&(any::<Index>(), edits()), |(which, edits)| {
        let bytes = mutated(which.get(&pool).as_bytes(), &edits);
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(reference) = text.parse::<ImageRef>() {
            prop_assert_eq!(reference.canonical().parse(), Ok(reference.clone()));
            prop_assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
            prop_assert!(reference.repository().split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
        Ok(())
    });
    checked.expect("a reference means one thing");
}

/// Attacks: C9.
#[test]
fn no_mutation_of_a_configuration_has_a_volume_over_the_system() {
    let config = r#"{"os":"linux","architecture":"amd64","config":{"Env":["A=b"],"Cmd":null,"User":"1:1",
        "Volumes":{"/data/../d":{},"/proc":{}},"Labels":{"a":"b"},"Healthcheck":{"Test":["NONE"]}},
        "rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x","empty_layer":true}]}"#;
    let fine = config.replace("/../", "/x/").replace("/proc", "/prod");
    let pool = [config.to_owned(), fine];
    let read = std::cell::Cell::new(0);
    let checked = runner("configurations", 20_000).run(&(any::<Index>(), edits()), |(which, edits)| {
        let Ok(config) = ImageConfig::parse(&mutated(which.get(&pool).as_bytes(), &edits)) else {
            return Ok(());
        };
        read.set(read.get() + 1);
        for volume in &config.config.volumes {
            let parts: Vec<_> = volume.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            prop_assert!(!parts.contains(&".."), "{}", volume);
            prop_assert!(!matches!(parts.first(), None | Some(&("proc" | "sys" | "dev"))), "{}", volume);
        }
        let written = serde_json::to_vec(&config).expect("JSON");
        prop_assert!(ImageConfig::parse(&written).is_ok(), "what was read is written so that it is read");
        Ok(())
    });
    checked.expect("no volume covers the system");
    assert!(read.get() > 20, "only {read:?} were read");
}
