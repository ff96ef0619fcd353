// The dashboard's benchmarks: `cargo xtask bench dashboard`. They print figures and assert on none.
import { defineConfig } from '@playwright/test';
import tests from './playwright.config.js';

export default defineConfig({
  ...tests,
  testDir: 'bench',
  testMatch: '*.bench.js',
  outputDir: '../artefacts/bench-results',
  timeout: 1_800_000,
  projects: [{ name: 'bench' }],
});
