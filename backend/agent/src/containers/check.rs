//! One health check: asked in a task of its own, bounded in time and in what is kept of its answer.
//!
//! Nothing of the container is trusted: its program is killed at the timeout and read only so far, and
//! a request goes to the container's own address, follows no redirection and reads a bounded answer.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use wharf_shared::container::{ExecSpec, NetworkMode};
use wharf_shared::health::{HealthResult, HealthTest, HttpTest, OUTPUT_MAX_BYTES};
use wharf_shim::protocol::{ExitStatus, Request};
use wharf_store::containers::ContainerRecord;

use super::exec::{self, ExecAsk, Streams};
use super::health::Check;
use super::{Deps, filter, label, launch, plan};
use crate::engine::Session;
use crate::error::chain;
use crate::tasks::OnEnd;

/// The name of every check's process: the supervisor has no two of one name, so that of one that cannot
/// be killed there is never a second, also after a new start of the agent.
pub(super) const EXEC_ID: &str = "health";
/// A program that prints more finds its pipes closed.
const READ_MAX_BYTES: usize = 1 << 20;
/// What is read of an answer's head.
const HEAD_MAX_BYTES: usize = 16 << 10;
/// What a program that has ended printed is there at once; others may hold its pipes for ever.
const LINGER: Duration = Duration::from_millis(100);
const SIGKILL: i32 = 9;

/// What came of it.
struct Answer {
    passed: bool,
    code: Option<i32>,
    output: String,
}

impl Answer {
    fn failed(output: impl Into<String>) -> Self {
        Self { passed: false, code: None, output: output.into() }
    }
}

/// Asks. Dropping the receiver calls it off. `exit` tells how a process of this name ended.
pub(super) fn begin(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    session: &Session,
    check: &Check,
    exit: oneshot::Receiver<ExitStatus>,
) -> oneshot::Receiver<HealthResult> {
    let (mut sender, receiver) = oneshot::channel();
    let (of, row, session, check) = (Arc::clone(deps), row.clone(), session.clone(), check.clone());
    deps.tasks.spawn("check health", OnEnd::Fine, async move {
        let started_at = of.clock.now();
        let asked = ask(&of, &row, &session, &check.test, exit);
        // Dropping what was asked closes its pipes and connections; its process is killed below.
        let answer = tokio::select! {
            answer = tokio::time::timeout(check.timeout, asked) => answer.ok(),
            () = sender.closed() => return end(&session).await,
        };
        let answer = if let Some(answer) = answer {
            answer
        } else {
            end(&session).await;
            Answer::failed(format!("no answer within {} ms", check.timeout.as_millis()))
        };
        let Answer { passed, code, output } = answer;
        // Nobody waits for the result of a container that has ended.
        drop(sender.send(HealthResult { started_at, ended_at: of.clock.now(), passed, code, output }));
    });
    receiver
}

/// Kills what a check left running.
pub(super) async fn end(session: &Session) {
    let request = Request::ExecSignal { exec_id: EXEC_ID.to_owned(), signo: SIGKILL };
    if let Err(error) = session.ask(request, &[]).await {
        tracing::debug!(error = chain(&error), "there was no check to end");
    }
}

async fn ask(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    session: &Session,
    test: &HealthTest,
    exit: oneshot::Receiver<ExitStatus>,
) -> Answer {
    let command = match test {
        HealthTest::None => return Answer::failed("nothing is asked"),
        HealthTest::Command(command) => command.clone(),
        HealthTest::Shell(line) => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
        HealthTest::Http(test) => {
            return match address(row) {
                Some(address) => http(address, test).await.unwrap_or_else(Answer::failed),
                None => Answer::failed("the container has no address"),
            };
        }
        HealthTest::Tcp { port } => {
            let Some(address) = address(row) else {
                return Answer::failed("the container has no address");
            };
            return match TcpStream::connect((address, *port)).await {
                Ok(_connected) => Answer { passed: true, code: None, output: String::new() },
                Err(error) => Answer::failed(format!("connect to port {port}: {error}")),
            };
        }
    };
    run(deps, row, session, command, exit).await
}

/// Where the container listens, as seen from the host.
fn address(row: &ContainerRecord) -> Option<Ipv4Addr> {
    match row.spec.network {
        NetworkMode::Tenant => row.observed.address,
        NetworkMode::Host => Some(Ipv4Addr::LOCALHOST),
        NetworkMode::None => None,
    }
}

async fn run(
    deps: &Arc<Deps>,
    row: &ContainerRecord,
    session: &Session,
    command: Vec<String>,
    exit: oneshot::Receiver<ExitStatus>,
) -> Answer {
    let image = match launch::image_of(deps, row).await {
        Ok(image) => image,
        Err(error) => return Answer::failed(error.detail),
    };
    let hostname = launch::hostname(row);
    let spec = ExecSpec { command, ..ExecSpec::default() };
    let seccomp = match filter::of(&row.spec) {
        Ok(seccomp) => seccomp,
        Err(error) => return Answer::failed(chain(&error)),
    };
    let apparmor = match label::of(&row.spec, deps.engine.apparmor()) {
        Ok(apparmor) => apparmor,
        Err(error) => return Answer::failed(error.detail),
    };
    let process = plan::exec_process(&spec, &row.spec, &image, &hostname, (seccomp, apparmor));
    let asked = ExecAsk { exec_id: EXEC_ID.to_owned(), spec };
    let running = match exec::start(session, asked, process, exit).await {
        Ok(running) => running,
        Err(error) => return Answer::failed(error.detail),
    };
    let Streams::Pipes { stdout, stderr, .. } = running.streams else {
        return Answer::failed("it has a terminal instead of pipes");
    };
    let (output, status) = read(stdout, stderr, running.exit).await;
    let (code, signal) = match status {
        ExitStatus::Code(code) => (Some(code), None),
        ExitStatus::Signal(signal) => (Some(128 + signal), Some(signal)),
        ExitStatus::Unknown => (None, None),
    };
    Answer { passed: code == Some(0) && signal.is_none(), code, output: text(&output) }
}

/// Reads until the program has ended.
async fn read(
    stdout: OwnedFd,
    stderr: OwnedFd,
    mut exit: oneshot::Receiver<ExitStatus>,
) -> (Vec<u8>, ExitStatus) {
    let mut stdout = pipe::Receiver::from_owned_fd(stdout).ok();
    let mut stderr = pipe::Receiver::from_owned_fd(stderr).ok();
    let (mut first, mut second) = (vec![0; OUTPUT_MAX_BYTES], vec![0; OUTPUT_MAX_BYTES]);
    let (mut kept, mut read_bytes) = (Vec::new(), 0);
    let mut ended = None;
    loop {
        // A chunk is taken only when its branch wins; the end is asked for once; the pause begins anew.
        let chunk = tokio::select! {
            read = read_some(stdout.as_mut(), &mut first), if stdout.is_some() => {
                if read == 0 { stdout = None; }
                first.get(..read)
            }
            read = read_some(stderr.as_mut(), &mut second), if stderr.is_some() => {
                if read == 0 { stderr = None; }
                second.get(..read)
            }
            status = &mut exit, if ended.is_none() => {
                ended = Some(status.unwrap_or(ExitStatus::Unknown));
                None
            }
            () = tokio::time::sleep(LINGER), if ended.is_some() => {
                (stdout, stderr) = (None, None);
                None
            }
        };
        let chunk = chunk.unwrap_or_default();
        let room = OUTPUT_MAX_BYTES.saturating_sub(kept.len()).min(chunk.len());
        kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
        read_bytes += chunk.len();
        if read_bytes >= READ_MAX_BYTES {
            (stdout, stderr) = (None, None);
        }
        if stdout.is_none()
            && stderr.is_none()
            && let Some(status) = ended
        {
            return (kept, status);
        }
    }
}

async fn read_some(pipe: Option<&mut pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => 0,
    }
}

async fn http(address: Ipv4Addr, test: &HttpTest) -> Result<Answer, String> {
    let HttpTest { port, path, status_min, status_max } = test;
    let failed = |what: &str, error: &dyn std::error::Error| format!("{what}: {}", chain(error));
    let stream = TcpStream::connect((address, *port))
        .await
        .map_err(|error| failed(&format!("connect to port {port}"), &error))?;
    let request = hyper::Request::get(path.as_str())
        .header(HOST, format!("{address}:{port}"))
        .header(USER_AGENT, "wharfage-health-check")
        .header(CONNECTION, "close")
        .body(Body::empty())
        .map_err(|error| failed("the request", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed("speak HTTP", &error))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(|error| failed("the answer", &error))?;
        let status = response.status().as_u16();
        let mut body = Body::new(response.into_body()).into_data_stream();
        let mut output = format!("HTTP {status}\n").into_bytes();
        // Its head says how it is; a body that breaks off is no failure.
        while output.len() < OUTPUT_MAX_BYTES
            && let Some(Ok(chunk)) = body.next().await
        {
            let room = OUTPUT_MAX_BYTES.saturating_sub(output.len()).min(chunk.len());
            output.extend_from_slice(chunk.get(..room).unwrap_or_default());
        }
        let passed = (*status_min..=*status_max).contains(&status);
        Ok(Answer { passed, code: Some(status.into()), output: text(&output) })
    };
    tokio::pin!(asked, connection);
    tokio::select! {
        biased;
        answer = &mut asked => return answer,
        ended = &mut connection => if let Err(error) = ended {
            tracing::debug!(error = chain(&error), "a health check's connection broke");
        },
    }
    asked.await
}

/// What was printed as text of at most [`OUTPUT_MAX_BYTES`].
fn text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(OUTPUT_MAX_BYTES));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_output_is_bounded_and_text() {
        assert_eq!(text(b"fine\n"), "fine\n");
        let kept = text(&[0xff; OUTPUT_MAX_BYTES]);
        assert!(kept.len() <= OUTPUT_MAX_BYTES && kept.starts_with('\u{fffd}'));
    }
}
