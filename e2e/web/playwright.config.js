// Browser tests of the dashboard, against a real agent, a real registry and Debian's Chromium.
//
// `harness.js` starts all three, or uses an agent that runs already: WHARF_URL, WHARF_SETUP_LINK (its
// one-time link) and WHARF_IMAGE (a busybox image that it can pull).
import { defineConfig } from '@playwright/test';
import { existsSync } from 'node:fs';

const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find(
  (path) => path && existsSync(path),
);

export default defineConfig({
  testDir: 'tests',
  outputDir: '../artefacts/web-results',
  globalSetup: './harness.js',
  timeout: 60_000,
  expect: { timeout: 15_000 },
  workers: 1,
  forbidOnly: true,
  reporter: [['list']],
  use: {
    viewport: { width: 1280, height: 800 },
    locale: 'en-GB',
    timezoneId: 'UTC',
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath: chromium,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    },
  },
  projects: [
    { name: 'journey', testMatch: 'journey.spec.js' },
    { name: 'pages', testMatch: 'pages.spec.js', dependencies: ['journey'] },
    { name: 'money', testMatch: 'money.spec.js', dependencies: ['pages'] },
    // Last: it kills the agent.
    { name: 'faults', testMatch: 'faults.spec.js', dependencies: ['money'] },
  ],
});
