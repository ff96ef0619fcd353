// The main job, as a newcomer does it: from the one-time link to the bill.
import { readFileSync } from 'node:fs';
import { readState } from '../harness.js';
import { PASSWORD, accessible, artefact, expect, guard, session, test as base } from './fixtures.js';

const test = base;
test.describe.configure({ mode: 'serial' });

let page;
let bad;
const state = () => readState();

test.beforeAll(async ({ browser }) => {
  const context = await browser.newContext({ baseURL: state().url, viewport: { width: 1280, height: 800 }, timezoneId: 'UTC' });
  page = await context.newPage();
  bad = guard(page);
});

test.afterEach(() => expect(bad).toEqual([]));
test.afterAll(async () => page?.context().close());

test('a stranger sees nothing but the door', async () => {
  const refused = await page.request.get('/api/v1/containers');
  expect(refused.status()).toBe(401);
});

test('the one-time link makes the first admin', async () => {
  await page.goto(state().link);
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Set up the first admin');
  expect(page.url()).not.toContain('#');
  await accessible(page);
  await page.getByLabel('Password (needed)', { exact: true }).fill('short');
  await page.getByLabel('Password again').fill('short');
  await page.getByRole('button', { name: 'Create admin' }).click();
  // It is said once.
  await expect(page.getByText('at least 12 characters')).toHaveText('at least 12 characters; a sentence is good');
  await page.getByLabel('Password (needed)', { exact: true }).fill(PASSWORD);
  await page.getByLabel('Password again').fill(PASSWORD);
  await page.screenshot({ path: artefact('setup') });
  await page.getByRole('button', { name: 'Create admin' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Overview');
  await expect(page.getByTestId('connection')).toContainText('live');
});

test('signing out and in again', async () => {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Sign in');
  await accessible(page);
  await page.screenshot({ path: artefact('sign-in') });
  await page.getByLabel('Name').fill('admin');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Overview');
  await page.context().storageState({ path: session() });
});

test('a tenant', async () => {
  await page.goto('/tenants');
  await page.getByRole('button', { name: 'New tenant' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('acme');
  await dialog.getByLabel('CPUs').fill('2');
  await dialog.getByLabel('Memory').fill('512m');
  await dialog.getByRole('button', { name: 'Create' }).click();
  await expect(page.getByTestId('tenants').getByRole('link', { name: 'acme' })).toBeVisible();
});

test('a pull with progress', async () => {
  await page.goto('/images');
  await page.getByRole('button', { name: 'Pull an image' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Image').fill(state().image);
  await expect(dialog.getByLabel('Tenant')).toContainText('acme');
  await dialog.getByRole('button', { name: 'Pull', exact: true }).click();
  await expect(page.getByTestId('pull')).toContainText('is here', { timeout: 30_000 });
  await expect(page.getByTestId('images').getByRole('row')).toHaveCount(2);
  await page.getByTestId('images').getByRole('link').first().click();
  await expect(page.getByText('1 layer', { exact: true })).toBeVisible();
  await page.screenshot({ path: artefact('image') });
});

test('a form that says what is wrong, next to it', async () => {
  await page.goto('/containers/new');
  await page.getByLabel('Memory').fill('1k');
  await page.getByLabel('Published ports').fill('eighty');
  await page.getByRole('button', { name: 'Create and start' }).click();
  await expect(page.getByText('an image reference is needed')).toBeVisible();
  await expect(page.getByText('must lie between')).toBeVisible();
  await expect(page.getByText('"eighty" is no port')).toBeVisible();
  await page.screenshot({ path: artefact('create-problems') });
});

test('a container from that image', async () => {
  await page.goto('/images');
  await page.getByRole('link', { name: /^Run / }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('New container');
  await expect(page.getByLabel('Image')).toHaveValue(/busybox/);
  await page.getByLabel('Name', { exact: true }).fill('ticker');
  await page.getByRole('textbox', { name: 'Command' }).fill(`sh -c 'i=0; while true; do i=$((i+1)); echo "line $i"; j=0; while [ $j -lt 3000 ]; do j=$((j+1)); done; sleep 0.2; done'`);
  await page.getByLabel('CPUs').fill('0.5');
  await page.getByLabel('Memory').fill('64m');
  await page.screenshot({ path: artefact('create') });
  await page.getByRole('button', { name: 'Create and start' }).click();
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('ticker');
  await expect(page.locator('.page-head .chip')).toContainText('running', { timeout: 30_000 });
});

test('charts move', async () => {
  const legend = page.getByTestId('legend-memory');
  await expect(legend).toContainText('peak');
  const cpu = page.getByTestId('legend-cpu');
  const first = await cpu.textContent();
  await expect(cpu).not.toHaveText(first);
  const ink = await page.locator('.chart canvas').first().evaluate((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some((byte) => byte !== 0);
  });
  expect(ink).toBe(true);
  await page.waitForTimeout(4_000);
  await page.screenshot({ path: artefact('container') });
});

test('prices turn use into money', async () => {
  const here = page.url();
  await page.goto('/price-books');
  await page.getByRole('button', { name: 'New version' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Currency').fill('EUR');
  await dialog.getByLabel('CPU used per Core-Seconds').fill('0.01');
  await dialog.getByLabel('Memory reserved per GB-Seconds').fill('0.001');
  await dialog.getByRole('button', { name: 'Make the version' }).click();
  await expect(page.getByRole('heading', { name: /^From / })).toBeVisible();
  await page.goto('/');
  await expect(page.getByTestId('cost-sum')).toContainText('EUR/h');
  await page.goto(here);
  await expect(page.getByTestId('cost-now')).toContainText('EUR/h');
});

test('log lines come live, and stand still while one reads', async () => {
  await page.getByRole('navigation', { name: 'Container' }).getByRole('link', { name: 'Logs' }).click();
  const count = async () => Number.parseInt(await page.getByTestId('log-count').textContent());
  const before = await count();
  await expect.poll(count).toBeGreaterThan(before + 5);
  await page.getByLabel('Search').fill('line 1');
  await expect(page.locator('.log mark').first()).toBeVisible();
  await page.screenshot({ path: artefact('logs') });
  await expect.poll(count).toBeGreaterThan(45);
  await page.getByRole('log').evaluate((log) => { log.scrollTop = 0; });
  await expect(page.getByLabel('follow')).not.toBeChecked();
  const top = page.locator('.line').first();
  const text = await top.textContent();
  await expect(page.getByRole('button', { name: /new ↓/ })).toBeVisible();
  await expect(top).toHaveText(text);
  await page.getByRole('button', { name: /new ↓/ }).click();
  await expect(page.getByLabel('follow')).toBeChecked();
});

test('a terminal types', async () => {
  await page.getByRole('navigation', { name: 'Container' }).getByRole('link', { name: 'Terminal' }).click();
  await page.getByRole('button', { name: 'Connect' }).click();
  await expect(page.getByTestId('terminal-status')).toContainText('Connected');
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.type('echo answer $((6*7))\n', { delay: 10 });
  const screen = () => page.getByTestId('terminal').evaluate(({ terminal }) => {
    const { active } = terminal.buffer;
    return Array.from({ length: active.length }, (_, at) => active.getLine(at).translateToString(true)).join('\n');
  });
  await expect.poll(screen).toContain('answer 42');
  await page.keyboard.type('stty size\n');
  const size = await page.getByTestId('terminal').evaluate(({ terminal }) => `${terminal.rows} ${terminal.cols}`);
  await expect.poll(screen).toContain(size);
  await page.screenshot({ path: artefact('terminal') });
  await page.keyboard.type('exit\n');
  await expect(page.getByTestId('terminal-status')).toContainText('ended with code 0');
});

test('the list is live', async () => {
  await page.goto('/containers');
  const row = page.getByTestId('containers').getByRole('row', { name: /ticker/ });
  await expect(row).toContainText('running');
  await expect(row).toContainText(/KiB|MiB/);
  await page.getByLabel('Search').fill('state:exited');
  await expect(page.getByText('0 of 1 match')).toBeVisible();
  await page.getByRole('button', { name: 'Clear the search' }).click();
  await expect(row).toBeVisible();
});

test('usage is exported', async () => {
  await page.goto('/usage');
  await expect(page.getByTestId('usage')).toContainText('ticker', { timeout: 30_000 });
  await expect(page.getByTestId('usage').getByRole('row', { name: /ticker [0-9a-f]{12} CPU used/ })).toBeVisible();
  await expect(page.getByTestId('usage')).not.toContainText(/\b0\.0+\s/);
  await page.screenshot({ path: artefact('usage') });
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('link', { name: 'Export CSV' }).click(),
  ]);
  const csv = readFileSync(await download.path(), 'utf8');
  expect(csv.split('\n')[0]).toContain('BilledCost');
  expect(csv).toContain('ticker');
});
