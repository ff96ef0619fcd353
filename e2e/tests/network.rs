//! Published ports, names, and walls between tenants.
#![expect(clippy::tests_outside_test_module, reason = "a test crate is one test module")]

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use wharf_e2e::{Socket, World, run};
use wharf_shared::container::{ContainerState, ContainerView};
use wharf_shared::problem::ProblemKind;
use wharf_shared::tenant::TenantView;

/// Fetches the server's page by its name. Debian's busybox is linked statically and cannot resolve names itself.
const BY_NAME: &str = r#"set -- $(getent hosts server); test -n "$1" && wget -q -O - "http://$1/""#;
const HTTPD: [&str; 6] = ["httpd", "-f", "-p", "80", "-h", "/www"];

#[test]
fn a_published_port_answers_while_its_container_runs() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let view = world.start(&tenant, &HTTPD, json!({ "ports": [{ "container_port": 80 }] }))?;
        let port = view.ports.first().and_then(|port| port.host_port).context("a host port")?;
        let url = format!("http://127.0.0.1:{port}/");
        world.until("the port answers", || {
            Ok(world.api().fetch(&url).is_ok_and(|page| page == "hello from the container\n"))
        })?;
        world.api().act(&format!("/containers/{}/stop", view.id), &json!({}))?;
        ensure!(world.api().fetch(&url).is_err(), "the port of a stopped container answers");
        world.api().act(&format!("/containers/{}/start", view.id), &json!({}))?;
        let view: ContainerView = world.api().get(&format!("/containers/{}", view.id))?;
        let port = view.ports.first().and_then(|port| port.host_port).context("a host port")?;
        let url = format!("http://127.0.0.1:{port}/");
        world.until("the port answers again", || Ok(world.api().fetch(&url).is_ok()))
    })
}

/// Attacks: G6.
#[test]
fn walls_and_ports_come_back_when_another_program_flushes_the_firewall() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let other = world.tenant("other")?;
        let server = world.start(&tenant, &HTTPD, json!({ "ports": [{ "container_port": 80 }] }))?;
        let stranger = world.start(&other, &["sleep", "1000"], json!({}))?;
        let port = server.ports.first().and_then(|port| port.host_port).context("a host port")?;
        let address = server.address.clone().context("an address")?;
        let url = format!("http://127.0.0.1:{port}/");
        world.until("the port answers", || Ok(world.api().fetch(&url).is_ok()))?;
        // What `systemctl restart nftables` does; this thread's network namespace is the agent's.
        ensure!(Command::new("nft").args(["flush", "ruleset"]).status()?.success());
        world.until("the port answers again", || Ok(world.api().fetch(&url).is_ok()))?;
        let reach = format!("wget -q -O - http://{address}/ & sleep 2; kill $! && echo no way");
        let said = Socket::output_of(world.api(), stranger.id.as_str(), &["sh", "-c", &reach])?;
        ensure!(said == "no way\n", "another tenant reached {address}: {said}");
        Ok(())
    })
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let foreign = TcpListener::bind("0.0.0.0:0")?;
        let port = foreign.local_addr()?.port();
        port_is_refused(world, &tenant, port)?;
        drop(foreign);
        let ports = json!({ "ports": [{ "host_port": port, "container_port": 80 }] });
        let view = world.start(&tenant, &HTTPD, ports)?;
        port_is_refused(world, &tenant, port)?;
        world.api().delete(&format!("/containers/{}?force=true", view.id))?;
        world.no_container_is_left()
    })
}

/// A container that wants this port is refused at once or fails at its start, and says why.
fn port_is_refused(world: &World, tenant: &TenantView, port: u16) -> Result<()> {
    let ports = json!({ "ports": [{ "host_port": port, "container_port": 80 }] });
    let spec = world.spec(tenant, &HTTPD, ports)?;
    let answer = world.api().send(Method::POST, "/containers?start=true", Some(&spec))?;
    if !answer.status.is_success() {
        let problem = answer.problem()?;
        assert_eq!(problem.kind, ProblemKind::PortInUse);
        ensure!(problem.detail.contains(&port.to_string()), "{problem}");
        return Ok(());
    }
    let view: ContainerView = serde_json::from_str(&answer.body)?;
    let view =
        world.container_until(view.id.as_str(), "it failed", |view| view.state == ContainerState::Failed)?;
    let error = view.error.clone().context("no error is told")?;
    ensure!(error.contains(&port.to_string()), "{error}");
    let problem = world.api().refused(Method::POST, &format!("/containers/{}/start", view.id), None)?;
    assert_eq!(problem.kind, ProblemKind::PortInUse, "{problem}");
    world.api().delete(&format!("/containers/{}", view.id))
}

/// Attacks: G3.
#[test]
fn tenants_cannot_reach_each_other_but_names_of_ones_own_resolve() -> Result<()> {
    run(|world| {
        let acme = world.tenant("acme")?;
        let other = world.tenant("other")?;
        let early = world.start(&acme, &["sleep", "1000"], json!({ "name": "early" }))?;
        let server = world.start(&acme, &HTTPD, json!({ "name": "server" }))?;
        let late = world.start(&acme, &["sleep", "1000"], json!({ "name": "late" }))?;
        let stranger = world.start(&other, &["sleep", "1000"], json!({ "name": "stranger" }))?;
        let address = server.address.clone().context("an address")?;
        let address = address.split('/').next().unwrap_or_default();
        for view in [&early, &late] {
            world.until("the name answers", || {
                let page = Socket::output_of(world.api(), view.id.as_str(), &["sh", "-c", BY_NAME]);
                Ok(page.is_ok_and(|page| page == "hello from the container\n"))
            })?;
        }
        let fetch = format!(
            "wget -q -O /tmp/page http://{address}/ & sleep 2; kill $!; test -s /tmp/page || echo no way"
        );
        let said = Socket::output_of(world.api(), early.id.as_str(), &["sh", "-c", &fetch])?;
        ensure!(!said.contains("no way"), "the test itself cannot fetch: {said}");
        let said = Socket::output_of(world.api(), stranger.id.as_str(), &["sh", "-c", &fetch])?;
        ensure!(said.contains("no way"), "another tenant reached {address}: {said}");
        let hosts = Socket::output_of(world.api(), stranger.id.as_str(), &["cat", "/etc/hosts"])?;
        ensure!(!hosts.contains("server"), "another tenant's names are told: {hosts}");
        Ok(())
    })
}

#[test]
fn the_none_network_has_loopback_only() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "ip -o link | cut -d: -f2; ip -o link | grep -c '[<,]UP[,>]'; ip route; \
            cd /proc/sys/net; cat ipv6/conf/all/disable_ipv6 ipv6/conf/default/disable_ipv6 \
            ipv4/ip_unprivileged_port_start";
        // Mute, whatever the container asks for.
        let more = json!({ "network": "none", "sysctls": { "net.ipv6.conf.all.disable_ipv6": "0" } });
        let view = world.script(&tenant, script, more)?;
        let told = world.logs(view.id.as_str())?;
        assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["lo", "1", "1", "1", "0"]);
        Ok(())
    })
}

#[test]
fn the_host_network_is_the_host_s_own() -> Result<()> {
    run(|world| {
        let tenant = world.tenant("acme")?;
        let script = "readlink /proc/self/ns/net; ip -o link | cut -d: -f2";
        let view = world.script(&tenant, script, json!({ "network": "host" }))?;
        let own = std::fs::read_link("/proc/thread-self/ns/net")?;
        ensure!(world.logs(view.id.as_str())?.contains(&*own.to_string_lossy()), "another network");
        world.api().delete(&format!("/containers/{}", view.id))?;
        world.no_container_is_left()
    })
}
