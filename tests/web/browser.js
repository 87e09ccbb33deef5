// A real Chromium. Each test gets pages of its own. A violation of a page's policy or an error in
// its console fails the test.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

import { Server, TEST_TIMEOUT } from './server.js';

const CHROMIUM = process.env.CLAUDE_SOCKET_TEST_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Console errors of tests in which the server has ended or refuses. */
const EXPECTED = /ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED|WebSocket connection to/;

const browsers = [];
/** Starts a browser, with more flags. */
export function launch(...more) {
  const browser = chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...more] });
  browsers.push(browser);
  return browser;
}

let launched;
const browser = () => (launched ??= launch());
/** Closes all browsers. */
export const close = () => Promise.all(browsers.map(async (browser) => (await browser).close()));
after(close);

/**
 * Declares a test with a server. `open` opens the page in a new browser context.
 * @param {string} name
 * @param {(it: {server: Server, open: Function}) => Promise<void>} run
 * @param {object} [options] options of the server
 */
export function story(name, run, options = {}) {
  test(name, async (t) => {
    const server = await Server.start(options);
    const opened = [];
    const open = async (where = '/', settings = {}) => {
      const page = await newPage(settings);
      opened.push(page);
      await page.goto(where.startsWith('/') ? `http://${server.host}${where}` : where);
      return page;
    };
    try {
      await run({ server, open, t });
      for (const page of opened) assert.deepEqual(await page.wrongs(), []);
    } finally {
      await Promise.all(opened.map((page) => page.context().close()));
      if (server.process.exitCode === null && server.process.signalCode === null) await server.kill();
    }
  });
}

/** Opens a page in a new browser context. */
export async function newPage({ expected, ...settings } = {}) {
  const context = await (await browser()).newContext({ locale: 'en-GB', ...settings });
  context.setDefaultTimeout(TEST_TIMEOUT);
  await context.addInitScript(() => {
    window.violations = [];
    addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
      window.violations.push(`${violatedDirective} ${blockedURI}`);
    });
  });
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    const text = message.text();
    if (message.type() === 'error' && !EXPECTED.test(text) && !expected?.test(text)) errors.push(text);
  });
  page.wrongs = async () => [...errors, ...(await page.evaluate(() => window.violations))];
  return page;
}

/** Waits until the page is connected. */
export const connected = (page) => page.locator('#app[data-connected]').waitFor();

/**
 * Reloads the page over a connection that the test can close. While `down`, no new one is made.
 */
export async function overALine(page) {
  let socket;
  const line = { down: false, close: () => socket.close() };
  await page.routeWebSocket(/.*/, (opened) => {
    if (line.down) return void opened.close();
    socket = opened;
    opened.connectToServer();
  });
  await page.reload();
  await connected(page);
  return line;
}

/** Types a message and sends it. */
export async function say(page, text) {
  await page.getByRole('textbox', { name: 'Message to Claude' }).fill(text);
  await page.keyboard.press('Enter');
}

/** Waits until a condition in the page is true. */
export const until = (page, condition, argument) => page.waitForFunction(condition, argument, { polling: 'raf' });
