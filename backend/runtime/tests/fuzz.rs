//! Hostile bytes as descriptions of a container or of a further process: none panics, and none that
//! passes the checks leaves the places that a launch takes for granted. Seccomp profiles likewise.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::path::{Component, Path, PathBuf};

use wharf_fuzz::fuzz;
use wharf_runtime::seccomp::{Circumstances, Written};
use wharf_runtime::spec::{
    DeviceNode, ExecSpec, HostNamespaces, IdMap, IdSource, LaunchSpec, LogSpec, MountSource, MountSpec,
    NetworkNamespace, ProcessSpec, Rlimit, RootfsSpec, SPEC_VERSION, Seccomp, SpecError,
};

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn process() -> ProcessSpec {
    ProcessSpec {
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), "true".to_owned()],
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/srv".to_owned(),
        user: "1000:1000".to_owned(),
        groups: vec!["5".to_owned()],
        ids: IdSource::Files,
        capabilities: vec![0, 1, 21],
        capability_sets: None,
        no_new_privs: true,
        seccomp: Seccomp::Default,
        apparmor: None,
        rlimits: vec![Rlimit { resource: 7, soft: 1024, hard: 4096 }],
        terminal: true,
        terminal_size: Some((24, 80)),
        stdin: true,
        oom_score_adj: Some(100),
    }
}

fn launch() -> LaunchSpec {
    LaunchSpec {
        version: SPEC_VERSION,
        id: "c1".to_owned(),
        generation: 1,
        run_dir: "/run/wharf/c/c1".into(),
        state_dir: "/var/lib/wharf/c/c1".into(),
        log: LogSpec { dir: "/var/lib/wharf/c/c1/log".into(), max_file_bytes: 1 << 20, max_files: 3 },
        process: process(),
        hostname: "host".to_owned(),
        rootfs: RootfsSpec {
            layer_root: "/var/lib/wharf/layers".into(),
            layers: vec!["a".into(), "b/c".into()],
            writable: "/var/lib/wharf/c/c1/fs".into(),
            ephemeral: false,
            read_only: true,
        },
        mounts: vec![
            MountSpec {
                source: MountSource::Bind { path: "/srv/data".into(), idmap: true },
                target: "/data".to_owned(),
                read_only: true,
                no_exec: false,
                shallow: false,
            },
            MountSpec {
                source: MountSource::Tmpfs { size_bytes: 4096, mode: 0o1777 },
                target: "/tmp".to_owned(),
                read_only: false,
                no_exec: true,
                shallow: true,
            },
        ],
        id_map: Some(IdMap { host_base: 100_000, size: 65_536 }),
        network: NetworkNamespace::Private,
        cgroup: "wharf/t/c1-1".into(),
        masked_paths: vec!["/proc/kcore".to_owned()],
        read_only_paths: vec!["/proc/sys".to_owned()],
        sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]),
        devices: vec![DeviceNode {
            path: "fuse".to_owned(),
            character: true,
            major: 10,
            minor: 229,
            mode: 0o666,
        }],
        shm_size_bytes: 1 << 20,
        show_cgroups: true,
        delegate: false,
        writable_sys: false,
        host: HostNamespaces::default(),
        init: true,
        restore: None,
    }
}

/// Whether a path, taken literally, has names only.
fn stays(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir))
}

#[test]
fn a_description_that_is_accepted_stays_where_it_belongs() {
    let mut other = launch();
    (other.id_map, other.network) = (None, NetworkNamespace::Path("/run/netns/x".into()));
    let samples = [launch(), other].map(|spec| spec.encode().expect("it can be written"));
    let count = fuzz("launch-spec", &corpus("launch-spec"), samples, |bytes| {
        let spec = match LaunchSpec::decode(bytes) {
            Ok(spec) => spec,
            Err(error) => return (Some(discriminant(&error)), ""),
        };
        let again = LaunchSpec::decode(&spec.encode().expect("what was read can be written"));
        assert_eq!(again.expect("what was written can be read"), spec);
        if let Err(error) = spec.validate() {
            return (None, field(&error));
        }
        assert!(!spec.id.contains('/') && spec.id != ".." && !spec.id.contains('\0'), "{:?}", spec.id);
        for mount in &spec.mounts {
            let target = Path::new(&mount.target);
            assert!(target.is_absolute() && stays(target), "{}", mount.target);
            let kernel = target.starts_with("/proc") || target.starts_with("/sys");
            assert!(!kernel, "{}", mount.target);
        }
        assert!(spec.rootfs.layers.iter().all(|layer| layer.is_relative() && stays(layer)));
        assert!(spec.devices.iter().all(|device| stays(Path::new(&device.path))));
        assert!(spec.id_map.is_none_or(|map| map.host_base > 0));
        (None, "accepted")
    });
    assert!(count.expect("it ran") > 1000);
}

#[test]
fn a_further_process_that_is_accepted_has_a_program_and_no_text_with_an_end_in_it() {
    let spec = ExecSpec { version: SPEC_VERSION, exec_id: "e1".to_owned(), process: process() };
    let sample = spec.encode().expect("it can be written");
    let count = fuzz("exec-spec", &corpus("exec-spec"), [sample], |bytes| {
        let spec = match ExecSpec::decode(bytes) {
            Ok(spec) => spec,
            Err(error) => return (Some(discriminant(&error)), ""),
        };
        let again = ExecSpec::decode(&spec.encode().expect("what was read can be written"));
        assert_eq!(again.expect("what was written can be read"), spec);
        if let Err(error) = spec.validate() {
            return (None, field(&error));
        }
        let process = &spec.process;
        assert!(process.args.first().is_some_and(|program| !program.is_empty()));
        assert!(process.args.iter().chain(&process.env).all(|text| !text.contains('\0')));
        assert!(process.capabilities.iter().all(|capability| *capability < 64));
        (None, "accepted")
    });
    assert!(count.expect("it ran") > 1000);
}

fn field(error: &SpecError) -> &'static str {
    match error {
        SpecError::Field { field, .. } => field,
        SpecError::Version { .. } | SpecError::Decode(_) | SpecError::Encode(_) => "other",
    }
}

#[test]
fn a_profile_that_is_accepted_makes_a_program_that_ends_within_itself() {
    let sample = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read", "write", "execve", "exit_group"], "action": "SCMP_ACT_ALLOW", "args": []},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_NE"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
             "includes": {"minKernel": "4.8", "arches": ["amd64"]}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "bpf", "action": "SCMP_ACT_LOG", "errnoRet": 38, "includes": {"caps": ["CAP_BPF"]}}
        ]
    }"#;
    let here = Circumstances { capabilities: vec!["CAP_CHOWN".to_owned()], kernel: (6, 1) };
    let count = fuzz("seccomp", &corpus("seccomp"), [sample.to_vec()], |bytes| {
        let written = match Written::parse(bytes) {
            Ok(written) => written,
            Err(error) => return (Some(discriminant(&error)), 0),
        };
        let profile = match written.profile(&here) {
            Ok(profile) => profile,
            Err(error) => return (Some(discriminant(&error)), 1),
        };
        let Ok(program) = profile.compile() else { return (None, 0) };
        assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
        for (index, step) in program.iter().enumerate() {
            // BPF_RET, and BPF_JMP with and without a condition: what the kernel's checker looks at.
            let farthest = match (step.code & 0x07, step.code) {
                (0x06, _) => continue,
                (_, 0x05) => usize::try_from(step.operand).expect("a distance"),
                (0x05, _) => usize::from(step.jump_true.max(step.jump_false)),
                _ => 0,
            };
            assert!(index + farthest + 1 < program.len(), "step {index} leaves the program: {step:?}");
        }
        (None, program.len().ilog2())
    });
    assert!(count.expect("it ran") > 100);
}
