//! Bundles that cannot be run: each gets one clear line, a status that says whose fault it is, and
//! leaves nothing.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::{Bundle, ID, complaint};

/// Runs the bundle, which must fail with these words, and leave nothing.
fn refused(bundle: &Bundle, words: &[&str]) {
    let output = bundle.running().arg(ID).output().expect("run");
    let said = complaint(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
    bundle.assert_gone();
}

#[test]
fn a_bundle_that_is_none_is_refused() {
    let bundle = Bundle::new("true");
    let mut run = bundle.running();
    fs::remove_file(bundle.dir.path().join("config.json")).expect("remove");
    let said = complaint(&run.arg(ID).output().expect("run"));
    assert!(said.contains("could not read") && said.contains("config.json"), "{said}");
    let mut run = bundle.running();
    fs::write(bundle.dir.path().join("config.json"), "{ \"ociVersion\": ").expect("write");
    let said = complaint(&run.arg(ID).output().expect("run"));
    assert!(said.contains("is not a configuration") && said.contains("line 1"), "{said}");
    bundle.assert_gone();
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    let cases: &[(&str, Value, &[&str])] = &[
        ("/ociVersion", json!("2.0"), &["ociVersion"]),
        ("/root/path", json!("nowhere"), &["nowhere", "ENOENT"]),
        ("/root", Value::Null, &["root is missing"]),
        ("/process", Value::Null, &["process is missing"]),
        ("/process/args", json!([]), &["names no program"]),
        ("/process/cwd", json!("tmp"), &["process.cwd", "tmp"]),
        ("/process/capabilities/bounding", json!(["CAP_FLY"]), &["CAP_FLY", "bounding"]),
        ("/process/rlimits", json!([{ "type": "RLIMIT_FUN", "soft": 1, "hard": 1 }]), &["RLIMIT_FUN"]),
        ("/process/rlimits", json!([{ "type": "RLIMIT_CPU", "soft": 2, "hard": 1 }]), &["RLIMIT_CPU"]),
        ("/linux/namespaces", json!([{ "type": "pid" }]), &["host's ipc namespace"]),
        ("/linux/maskedPaths", json!(["/a/../b"]), &["masked_paths"]),
        ("/linux/sysctl", json!({ "kernel.core_pattern": "|/x" }), &["kernel.core_pattern"]),
        ("/linux/cgroupsPath", json!("/../x"), &["is not a path of a group"]),
        ("/linux/cgroupsPath", json!("system.slice:x:y"), &["systemd"]),
        ("/linux/resources/memory", json!({ "limit": 1000, "swap": 10 }), &["memory.swap"]),
    ];
    for (pointer, value, words) in cases {
        let mut bundle = Bundle::new("true");
        let (above, name) = pointer.rsplit_once('/').expect("pointer");
        bundle
            .config
            .pointer_mut(above)
            .expect("there")
            .as_object_mut()
            .expect("object")
            .insert((*name).to_owned(), value.clone());
        refused(&bundle, words);
    }
}

#[test]
fn what_is_not_supported_is_refused_and_not_ignored() {
    let cases: &[(&str, Value, &str)] = &[
        ("/hooks", json!({ "prestart": [{ "path": "/bin/true" }] }), "hooks"),
        ("/domainname", json!("x"), "domainname"),
        ("/process/apparmorProfile", json!("x"), "apparmorProfile"),
        ("/process/selinuxLabel", json!("x"), "selinuxLabel"),
        ("/linux/rootfsPropagation", json!("shared"), "rootfsPropagation"),
        ("/linux/personality", json!({ "domain": "LINUX32" }), "personality"),
        ("/linux/intelRdt", json!({ "closID": "x" }), "intelRdt"),
        ("/linux/resources/unified", json!({ "memory.high": "1" }), "unified"),
        ("/linux/devices", json!([{ "path": "/x", "type": "c", "major": 1, "minor": 3 }]), "/x"),
        ("/mounts", json!([{ "destination": "/x", "type": "ext4", "source": "/y" }]), "ext4"),
        ("/mounts", json!([{ "destination": "/sys", "type": "sysfs", "options": [] }]), "ro"),
        (
            "/mounts",
            json!([{ "destination": "/proc", "type": "proc", "options": ["hidepid=2"] }]),
            "hidepid=2",
        ),
        (
            "/mounts",
            json!([{ "destination": "/x", "type": "bind", "source": "/y", "options": ["shared"] }]),
            "shared",
        ),
    ];
    for (pointer, value, word) in cases {
        let mut bundle = Bundle::new("true");
        let (above, name) = pointer.rsplit_once('/').expect("pointer");
        bundle
            .config
            .pointer_mut(above)
            .expect("there")
            .as_object_mut()
            .expect("object")
            .insert((*name).to_owned(), value.clone());
        refused(&bundle, &[word, "is not supported"]);
    }
}

#[test]
fn a_command_line_that_cannot_be_meant_shows_what_can() {
    let bundle = Bundle::new("true");
    for words in [&["run", "../x"][..], &["fly"], &["kill"]] {
        let output = std::process::Command::new(crate::bundle::program()).arg("oci").args(words).output();
        let output = output.expect("run");
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        assert!(complaint(&output).contains("usage: wharf oci"), "{output:?}");
    }
    let output = bundle.act("kill", &["SIGNONE"]);
    assert!(complaint(&output).contains("SIGNONE"), "{output:?}");
}
