// The agent is killed while one looks: the page says so, comes back, and nothing is lost or repeated.
import { readState, startAgent, stopAgent } from '../harness.js';
import { artefact, expect, session, test as base } from './fixtures.js';

const test = base.extend({
  // The browser itself reports each refused connection; that is what this is about.
  page: async ({ browser }, use) => {
    const context = await browser.newContext({ baseURL: readState().url, storageState: session(), timezoneId: 'UTC' });
    await use(await context.newPage());
    await context.close();
  },
});

test('a killed agent: banner, return, no line lost', async ({ page }) => {
  test.skip(!readState().program, 'the agent was started by somebody else');
  await page.goto('/containers/ticker/logs');
  const numbers = async () => {
    const texts = await page.locator('.line').allTextContents();
    return texts.map((text) => Number(/line (\d+)/.exec(text)?.[1]));
  };
  const count = async () => Number.parseInt(await page.getByTestId('log-count').textContent());
  await expect.poll(count).toBeGreaterThan(10);
  const overview = await page.context().newPage();
  await overview.goto('/');
  const sentence = overview.locator('.page-head .sentence');
  await expect(sentence).toHaveText(/All is well|need/);
  // A page behind another one is slow to notice anything.
  await page.bringToFront();
  stopAgent(readState());
  await expect(page.getByTestId('reconnecting')).toContainText('Reconnecting… showing data from');
  await expect(page.getByText('Waiting for the connection')).toBeVisible();
  await expect(page.locator('.page-actions').getByRole('button', { name: 'Stop' })).toBeDisabled();
  await page.screenshot({ path: artefact('reconnecting') });
  await overview.bringToFront();
  await expect(sentence).toContainText('Nothing was heard since');
  await overview.screenshot({ path: artefact('overview-offline') });
  await overview.close();
  const frozen = await count();
  await startAgent(readState());
  await expect(page.getByTestId('reconnected')).toBeVisible({ timeout: 30_000 });
  await expect(page.getByTestId('connection')).toContainText('live');
  await page.screenshot({ path: artefact('reconnected') });
  await expect.poll(count).toBeGreaterThan(frozen + 10);

  // From the first line to the last: as many as there are numbers.
  await page.getByLabel('follow').uncheck();
  const all = await count();
  const last = Math.max(...(await numbers()));
  await page.getByRole('log').evaluate((log) => { log.scrollTop = 0; });
  await expect.poll(async () => (await numbers())[0]).toBeLessThan(last - 20);
  const first = Math.min(...(await numbers()));
  const shown = await count();
  expect(shown).toBeGreaterThanOrEqual(all);
  expect(last - first + 1).toBeLessThanOrEqual(shown);
  expect(last - first + 1).toBeGreaterThanOrEqual(all);
});

test('removing asks first, and is said when done', async ({ page }) => {
  await page.goto('/containers/ticker');
  await page.locator('.page-actions').getByRole('button', { name: 'Remove' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('it is killed first');
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
  await page.locator('.page-actions').getByRole('button', { name: 'Remove' }).click();
  await dialog.getByRole('button', { name: 'Remove ticker' }).click();
  await expect(page.getByText('ticker removed')).toBeVisible({ timeout: 30_000 });
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('Containers');
});
