// Every page by its address, in both themes and on a narrow screen.
import { createServer } from 'node:net';
import { accessible, artefact, expect, test } from './fixtures.js';

const PAGES = [
  ['overview', '/', 'Overview'],
  ['containers', '/containers', 'Containers'],
  ['create', '/containers/new', 'New container'],
  ['container', '/containers/ticker', 'ticker'],
  ['logs', '/containers/ticker/logs', 'ticker'],
  ['terminal', '/containers/ticker/terminal', 'ticker'],
  ['inspect', '/containers/ticker/inspect', 'ticker'],
  ['images', '/images', 'Images'],
  ['volumes', '/volumes', 'Volumes'],
  ['networks', '/networks', 'Networks'],
  ['tenants', '/tenants', 'Tenants'],
  ['usage', '/usage', 'Usage'],
  ['statements-open', '/statements', 'Statements'],
  ['price-books', '/price-books', 'Price books'],
  ['metering-fresh', '/metering', 'Metering health'],
  ['events', '/events', 'Events'],
  ['audit', '/audit', 'Audit'],
  ['access', '/access', 'Users and tokens'],
  ['hosts', '/hosts', 'Host'],
];

for (const [name, path, title] of PAGES) {
  test(`${name}: both themes, no violation, no wider than a narrow screen`, async ({ page }) => {
    await page.goto(path);
    await expect(page.getByRole('heading', { level: 1 })).toHaveText(title);
    await expect(page.getByTestId('connection')).toContainText('live');
    await expect(page.locator('.skeleton')).toHaveCount(0);
    await expect(page.locator('main [role=alert]:visible')).toHaveCount(0);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await accessible(page);
      await page.screenshot({ path: artefact(`${name}-${colorScheme}`) });
    }
    await page.setViewportSize({ width: 360, height: 740 });
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await expect.poll(overflow).toBeLessThanOrEqual(0);
    await page.screenshot({ path: artefact(`${name}-narrow`) });
  });
}

test('keys go to pages and to the search', async ({ page }) => {
  await page.goto('/');
  await expect(page.getByTestId('connection')).toContainText('live');
  await page.keyboard.press('g');
  await page.keyboard.press('c');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Containers');
  await page.keyboard.press('/');
  await expect(page.getByLabel('Search')).toBeFocused();
  await page.keyboard.press('Tab');
  await page.locator('h1').focus();
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keys' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog')).toHaveCount(0);
});

test('the theme is chosen and kept', async ({ page }) => {
  await page.goto('/');
  await page.getByTestId('theme').click();
  await page.getByTestId('theme').click();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.reload();
  await expect(page.locator('html')).toHaveAttribute('data-theme', 'dark');
});

test('the first load is at most 350 kB compressed, and nothing comes from elsewhere', async ({ page, baseURL }) => {
  const client = await page.context().newCDPSession(page);
  await client.send('Network.enable');
  let bytes = 0;
  const hosts = new Set();
  client.on('Network.loadingFinished', ({ encodedDataLength }) => { bytes += encodedDataLength; });
  page.on('request', (request) => hosts.add(new URL(request.url()).origin));
  await page.goto('/');
  await expect(page.getByTestId('connection')).toContainText('live');
  await page.waitForTimeout(500);
  console.log(`first load: ${bytes} bytes`);
  expect(bytes).toBeLessThanOrEqual(350_000);
  expect([...hosts].filter((host) => host !== baseURL && !host.startsWith('null'))).toEqual([]);
});

test('markup in a name is text', async ({ page }) => {
  await page.goto(`/containers?search=${encodeURIComponent('<img src=x onerror=alert(1)>')}`);
  await expect(page.getByText('0 of 1 match')).toBeVisible();
  await expect(page.locator('main img')).toHaveCount(0);
});

test('whatever is not there on this host has a way out beside it', async ({ page }) => {
  await page.goto('/hosts');
  const rows = page.getByTestId('checks').getByRole('row');
  await expect(rows.filter({ hasText: 'there' }).first()).toBeVisible();
  for (const row of await rows.filter({ hasText: /▲|✖/ }).all()) await expect(row.getByTestId('remedy')).not.toBeEmpty();
  await expect(rows.filter({ hasText: '●' }).getByTestId('remedy')).toHaveCount(0);
  await page.screenshot({ path: artefact('host') });
});

test('a pull that hangs is cancelled', async ({ page }) => {
  // A registry that lets one in and never says a word.
  const held = new Set();
  const registry = createServer((socket) => {
    held.add(socket);
    socket.on('error', () => {});
  });
  await new Promise((done) => registry.listen(0, '127.0.0.1', done));
  try {
    const image = `127.0.0.1:${registry.address().port}/library/hangs:1`;
    await page.goto('/images');
    await page.getByRole('button', { name: 'Pull an image' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Image').fill(image);
    await expect(dialog.getByLabel('Tenant')).toContainText('acme');
    await dialog.getByRole('button', { name: 'Pull', exact: true }).click();
    const pull = page.getByTestId('pull').filter({ hasText: image });
    await expect(pull).toContainText('asking the registry');
    await page.screenshot({ path: artefact('pull-running') });
    await pull.getByRole('button', { name: `Cancel the pull of ${image}` }).click();
    await expect(pull).toContainText('cancelled by admin');
    await expect(pull.getByRole('button')).toHaveText(['Dismiss']);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await accessible(page);
      await page.screenshot({ path: artefact(`pull-cancelled-${colorScheme}`) });
    }
    await pull.getByRole('button', { name: `Dismiss the pull of ${image}` }).click();
    await expect(pull).toHaveCount(0);
    // The agent tells of it still, and it stays away.
    await page.getByRole('link', { name: 'Volumes' }).click();
    await expect(page.getByRole('heading', { level: 1 })).toHaveText('Volumes');
    await page.getByRole('link', { name: 'Images' }).click();
    await expect(page.getByTestId('images')).toBeVisible();
    await page.waitForTimeout(500);
    await expect(pull).toHaveCount(0);
  } finally {
    registry.close();
    held.forEach((socket) => socket.destroy());
  }
});

test('a container list says how long it is, and moves the focus with its rows', async ({ page }) => {
  await page.goto('/containers');
  const table = page.getByRole('table');
  await expect(table.getByRole('columnheader', { name: 'Cost/h' })).toHaveAttribute('aria-sort', 'none');
  const row = page.getByTestId('containers').getByRole('row', { name: /ticker/ });
  await expect(row.getByRole('rowheader')).toHaveText('ticker');
  await expect(row).toHaveAttribute('aria-rowindex', '2');
  await expect(table).toHaveAttribute('aria-rowcount', '2');
  // Heads and cells are boxes of their own: they must still stand below each other.
  for (const at of [1, 2, 5]) {
    const head = await table.getByRole('columnheader').nth(at).boundingBox();
    const cell = await row.locator('> *').nth(at).boundingBox();
    expect([cell.x, cell.width]).toEqual([head.x, head.width]);
  }
  await row.getByRole('link').focus();
  await page.getByRole('button', { name: 'CPU' }).click();
  await row.getByRole('link').focus();
  await page.waitForTimeout(3_500);
  await expect(row.getByRole('link')).toBeFocused();
});

test('a pull that failed says why within its card', async ({ page }) => {
  await page.goto('/images');
  await page.getByRole('button', { name: 'Pull an image' }).click();
  const dialog = page.getByRole('dialog');
  // Nobody listens there, and the name leaves no place to break.
  const image = `127.0.0.1:1/library/${'long'.repeat(30)}:1`;
  await dialog.getByLabel('Image').fill(image);
  await expect(dialog.getByLabel('Tenant')).toContainText('acme');
  await dialog.getByRole('button', { name: 'Pull', exact: true }).click();
  const pull = page.getByTestId('pull').filter({ hasText: image });
  await expect(pull.locator('.chip')).toHaveText('failed', { timeout: 30_000 });
  await expect(pull.locator('.problem')).not.toBeEmpty();
  await accessible(page);
  for (const width of [1280, 390]) {
    await page.setViewportSize({ width, height: 800 });
    const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await expect.poll(overflow).toBeLessThanOrEqual(0);
    await page.screenshot({ path: artefact(`pull-failed-${width}`) });
  }
});

test('on a phone what can be done with a container is in sight', async ({ page }) => {
  await page.setViewportSize({ width: 390, height: 800 });
  await page.goto('/containers');
  const row = page.getByTestId('containers').getByRole('row', { name: /ticker/ });
  await expect(row.getByRole('button')).toBeInViewport({ ratio: 1 });
  const hidden = await page.locator('.grid-frame').evaluate((frame) => frame.scrollWidth - frame.clientWidth);
  expect(hidden).toBe(0);
  await page.screenshot({ path: artefact('containers-phone') });
});

test('the audit trail shows all its columns', async ({ page }) => {
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.goto('/audit');
  const frame = page.getByRole('region', { name: 'Audit trail' });
  await expect(frame.getByRole('row').nth(1)).toBeVisible();
  expect(await frame.evaluate((box) => box.scrollWidth - box.clientWidth)).toBeLessThanOrEqual(0);
});
