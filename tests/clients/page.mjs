// The live page in a real browser: what is sent appears, a restart of the gateway is survived, every right and every
// colour scheme is looked at, and axe finds nothing. Says `restart` when the gateway is to be restarted, and goes on
// when a line comes back. With SCREENSHOTS set, pictures are left there.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import axe from 'axe-core';
import { chromium } from 'playwright-core';

const { GATEWAY_URL, ADMIN_KEY, READ_KEY, WRITE_KEY, SCREENSHOTS, CHROMIUM } = process.env;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

const browser = await chromium.launch({ executablePath: CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

async function send(...events) {
  const headers = { 'X-API-Key': WRITE_KEY, 'Content-Type': 'application/json' };
  const response = await fetch(`${GATEWAY_URL}/api/events`, { method: 'POST', headers, body: JSON.stringify(events) });
  assert.equal(response.status, 202, await response.text());
}

async function open(key, look = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...look });
  const page = await context.newPage();
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(GATEWAY_URL);
  await page.getByLabel('API key').fill(key);
  await page.keyboard.press('Enter');
  return { page, errors, close: () => context.close() };
}

const live = (page) => page.getByText('Live', { exact: true }).waitFor();

async function accessible(page, where) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const told = violations.map((it) => `${it.id}: ${it.nodes.map((node) => `${node.target} ${node.failureSummary}`).join('; ')}`);
  assert.deepEqual(told, [], where);
}

async function appears() {
  const { page, errors, close } = await open(ADMIN_KEY);
  await live(page);
  const [user, post] = [`u-${randomUUID()}`, `p-${randomUUID()}`];
  const since = performance.now();
  await send({ type: 'like', userId: user, postId: post });
  await page.locator('#events').getByText(user).waitFor();
  console.error(`an event was seen after ${Math.round(performance.now() - since)} ms`);
  await page.getByLabel('Filter live events').fill('nothing has this');
  await page.locator('#events').getByText(user).waitFor({ state: 'hidden' });
  await page.getByLabel('Filter live events').fill(post);
  await page.locator('#events').getByText(user).waitFor();
  await page.getByLabel('Filter live events').fill('');

  await page.getByRole('button', { name: 'Pause' }).click();
  const later = `u-${randomUUID()}`;
  await send({ type: 'view', userId: later, postId: post });
  await page.getByRole('button', { name: /Resume \(\d+ new\)/ }).waitFor();
  assert.equal(await page.locator('#events').getByText(later).count(), 0);
  await page.getByRole('button', { name: /Resume/ }).click();
  await page.locator('#events').getByText(later).waitFor();
  assert.deepEqual(errors, []);
  await close();
}

async function showsAWay() {
  const { page, errors, close } = await open(ADMIN_KEY);
  await live(page);
  const post = `p-${randomUUID()}`;
  await page.getByLabel('Its id').fill(post);
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  const counted = page.locator('#way li[data-is=done]', { hasText: `like of post ${post}: 1` });
  for (const step of ['Accepted', 'Stored', 'In statistics', 'Sent on']) {
    await page.locator('#way li[data-is=done]', { hasText: step }).waitFor();
  }
  await counted.waitFor();
  await page.getByRole('button', { name: 'Send the same again' }).click();
  await counted.waitFor();
  // Ten people like it: that is a milestone.
  await send(...Array.from({ length: 9 }, (_, n) => ({ type: 'like', userId: `fan-${n}`, postId: post })));
  await page.locator('#notifications').getByText(post).first().waitFor();
  await page.locator('#way li[data-is=done]', { hasText: 'Notified' }).waitFor();
  await page.locator('#top').getByText(post).waitFor();
  assert.deepEqual(errors, []);
  await close();
}

async function reconnects() {
  const { page, errors, close } = await open(ADMIN_KEY);
  await live(page);
  assert.deepEqual(errors, []);
  console.log('restart');
  await page.getByText('Reconnecting', { exact: true }).waitFor();
  await answers.next();
  // Sent before it is connected again: its cursor leads it there.
  const user = `u-${randomUUID()}`;
  await send({ type: 'like', userId: user, postId: '1' });
  await page.locator('#events').getByText(user).waitFor();
  await live(page);
  // A browser writes down itself that nobody answered.
  assert.deepEqual(errors.filter((it) => !/WebSocket connection|Failed to load resource/.test(it)), []);
  await close();
}

async function tellsWhatIsMissing() {
  const reader = await open(READ_KEY);
  await reader.page.getByText('This key may read but not write').waitFor();
  await live(reader.page);
  assert.equal(await reader.page.getByRole('button', { name: 'Send', exact: true }).isEnabled(), false);
  await accessible(reader.page, 'with a key that reads');
  await reader.close();

  const writer = await open(WRITE_KEY);
  await writer.page.getByText('This key may write but not read').waitFor();
  await writer.page.getByRole('button', { name: 'Send', exact: true }).click();
  await writer.page.locator('#way li[data-is=done]', { hasText: 'Accepted' }).waitFor();
  await writer.close();

  const stranger = await open('no-such-key');
  await stranger.page.getByText('Key refused').waitFor();
  assert.equal(await stranger.page.evaluate(() => sessionStorage.length), 0);
  await accessible(stranger.page, 'without a key');
  await stranger.close();
}

async function looks() {
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1280, 390]) {
      const { page, errors, close } = await open(ADMIN_KEY, { colorScheme, viewport: { width, height: width > 700 ? 900 : 844 } });
      await live(page);
      await page.locator('#retention td').first().waitFor();
      await page.locator('#activity-chart canvas').waitFor();
      await accessible(page, `${colorScheme} at ${width}`);
      const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      assert.equal(scrolls, false, `the page is wider than ${width}`);
      if (SCREENSHOTS) {
        await page.waitForTimeout(Number(process.env.SCREENSHOT_AFTER_MS ?? 0));
        await page.screenshot({ path: `${SCREENSHOTS}/page-${width}-${colorScheme}.png`, fullPage: true });
      }
      assert.deepEqual(errors, []);
      await close();
    }
  }
}

const all = { appears, showsAWay, reconnects, tellsWhatIsMissing, looks };
for (const name of process.argv[2]?.split(',') ?? Object.keys(all)) await all[name]();
await browser.close();
process.exit(0);
