// How large the dashboard's first load is, and how smoothly the container list runs with 1,000 rows
// whose figures change every second.
//
// The rows are real containers of ten tenants, without a network: WHARF_BENCH_ROWS says how many.
// One in a hundred works, so that the figures move. Frames are timed by requestAnimationFrame in
// Debian's Chromium without a GPU.
import { readFileSync } from 'node:fs';
import { expect, test as base } from '@playwright/test';
import { readState } from '../harness.js';

const ROWS = Number(process.env.WHARF_BENCH_ROWS ?? 1000);
const TENANTS = 10;
const SECONDS = 30;
const LOAD_BAR_KB = 350;
const FRAME_BAR_MS = 33;
const PASSWORD = 'a sentence for the benchmark';

const test = base.extend({ baseURL: async ({}, use) => use(readState().url) });

function judge(what, figure, bar, unit) {
  const verdict = figure <= bar ? 'reached' : 'missed';
  console.log(`  ${verdict}: ${what}: ${figure.toFixed(1)} ${unit} (bar: at most ${bar} ${unit})`);
}

/** The frame that so great a share of the sorted ones does not exceed. */
const at = (frames, share) => frames[Math.min(frames.length - 1, Math.floor(frames.length * share))];

test('first load, and a thousand live rows', async ({ browser, baseURL }) => {
  const context = await browser.newContext({ baseURL, viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  // What this machine shows when there is nothing to do but frames.
  const idle = await frameTimes(page, 10, false);
  console.log(`  beside: an empty page, frame p99: ${at(idle, 0.99).toFixed(1)} ms`);
  const load = await firstLoad(page, () => page.goto(readState().link));
  console.log(`  with: Chromium ${browser.version()}`);
  console.log(`  load ${readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')} at the start`);
  for (const [path, bytes] of load.files) console.log(`    ${(bytes / 1000).toFixed(1).padStart(8)} kB ${path}`);
  judge('first load, compressed', load.bytes / 1000, LOAD_BAR_KB, 'kB');

  await page.getByLabel('Password (needed)', { exact: true }).fill(PASSWORD);
  await page.getByLabel('Password again').fill(PASSWORD);
  await page.getByRole('button', { name: 'Create admin' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Overview');
  const began = Date.now();
  const running = await populate(page);
  console.log(`  ${running} containers run, started in ${((Date.now() - began) / 1000).toFixed(1)} s`);

  await page.goto('/containers');
  await expect(page.getByText(`${running} running of`)).toBeVisible({ timeout: 60_000 });
  await page.waitForTimeout(5_000);
  for (const [what, scrolls] of [['standing', false], ['scrolling', true]]) {
    const frames = await frameTimes(page, SECONDS, scrolls);
    console.log(`  ${what}: ${frames.length} frames in ${SECONDS} s, median ${at(frames, 0.5).toFixed(1)} ms, longest ${at(frames, 1).toFixed(1)} ms`);
    judge(`${ROWS} rows, ${what}, frame p99`, at(frames, 0.99), FRAME_BAR_MS, 'ms');
  }
  await context.close();
});

/** What the network carried until the page was idle, file by file. */
async function firstLoad(page, go) {
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  const urls = new Map();
  const files = [];
  session.on('Network.requestWillBeSent', ({ requestId, request }) => urls.set(requestId, new URL(request.url).pathname));
  session.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => files.push([urls.get(requestId), encodedDataLength]));
  await go();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Set up the first admin');
  await page.waitForLoadState('networkidle');
  await session.detach();
  return { files, bytes: files.reduce((sum, [, bytes]) => sum + bytes, 0) };
}

/** Starts the containers through the API, as the page's own user. */
async function populate(page) {
  const login = await (await page.request.post('/api/v1/auth/login', { data: { name: 'admin', password: PASSWORD } })).json();
  const headers = { 'x-wharf-csrf': login.csrf_token, origin: readState().url };
  const post = async (path, data) => {
    const answer = await page.request.post(`/api/v1${path}`, { data, headers, timeout: 120_000 });
    if (!answer.ok()) throw new Error(`${path}: ${answer.status()} ${await answer.text()}`);
    return answer.json();
  };
  const tenants = [];
  for (let number = 0; number < TENANTS; number++) tenants.push(await post('/tenants', { name: `tenant-${number}` }));
  let number = 0;
  const worker = async () => {
    while (number < ROWS) {
      const mine = number++;
      const works = mine % 100 === 0;
      const { id } = await post('/containers', {
        image: readState().image,
        tenant: tenants[mine % TENANTS].id,
        name: `row-${mine}`,
        network: 'none',
        stop_grace_s: 0,
        command: works ? ['sh', '-c', 'while :; do sleep 0.2; done'] : ['sleep', '100000'],
      });
      await post(`/containers/${id}/start`, {});
    }
  };
  await Promise.all(Array.from({ length: 4 }, worker));
  return number;
}

/** Sorted times between frames, in milliseconds. */
function frameTimes(page, seconds, scrolls) {
  return page.evaluate(
    ([seconds, scrolls]) =>
      new Promise((done) => {
        const frames = [];
        const scroller = [...document.querySelectorAll('*')].find((element) => element.scrollHeight > element.clientHeight + 2000) ?? document.scrollingElement;
        const end = performance.now() + seconds * 1000;
        let last = performance.now();
        const frame = (now) => {
          frames.push(now - last);
          last = now;
          if (scrolls) scroller.scrollTop = (scroller.scrollTop + 40) % Math.max(1, scroller.scrollHeight - scroller.clientHeight);
          if (now < end) requestAnimationFrame(frame);
          else done(frames.slice(1).sort((a, b) => a - b));
        };
        requestAnimationFrame(frame);
      }),
    [seconds, scrolls],
  );
}
