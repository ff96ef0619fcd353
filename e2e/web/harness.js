// Starts what the browser tests need, and ends all of it: a registry with one busybox image, and an
// agent with a state directory, an instance name and ports of its own.
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const repo = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Where tests find what was started: they run in other processes. */
export const STATE_FILE = 'WHARF_E2E_STATE';

export function readState() {
  return JSON.parse(readFileSync(process.env[STATE_FILE], 'utf8'));
}

export default async function setup() {
  const dir = mkdtempSync(join(tmpdir(), 'wharf-web-'));
  process.env[STATE_FILE] = join(dir, 'state.json');
  const save = (state) => writeFileSync(process.env[STATE_FILE], JSON.stringify(state));
  const given = { url: process.env.WHARF_URL, link: process.env.WHARF_SETUP_LINK, image: process.env.WHARF_IMAGE };
  if (given.url && given.link && given.image) {
    save({ ...given, dir });
    return () => rmSync(dir, { recursive: true, force: true });
  }
  const ended = [];
  const end = async () => {
    for (const step of ended.reverse()) await step();
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const registry = await startRegistry(dir, ended);
    const image = `${registry}/library/busybox:1`;
    pushImage(dir, image);
    const port = await freePort();
    const program = process.env.WHARFD ?? join(repo, 'target/debug/wharfd');
    if (!existsSync(program)) throw new Error(`there is no ${program}: run cargo build -p wharf-agent -p wharf-shim`);
    const options = [
      '--listen', `127.0.0.1:${port}`,
      '--state-dir', join(dir, 'state'),
      '--run-dir', join(dir, 'run'),
      '--instance', `ww${process.pid}`,
      '--set', `registry.insecure_hosts=["${registry}"]`,
    ];
    const url = `http://127.0.0.1:${port}`;
    const state = { dir, url, image, program, options, log: join(dir, 'agent.log') };
    ended.push(() => {
      stopAgent(readState());
      execFileSync(program, [...options, 'down', '--purge'], { stdio: 'ignore' });
    });
    save(state);
    await startAgent(state);
    const link = /setup link: (\S+)/.exec(readFileSync(state.log, 'utf8'));
    if (!link) throw new Error(`the agent printed no setup link:\n${readFileSync(state.log, 'utf8')}`);
    save({ ...readState(), link: link[1] });
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}

/** Starts the agent and waits until it answers. */
export async function startAgent(state) {
  const log = openSync(state.log, 'a');
  const agent = spawn(state.program, [...state.options, 'serve'], { detached: true, stdio: ['ignore', log, log] });
  agent.unref();
  writeFileSync(process.env[STATE_FILE], JSON.stringify({ ...readState(), pid: agent.pid }));
  await until(`the agent at ${state.url}`, async () => (await fetch(`${state.url}/healthz`)).ok).catch((error) => {
    throw new Error(`${error.message}\n${readFileSync(state.log, 'utf8')}`);
  });
}

/** Kills the agent; its containers go on. */
export function stopAgent(state) {
  if (!state.pid) return;
  try {
    process.kill(state.pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

async function startRegistry(dir, ended) {
  const address = `127.0.0.1:${await freePort()}`;
  const config = join(dir, 'registry.yml');
  writeFileSync(config, `version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: ${join(dir, 'registry')}}}
http: {addr: "${address}"}
`);
  const registry = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  const failed = new Promise((_, reject) => registry.once('error', reject));
  ended.push(() => registry.kill('SIGKILL'));
  await Promise.race([failed, until(`the registry at ${address}`, async () => (await fetch(`http://${address}/v2/`)).ok)]);
  return address;
}

/** A busybox image made here, from Debian's static binary. */
function pushImage(dir, image) {
  const root = join(dir, 'root');
  for (const part of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev']) mkdirSync(join(root, part), { recursive: true });
  execFileSync('cp', ['/bin/busybox', join(root, 'bin/busybox')]);
  for (const applet of ['sh', 'echo', 'sleep', 'cat', 'ls', 'stty', 'yes', 'id', 'true', 'head', 'nc', 'dd']) {
    execFileSync('ln', ['-s', 'busybox', join(root, 'bin', applet)]);
  }
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  const archive = join(dir, 'archive');
  mkdirSync(archive);
  execFileSync('tar', ['--owner=0', '--group=0', '-C', root, '-cf', join(archive, 'layer.tar'), '.']);
  const diffId = createHash('sha256').update(readFileSync(join(archive, 'layer.tar'))).digest('hex');
  const config = {
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Cmd: ['/bin/sh'], Env: ['PATH=/bin'], ExposedPorts: { '80/tcp': {} } },
    rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] },
    history: [{ created: '2026-01-01T00:00:00Z', created_by: 'busybox' }],
  };
  writeFileSync(join(archive, 'config.json'), JSON.stringify(config));
  const manifest = [{ Config: 'config.json', RepoTags: ['busybox:1'], Layers: ['layer.tar'] }];
  writeFileSync(join(archive, 'manifest.json'), JSON.stringify(manifest));
  const file = join(dir, 'busybox.tar');
  execFileSync('tar', ['-C', archive, '-cf', file, 'manifest.json', 'config.json', 'layer.tar']);
  execFileSync('skopeo', ['copy', '--quiet', '--insecure-policy', '--dest-tls-verify=false', `docker-archive:${file}`, `docker://${image}`]);
}

function freePort() {
  return new Promise((done, failed) => {
    const server = createServer();
    server.once('error', failed);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

/** Waits until `check` is true; a check that throws is not true yet. */
export async function until(what, check, withinMs = 30_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    if (await check().catch(() => false)) return;
    if (Date.now() > deadline) throw new Error(`${what} is not there after ${withinMs} ms`);
    await new Promise((done) => setTimeout(done, 100));
  }
}
