// What all specs share: the agent's address, a signed-in page, and a guard that fails a test on any
// console error, page error or blocked resource.
import { expect, test as base } from '@playwright/test';
import AxeBuilder from '@axe-core/playwright';
import { join } from 'node:path';
import { readState } from '../harness.js';

export { expect };
export const PASSWORD = 'a sentence for the tests';
export const artefact = (name) => join(import.meta.dirname, '../../artefacts', `${name}.png`);
export const session = () => join(readState().dir, 'session.json');

export function guard(page) {
  const bad = [];
  page.on('console', (message) => {
    // Asking who is signed in is answered with 401 when nobody is; the browser reports that as an error.
    const isExpected = message.location().url.endsWith('/api/v1/auth/session');
    if (message.type() === 'error' && !isExpected) bad.push(message.text());
  });
  page.on('pageerror', (error) => bad.push(String(error)));
  return bad;
}

export const test = base.extend({
  baseURL: async ({}, use) => use(readState().url),
  page: async ({ browser, baseURL, colorScheme, viewport }, use) => {
    const context = await browser.newContext({ baseURL, colorScheme, viewport, storageState: session(), timezoneId: 'UTC' });
    const page = await context.newPage();
    const bad = guard(page);
    await use(page);
    await context.close();
    expect(bad).toEqual([]);
  },
});

/** No violation of WCAG 2.2 A or AA. */
export async function accessible(page) {
  const found = await new AxeBuilder({ page }).withTags(['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']).analyze();
  expect(found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).slice(0, 3).join(' | ')}`)).toEqual([]);
}
