//! The command line against a real agent.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead as _, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wharf_e2e::{Image, World, run};
use wharf_shared::host::{CheckStatus, CheckView};

#[test]
fn a_container_s_life_from_the_command_line() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let script = "echo began; i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo tick $i; sleep 0.01; done; exec sleep 1000";
        let id = world.said(&[
            "run",
            "-d",
            "--name",
            "web",
            "--cpus",
            "0.5",
            "--cpuset-cpus",
            "0",
            "-m",
            "64m",
            &image,
            "sh",
            "-c",
            script,
        ])?;
        ensure!(id.trim().len() == 64, "run -d prints the id: {id}");
        let list = world.said(&["ps"])?;
        ensure!(list.contains("web") && list.contains("running"), "{list}");
        let json: serde_json::Value = serde_json::from_str(&world.said(&["ps", "--json"])?)?;
        ensure!(json.to_string().contains(id.trim()), "{json}");

        world.logged("web", "tick 50")?;
        let ticks = world.said(&["logs", "web"])?;
        assert_eq!(ticks.lines().filter(|line| line.starts_with("tick ")).count(), 50, "{ticks}");
        assert_eq!(world.said(&["exec", "web", "echo", "inside"])?, "inside\n");
        assert_eq!(world.wharf(&["exec", "web", "sh", "-c", "exit 17"])?.status.code(), Some(17));

        // Follows until the container ends.
        let follower = world.wharf_command(&["logs", "-f", "web"])?.stdout(Stdio::piped()).spawn()?;
        world.said(&["stop", "-t", "1", "web"])?;
        let followed = follower.wait_with_output()?;
        ensure!(followed.status.success(), "{followed:?}");
        ensure!(String::from_utf8_lossy(&followed.stdout).ends_with("tick 50\n"), "{followed:?}");
        world.said(&["rm", "web"])?;
        ensure!(!world.said(&["ps", "-a"])?.contains("web"), "it is still listed");
        let export = world.said(&["usage", "export", "--format", "jsonl", "--provisional"])?;
        ensure!(export.contains(id.trim()), "{export}");
        world.no_container_is_left()
    })
}

/// Attacks: F2.
#[test]
fn a_log_is_plain_on_a_terminal_and_whole_everywhere_else() -> Result<()> {
    const WRITTEN: &str = "\u{1b}]0;owned\u{7}red \u{1b}[31mink\u{1b}[0m";
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let printf = r"printf '\033]0;owned\007red \033[31mink\033[0m\n'; echo end; exec sleep 1000";
        world.said(&["run", "-d", "--name", "web", &image, "sh", "-c", printf])?;
        world.logged("web", "end")?;
        assert_eq!(world.said(&["logs", "web"])?, format!("{WRITTEN}\nend\n"));
        let on_a_terminal = |arguments: &str| -> Result<String> {
            let wharf = world.wharf_command(&[])?;
            let line = format!("{} {arguments}", wharf.get_program().display());
            let mut script = Command::new("script");
            script.args(["-qe", "-E", "never", "-c", &line, "/dev/null"]).stdin(Stdio::null());
            script.envs(wharf.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let output = script.output().context("run script")?;
            Ok(String::from_utf8(output.stdout)?.replace("\r\n", "\n"))
        };
        assert_eq!(on_a_terminal("logs web")?, "red ink\nend\n");
        assert_eq!(on_a_terminal("logs --raw web")?, format!("{WRITTEN}\nend\n"));
        world.said(&["rm", "-f", "web"])?;
        world.no_container_is_left()
    })
}

#[test]
fn run_ends_as_its_process_and_says_what_failed() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let output = world.wharf(&["run", "--rm", &image, "sh", "-c", "echo out; echo err >&2; exit 23"])?;
        assert_eq!(output.status.code(), Some(23), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
        ensure!(String::from_utf8_lossy(&output.stderr).contains("err"), "{output:?}");
        let output = world.wharf(&["run", "--rm", &image, "/no/such/program"])?;
        assert_eq!(output.status.code(), Some(127), "{output:?}");
        let output = world.wharf(&["stop", "no-such-container"])?;
        ensure!(output.status.code() == Some(1) && !output.stderr.is_empty(), "{output:?}");
        Ok(())
    })
}

#[test]
fn images_volumes_tokens_and_everything_else_from_the_command_line() -> Result<()> {
    run(|world| {
        world.said(&["tenant", "create", "acme"])?;
        ensure!(world.said(&["tenant", "ls"])?.contains("acme"), "the tenant is not listed");
        let image = world.busybox()?;
        world.said(&["pull", &image])?;
        ensure!(world.said(&["images"])?.contains(&image), "the image is not listed");
        ensure!(world.said(&["image", "history", &image])?.contains("wharf-e2e"), "no history");
        world.said(&["image", "tag", &image, "local/mine:1"])?;
        let dir = world.dir().join("import");
        std::fs::create_dir_all(&dir)?;
        let archive = dir.join("image.tar");
        Image::busybox(&dir)?.archive(&archive)?;
        let path = archive.to_str().context("a path")?;
        world.said(&["import", "--reference", "local/box:1", path])?;

        world.said(&["volume", "create", "box"])?;
        let script = "echo kept > /data/file; echo began; exec sleep 1000";
        world.said(&["run", "-d", "--name", "one", "-v", "box:/data", "local/box:1", "sh", "-c", script])?;
        world.logged("one", "began")?;
        let refused = world.wharf(&["volume", "rm", "box"])?;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && why.contains("in use"), "{why}");
        let stats = world.said(&["stats", "--no-stream"])?;
        ensure!(stats.contains("one"), "{stats}");
        let stats: serde_json::Value =
            serde_json::from_str(&world.said(&["stats", "--no-stream", "--json"])?)?;
        ensure!(stats.to_string().contains("cpu_millis"), "{stats}");
        world.said(&["rm", "-f", "one"])?;
        let read = ["run", "--rm", "-v", "box:/data:ro", "local/mine:1", "sh", "-c", "cat /data/file"];
        assert_eq!(world.said(&read)?, "kept\n");
        world.said(&["volume", "rm", "box"])?;
        ensure!(!world.said(&["volume", "ls"])?.contains("box"), "the volume is still listed");
        world.said(&["image", "rm", "local/mine:1"])?;

        // A new token works, and no longer once it is revoked.
        let secret = world.said(&["token", "create", "ci"])?;
        let secret =
            secret.split_whitespace().find(|word| word.len() >= 40).context("no secret is printed")?;
        let with_token = || -> Result<Output> {
            Ok(world.wharf_command(&["tenant", "ls"])?.env("WHARF_TOKEN", secret).output()?)
        };
        ensure!(with_token()?.status.success(), "the new token is refused");
        let tokens: serde_json::Value = serde_json::from_str(&world.said(&["token", "ls", "--json"])?)?;
        let ci = tokens.as_array().and_then(|all| all.iter().find(|token| token["name"] == "ci"));
        let id = ci.and_then(|token| token["id"].as_str()).with_context(|| format!("no ci in {tokens}"))?;
        world.said(&["token", "rm", id])?;
        ensure!(!with_token()?.status.success(), "the revoked token still works");

        let events = world.said(&["events"])?;
        ensure!(events.contains("container.started") && events.contains("container.removed"), "{events}");
        ensure!(world.said(&["audit"])?.contains("container.create"), "no audit");
        let doctor = world.wharf(&["doctor"])?;
        let report = String::from_utf8_lossy(&doctor.stdout);
        ensure!(report.contains("cgroup"), "{doctor:?}");
        ensure!(world.said(&["completions", "bash"])?.contains("_wharf"), "no completions");
        world.no_container_is_left()
    })
}

#[test]
fn a_quick_process_s_output_and_code_always_arrive() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        for round in 0..30_u32 {
            let script = format!("echo out {round}; echo err {round} >&2; exit {round}");
            let mut arguments = vec!["run", "--rm"];
            if round % 2 == 1 {
                arguments.push("-i");
            }
            arguments.extend([image.as_str(), "sh", "-c", &script]);
            let output = world.wharf(&arguments)?;
            assert_eq!(output.status.code(), Some(i32::try_from(round)?), "{arguments:?}: {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("out {round}\n"), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), format!("err {round}\n"), "{output:?}");
        }
        world.no_container_is_left()
    })
}

#[test]
fn what_is_piped_into_run_comes_out_whole() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        // More than is kept for a container that does not run yet.
        let text: String =
            (0..100_000).fold(String::new(), |text, number| text + "line " + &number.to_string() + "\n");
        let file = world.dir().join("input");
        std::fs::write(&file, &text)?;
        let output = world
            .wharf_command(&["run", "-i", "--rm", &image, "cat"])?
            .stdin(std::fs::File::open(&file)?)
            .output()
            .context("run wharf")?;
        ensure!(output.status.success(), "{:?}", String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.stdout == text.as_bytes(),
            "{} of {} bytes came back",
            output.stdout.len(),
            text.len()
        );
        world.no_container_is_left()
    })
}

#[test]
fn what_a_run_that_removes_itself_printed_comes_whole_to_a_slow_reader() -> Result<()> {
    const COUNT: usize = 2_500_000;
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let count = COUNT.to_string();
        let mut child = world
            .wharf_command(&["run", "--rm", "--name", "slow", &image, "seq", "1", &count])?
            .stdout(Stdio::piped())
            .spawn()
            .context("run wharf")?;
        let mut stdout = child.stdout.take().context("no output")?;
        world.until("it has ended and is being removed", || {
            Ok(world
                .said(&["ps", "-a"])?
                .lines()
                .any(|line| line.contains("slow") && line.contains("removing")))
        })?;
        let refused = world.wharf(&["start", "slow"])?;
        let why = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && why.contains("being removed"), "{why}");
        let mut seen = Vec::new();
        while (&mut stdout).take(128 << 10).read_to_end(&mut seen)? > 0 {
            world.pause(Duration::from_millis(25));
        }
        ensure!(child.wait()?.success(), "it did not end as its process did");
        let wanted = (1..=COUNT).fold(String::new(), |text, number| text + &number.to_string() + "\n");
        ensure!(seen == wanted.as_bytes(), "{} of {} bytes came", seen.len(), wanted.len());
        world.no_container_is_left()
    })
}

/// Attacks: F4.
#[test]
fn a_reader_that_takes_nothing_does_not_keep_a_container_from_being_removed() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let mut child = world
            .wharf_command(&["run", "--rm", "--name", "stuck", &image, "seq", "1", "2500000"])?
            .stdout(Stdio::piped())
            .spawn()
            .context("run wharf")?;
        world.until("it has ended and is being removed", || {
            Ok(world
                .said(&["ps", "-a"])?
                .lines()
                .any(|line| line.contains("stuck") && line.contains("removing")))
        })?;
        world.said(&["rm", "stuck"])?;
        world.no_container_is_left()?;
        child.kill()?;
        child.wait()?;
        Ok(())
    })
}

#[test]
fn what_is_piped_through_an_exec_comes_out_whole() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        world.said(&["run", "-d", "--name", "echo", &image, "sleep", "1000"])?;
        // More, both ways at once, than all buffers on the way hold.
        let file = input_of(world, 24 << 20)?;
        let output = world
            .wharf_command(&["exec", "-i", "echo", "cat"])?
            .stdin(std::fs::File::open(&file)?)
            .output()
            .context("exec cat")?;
        ensure!(output.status.success(), "{:?}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.stdout == std::fs::read(&file)?, "{} bytes came back", output.stdout.len());
        world.said(&["rm", "-f", "echo"])?;
        world.no_container_is_left()
    })
}

/// Attacks: F4.
#[test]
fn input_that_nobody_reads_holds_nothing_up() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        world.said(&["run", "-d", "--name", "deaf", &image, "sleep", "1000"])?;
        let run: &[&str] = &["run", "-i", "--rm", &image];
        for start in [run, &["exec", "-i", "deaf"]] {
            // Output and the exit code come although the network, or all but the network, is full of
            // input; a soak waits until the client has long wanted a sign of life.
            let seconds = if std::env::var_os("WHARF_SOAK").is_some() { 45 } else { 1 };
            let script = format!("sleep {seconds}; echo heard; exit 7");
            for bytes in [24 << 20, 400 << 10] {
                let file = input_of(world, bytes)?;
                let output = world
                    .wharf_command(&[start, &["sh", "-c", &script]].concat())?
                    .stdin(std::fs::File::open(&file)?)
                    .output()
                    .with_context(|| format!("{start:?}"))?;
                assert_eq!(output.status.code(), Some(7), "{start:?}, {bytes} bytes: {output:?}");
                assert_eq!(String::from_utf8_lossy(&output.stdout), "heard\n", "{start:?}, {bytes} bytes");
            }
            // A signal overtakes what fits into the agent's memory.
            let file = input_of(world, 200 << 10)?;
            let script = "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done";
            let mut child = world
                .wharf_command(&[start, &["sh", "-c", script]].concat())?
                .stdin(std::fs::File::open(&file)?)
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("{start:?}"))?;
            let mut ready = String::new();
            let stdout = child.stdout.take().context("no output")?;
            std::io::BufReader::new(stdout).read_line(&mut ready)?;
            assert_eq!(ready, "ready\n", "{start:?}");
            kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
            assert_eq!(child.wait()?.code(), Some(9), "{start:?}");
        }
        world.said(&["rm", "-f", "deaf"])?;
        world.no_container_is_left()
    })
}

#[test]
fn run_ends_with_docker_s_codes_when_nothing_ran() -> Result<()> {
    run(|world| {
        world.tenant("acme")?;
        let image = world.busybox()?;
        let missing = format!("{image}-not-there");
        let cases: [(&[&str], i32); 6] = [
            (&["run", "--rm", &image, "/etc/passwd"], 126),
            (&["run", "--rm", &image, "/etc"], 126),
            (&["run", "--rm", &image, "no-such-program"], 127),
            (&["run", "--rm", &missing, "true"], 125),
            (&["run", "--rm", "-m", "1k", &image, "true"], 125),
            (&["run", "--rm", "-v", "/no/such/path:/x", &image, "true"], 125),
        ];
        for (arguments, code) in cases {
            let output = world.wharf(arguments)?;
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
            ensure!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {output:?}");
        }
        world.no_container_is_left()
    })
}

#[test]
fn several_agents_are_told_apart_by_their_contexts() -> Result<()> {
    run(|near| {
        near.tenant("near-tenant")?;
        let far = SecondAgent::start(near)?;
        let token = near.api().token().context("a token")?.to_owned();
        contexts(near, &["context", "add", "near", &near.url(), "--token-stdin"], &token)?;
        // Signing in by the one-time link makes the first admin, and brings the agent into use.
        let trust = ["--fingerprint", &far.fingerprint, &far.link];
        let login = [&["login", "--name", "far", "--user", "boss", "--password-stdin"][..], &trust].concat();
        contexts(near, &login, "correct horse battery staple")?;
        contexts(near, &["tenant", "create", "far-tenant"], "")?;

        let tenants = |arguments: &[&str]| contexts(near, &[arguments, &["tenant", "ls"]].concat(), "");
        let is_near = |text: &str| text.contains("near-tenant") && !text.contains("far-tenant");
        let is_far = |text: &str| text.contains("far-tenant") && !text.contains("near-tenant");
        ensure!(
            is_far(&tenants(&[])?) && is_near(&tenants(&["--context", "near"])?),
            "the one that was named"
        );
        contexts(near, &["context", "use", "near"], "")?;
        ensure!(is_near(&tenants(&[])?) && is_far(&tenants(&["--context", "far"])?), "the one in use");
        let list: serde_json::Value =
            serde_json::from_str(&contexts(near, &["context", "list", "--json"], "")?)?;
        let rows = serde_json::json!([
            { "name": "far", "url": far.url, "in_use": false },
            { "name": "near", "url": near.url(), "in_use": true },
        ]);
        assert_eq!(list, rows);
        let file = near.dir().join("contexts/wharf/contexts.toml");
        assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);

        // One's token opens the other no door, and another certificate than the pinned one gets none.
        contexts(
            near,
            &["context", "add", "crossed", &far.url, "--token-stdin", "--fingerprint", &far.fingerprint],
            &token,
        )?;
        let said = contexts_refused(near, &["--context", "crossed", "tenant", "ls"])?;
        ensure!(!said.contains("far-tenant"), "{said}");
        let wrong = format!("sha256:{}", "5a".repeat(32));
        contexts(
            near,
            &["context", "add", "forged", &far.url, "--token-stdin", "--fingerprint", &wrong],
            &token,
        )?;
        let said = contexts_refused(near, &["--context", "forged", "tenant", "ls"])?;
        ensure!(said.contains(&wrong) && said.contains(&far.fingerprint), "both are named: {said}");

        for name in ["crossed", "forged", "near"] {
            contexts(near, &["context", "remove", name], "")?;
        }
        for arguments in
            [&["context", "use", "near"][..], &["--context", "near", "ps"], &["context", "remove", "near"]]
        {
            let said = contexts_refused(near, arguments)?;
            ensure!(said.contains("\"near\"") && said.contains("context list"), "{said}");
        }
        let said = contexts_refused(near, &["ps"])?;
        ensure!(said.contains("context use"), "none is in use: {said}");
        ensure!(is_far(&tenants(&["--context", "far"])?), "the one that is left");
        far.end()
    })
}

#[test]
fn oci_becomes_the_runtime_with_its_words_and_its_exit_code() -> Result<()> {
    run(|world| {
        let help = world.wharf(&["oci", "help"])?;
        ensure!(String::from_utf8_lossy(&help.stdout).contains("usage: wharf oci"), "{help:?}");
        let missing = world.wharf(&["oci", "run", "--bundle", "/nonexistent", "one"])?;
        ensure!(missing.status.code() == Some(125), "{missing:?}");
        let complaint = String::from_utf8_lossy(&missing.stderr).into_owned();
        ensure!(complaint.contains("/nonexistent/config.json"), "{complaint}");
        Ok(())
    })
}

#[test]
fn doctor_says_for_all_that_is_not_well_what_to_do() -> Result<()> {
    run(|world| {
        let doctor = |arguments: &[&str], first: &[&str]| -> Result<Output> {
            let wharf = world.program("wharf");
            let mut words = first.iter().map(std::ffi::OsStr::new).collect::<Vec<_>>();
            words.push(wharf.as_os_str());
            words.extend(arguments.iter().map(std::ffi::OsStr::new));
            let (program, rest) = words.split_first().context("a program")?;
            Command::new(program).args(rest).stdin(Stdio::null()).output().context("run wharf doctor")
        };
        // Without any capability no container can be launched: that is what ends it with 1.
        let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
        for (first, code) in [(&[][..], 0), (&powerless[..], 1)] {
            let json = doctor(&["doctor", "--json"], first)?;
            assert_eq!(json.status.code(), Some(code), "{json:?}");
            let checks: Vec<CheckView> = serde_json::from_slice(&json.stdout)?;
            ensure!(checks.len() >= 12, "{checks:?}");
            let missing = checks.iter().any(|check| check.status == CheckStatus::Missing);
            assert_eq!(missing, code == 1, "{checks:?}");
            let text = doctor(&["doctor"], first)?;
            assert_eq!(text.status.code(), Some(code), "{text:?}");
            let text = String::from_utf8(text.stdout)?;
            for check in &checks {
                ensure!(!check.name.is_empty() && !check.detail.is_empty(), "{check:?}");
                assert_eq!(check.remedy.is_none(), check.status == CheckStatus::Ok, "{check:?}");
                let verdict = match check.status {
                    CheckStatus::Ok => "ok",
                    CheckStatus::Degraded => "degraded",
                    CheckStatus::Missing => "missing",
                };
                let line = text.lines().find(|line| line.starts_with(verdict) && line.contains(&check.name));
                ensure!(line.is_some(), "{check:?} is not in {text}");
                let remedy = check.remedy.as_deref().unwrap_or_default();
                ensure!(text.contains(remedy), "{remedy} is not in {text}");
            }
        }
        let help = String::from_utf8(doctor(&["doctor", "--help"], &[])?.stdout)?;
        ensure!(help.contains("ends with 1"), "the exit code is not documented: {help}");
        Ok(())
    })
}

/// Another agent beside a world's own, with a certificate that it generated.
struct SecondAgent {
    child: Child,
    own: Vec<OsString>,
    program: PathBuf,
    url: String,
    fingerprint: String,
    link: String,
}

impl SecondAgent {
    fn start(world: &World) -> Result<Self> {
        let dir = world.dir().join("second");
        std::fs::create_dir_all(&dir)?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let instance = format!("{}b", world.instance);
        let mut own: Vec<OsString> = ["--instance", &instance, "--listen", &format!("127.0.0.1:{port}")]
            .iter()
            .chain(&["--set", "tls.mode=generate", "--state-dir"])
            .map(OsString::from)
            .collect();
        own.extend([dir.join("state").into(), "--run-dir".into(), dir.join("run").into()]);
        let log = dir.join("log");
        let program = world.program("wharfd");
        let child = Command::new(&program)
            .args(&own)
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log)?)
            .stderr(std::fs::File::create(dir.join("errors"))?)
            .spawn()
            .context("start a second wharfd")?;
        let url = format!("https://127.0.0.1:{port}");
        let mut agent = Self { child, own, program, url, fingerprint: String::new(), link: String::new() };
        world.until("the second agent listens", || {
            let text = std::fs::read_to_string(&log)? + &std::fs::read_to_string(dir.join("errors"))?;
            let after = |what| {
                let (_, rest) = text.split_once(what)?;
                rest.split_whitespace().next().map(str::to_owned)
            };
            agent.fingerprint = after("certificate fingerprint: ").unwrap_or_default();
            agent.link = after("setup link: ").unwrap_or_default();
            let listens = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            Ok(listens && !agent.fingerprint.is_empty() && !agent.link.is_empty())
        })?;
        Ok(agent)
    }

    fn end(mut self) -> Result<()> {
        self.stop().context("purge the second agent")
    }

    fn stop(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let purged = Command::new(&self.program).args(&self.own).args(["down", "--purge"]).output()?;
        ensure!(purged.status.success(), "{purged:?}");
        Ok(())
    }
}

impl Drop for SecondAgent {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// The command line with nothing but its contexts, and this on its standard input.
fn with_contexts(world: &World, arguments: &[&str], input: &str) -> Result<Output> {
    let file = world.dir().join("stdin");
    std::fs::write(&file, input)?;
    let mut command = Command::new(world.program("wharf"));
    for variable in ["WHARF_URL", "WHARF_TOKEN", "WHARF_CONTEXT", "WHARF_TENANT"] {
        command.env_remove(variable);
    }
    command
        .args(arguments)
        .env("XDG_CONFIG_HOME", world.dir().join("contexts"))
        .stdin(std::fs::File::open(&file)?)
        .output()
        .context("run wharf")
}

fn contexts(world: &World, arguments: &[&str], input: &str) -> Result<String> {
    let output = with_contexts(world, arguments, input)?;
    ensure!(output.status.success(), "wharf {arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn contexts_refused(world: &World, arguments: &[&str]) -> Result<String> {
    let output = with_contexts(world, arguments, "")?;
    assert_eq!(output.status.code(), Some(1), "wharf {arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stderr)?)
}

/// A file of so many bytes, no two lines of it alike.
fn input_of(world: &World, bytes: usize) -> Result<PathBuf> {
    let file = world.dir().join("input");
    let mut text = String::new();
    for number in 0..bytes / 2 {
        writeln!(text, "{number:x}")?;
        if text.len() >= bytes {
            break;
        }
    }
    text.truncate(bytes);
    std::fs::write(&file, text)?;
    Ok(file)
}
