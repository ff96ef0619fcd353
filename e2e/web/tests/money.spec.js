// A month that is over, closed on the dashboard: statements down to the kernel, books with what they would
// change, usage over time, and whether metering is well.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readState, startAgent, stopAgent } from '../harness.js';
import { accessible, artefact, expect, test } from './fixtures.js';

test.skip(() => !readState().program, 'the agent was started by somebody else');

// Tests run in processes of their own after a failure; what the first found out is kept beside the agent.
const found = () => JSON.parse(readFileSync(join(readState().dir, 'month.json'), 'utf8'));

/** Both themes without a violation, and no wider than a phone. */
async function looks(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await accessible(page);
    await page.screenshot({ path: artefact(`${name}-${colorScheme}`) });
  }
  await page.setViewportSize({ width: 360, height: 740 });
  const overflow = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  await expect.poll(overflow).toBeLessThanOrEqual(0);
  await page.screenshot({ path: artefact(`${name}-narrow`) });
  await page.setViewportSize({ width: 1280, height: 800 });
}

const drawer = (page) => page.getByRole('dialog', { name: /^How line/ });
const lines = (page) => page.getByTestId('lines');
const heading = (page) => page.getByRole('heading', { level: 1 });

test('a month before last', async ({ page }) => {
  await page.goto('/tenants');
  await page.getByRole('button', { name: 'New tenant' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('blue');
  await page.getByRole('dialog').getByRole('button', { name: 'Create' }).click();
  await expect(page.getByTestId('tenants').getByRole('link', { name: 'blue' })).toBeVisible();
  await page.goto('/containers/new');
  await page.getByLabel('Image').fill(readState().image);
  await page.getByLabel('Tenant', { exact: true }).selectOption({ label: 'blue' });
  await page.getByLabel('Name', { exact: true }).fill('burner');
  await page.getByRole('textbox', { name: 'Command' }).fill(`sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'`);
  await page.getByLabel('Memory').fill('64m');
  await page.getByRole('button', { name: 'Create and start' }).click();
  await expect(heading(page)).toHaveText('burner');
  await expect(page.locator('.page-head .chip')).toContainText('exited 0', { timeout: 30_000 });
  const tenants = await (await page.request.get('/api/v1/tenants')).json();
  const blue = tenants.items.find((tenant) => tenant.name === 'blue').id;
  await page.goto('about:blank');
  const state = readState();
  stopAgent(state);
  const program = join(dirname(state.program), 'examples/past_month');
  const month = execFileSync(program, [join(state.dir, 'state'), blue, new Date().toISOString()], { encoding: 'utf8' }).trim();
  writeFileSync(join(state.dir, 'month.json'), JSON.stringify({ month, blue }));
  await startAgent(state);
});

test('statements of a month: who owes what', async ({ page }) => {
  const { month, blue } = found();
  await page.goto(`/statements?period=${month}`);
  const row = page.getByTestId('statements').getByRole('row', { name: /blue/ });
  await expect(row).toContainText('draft');
  await expect(row).toContainText(/\d\.\d\d\sEUR/);
  await expect(page.locator('.page-head .sentence')).toHaveText(/^2 statements, .*EUR in all$/);
  await looks(page, 'statements');
  // What is chosen is in the address, and the way back leads to it.
  await page.getByLabel('Tenant', { exact: true }).selectOption({ label: 'blue' });
  await expect(page).toHaveURL(new RegExp(`period=${month}&tenant=${blue}`));
  await row.getByRole('link').first().click();
  await expect(heading(page)).toHaveText('Statement of blue');
  await page.goBack();
  await expect(page.getByLabel('Month')).toHaveValue(month);
  await expect(row).toBeVisible();
});

test('a line is explained down to the kernel, by keyboard', async ({ page }) => {
  const { month, blue } = found();
  await page.goto(`/statements/${blue}/${month}`);
  await expect(heading(page)).toHaveText('Statement of blue');
  await expect(page.locator('.page-head .sentence')).toContainText('it has not been issued');
  await expect(lines(page).getByRole('row', { name: /Total/ })).toContainText('EUR');
  await expect(lines(page).getByRole('row', { name: /allowance/ }).first()).toBeVisible();
  await looks(page, 'statement');
  // The container's own line, not what its tenant used outside of it.
  const explain = lines(page).getByRole('row', { name: /^\d+ (?!.*outside).*one price/i }).getByRole('link').first();
  await explain.focus();
  await page.keyboard.press('Enter');
  await expect(drawer(page)).toBeVisible();
  await expect(page).toHaveURL(/\?line=\d+$/);
  await expect(drawer(page).getByTestId('formula')).toHaveText(/Core-Hours x .* EUR.* = .* EUR, rounded/);
  await expect(drawer(page)).toContainText('exactly what is rated here');
  await expect(drawer(page)).toContainText('cpu.stat usage_usec');
  await expect(drawer(page).getByRole('table').first()).toContainText('cgroup');
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await accessible(page);
    await page.screenshot({ path: artefact(`explain-${colorScheme}`) });
  }
  await page.setViewportSize({ width: 360, height: 740 });
  await expect.poll(() => drawer(page).evaluate((box) => box.scrollWidth - box.clientWidth)).toBeLessThanOrEqual(0);
  await page.screenshot({ path: artefact('explain-narrow') });
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.keyboard.press('Escape');
  await expect(drawer(page)).toHaveCount(0);
  await expect(page).not.toHaveURL(/line=/);
});

test('a statement is issued, paid, and taken back', async ({ page }) => {
  const { month, blue } = found();
  await page.goto(`/statements/${blue}/${month}`);
  await page.getByRole('button', { name: 'Issue…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Issue it' }).click();
  await expect(heading(page)).toHaveText('Statement S-000001');
  await expect(page.locator('.page-head .sentence')).toContainText('due on');
  await page.screenshot({ path: artefact('statement-issued'), fullPage: true });
  const paper = await page.request.get(await page.getByRole('link', { name: 'Print view' }).getAttribute('href'));
  expect(await paper.text()).toContain('Statement S-000001');
  const table = await page.request.get(await page.getByRole('link', { name: 'CSV' }).getAttribute('href'));
  expect((await table.text()).split('\n').length).toBeGreaterThan(2);

  await page.getByRole('button', { name: 'Mark as paid…' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Mark as paid' }).click();
  await expect(page.locator('.page-head .sentence')).toContainText('has paid');
  await expect(page.getByRole('button', { name: 'Mark as paid…' })).toHaveCount(0);

  await page.getByRole('button', { name: 'Void…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Why').fill('issued by mistake');
  await dialog.getByRole('button', { name: 'Void it' }).click();
  await expect(heading(page)).toHaveText('Credit note C-000001');
  await expect(page.getByText('Why it was taken back: issued by mistake')).toBeVisible();
  await page.getByRole('link', { name: 'S-000001' }).click();
  await expect(heading(page)).toHaveText('Statement S-000001');
  await expect(page.getByText('It was taken back by the credit note')).toBeVisible();
  await looks(page, 'statement-voided');
  await page.goto('/statements?period=issued');
  await expect(page.getByTestId('statements').getByRole('row')).toHaveCount(3);
});

test('a price book with all there is, and what it would change', async ({ page }) => {
  const { month } = found();
  await page.goto('/price-books');
  const past = page.getByTestId('book').filter({ hasText: '3600' }).first();
  await expect(past).toContainText('used or reserved, the greater of each hour');
  await expect(past).toContainText('free per tenant and month');
  await looks(page, 'price-books-full');
  await page.getByRole('button', { name: 'New version' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'JSON, with all there is' }).click();
  const book = {
    currency: 'EUR', effective_from: '2030-01-01T00:00:00Z',
    prices: [{ meter: 'cpu_used', unit: 'Core-Hours', tiers: [{ from: '0', to: '1', unit_price: '7200' }, { from: '1', unit_price: '1' }] }],
  };
  await dialog.getByLabel('The book as JSON').fill('{');
  await dialog.getByRole('button', { name: 'Simulate' }).click();
  await expect(dialog.getByText('The JSON is no price book')).toBeVisible();
  await dialog.getByLabel('The book as JSON').fill(JSON.stringify(book, null, 2));
  // The short form cannot say tiers, and does not lose them.
  await dialog.getByRole('button', { name: 'Short form' }).click();
  await expect(dialog.getByText('only the JSON can say so')).toBeVisible();
  await dialog.getByLabel('Month').selectOption(month);
  await dialog.getByRole('button', { name: 'Simulate' }).click();
  const row = dialog.getByTestId('simulation').getByRole('row', { name: /blue/ });
  await expect(row).toContainText(/, (more|less)$/);
  await expect(dialog.getByText('only the JSON can say so')).toHaveCount(0);
  await accessible(page);
  await row.scrollIntoViewIfNeeded();
  await page.screenshot({ path: artefact('simulate-light') });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.setViewportSize({ width: 360, height: 740 });
  await expect.poll(() => dialog.evaluate((box) => box.scrollWidth - box.clientWidth)).toBeLessThanOrEqual(0);
  await page.screenshot({ path: artefact('simulate-narrow') });
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
  expect((await (await page.request.get('/api/v1/billing/price-books')).json()).items).toHaveLength(2);
});

test('usage over time, by whom and what', async ({ page }) => {
  await page.goto('/usage');
  await page.getByLabel('By', { exact: true }).selectOption('meter');
  const pivot = page.getByTestId('pivot');
  await expect(pivot.getByRole('row', { name: /^CPU used/ })).toContainText('EUR');
  await page.getByLabel('Show').selectOption('quantity');
  await expect(pivot.getByRole('row', { name: /^CPU used/ }).first()).toContainText('core-s');
  await page.getByLabel('Period').selectOption('day');
  await page.getByLabel('Columns').selectOption('hour');
  await page.getByLabel('By', { exact: true }).selectOption('container');
  await expect(pivot.getByRole('columnheader', { name: /^\d\d \d\d:00$/ }).first()).toBeVisible();
  await expect(pivot.getByRole('row', { name: /ticker/ }).first()).toBeVisible();
  await looks(page, 'usage-pivot');
});

test('metering says what is missing', async ({ page }) => {
  await page.goto('/metering');
  await expect(heading(page)).toHaveText('Metering health');
  await expect(page.locator('.page-head .sentence')).toHaveText('What is measured is stored, signed and in the hours.');
  await expect(page.getByTestId('ledger')).toContainText('kept');
  // The tenant's cgroup of that other boot has no last reading: so the ledger says.
  const gap = page.getByTestId('faults').getByRole('row', { name: /gap/ }).first();
  await expect(gap).toContainText('nothing is billed for it');
  await expect(page.getByText('Events of usage are sent nowhere')).toBeVisible();
  await looks(page, 'metering');
});

test('a tenant shows its contract', async ({ page }) => {
  const { blue } = found();
  await page.goto(`/tenants/${blue}`);
  const contracts = page.getByTestId('contracts');
  await expect(contracts).toContainText('50 % off every price');
  await expect(contracts).toContainText('credit welcome: 0.01');
  await expect(contracts).toContainText('in force');
  await looks(page, 'tenant-contract');
  await page.getByRole('link', { name: 'Its statements' }).click();
  await expect(page.getByTestId('statements')).toContainText('S-000001');
});
