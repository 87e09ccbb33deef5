// A real Chromium. Each test gets a page of its own, which must not break its own rules:
// what violates the page's policy, or is an error in its console, fails the test.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

import { Bridge, PATIENCE } from './bridge.js';

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
/** What the console says when a server isn't there, or refuses: part of some tests. */
const EXPECTED = /ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_RESET|ERR_SOCKET_NOT_CONNECTED|WebSocket connection to/;

const browsers = [];
/** Starts a browser, with more flags if need be. */
export function launch(...more) {
  const browser = chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...more] });
  browsers.push(browser);
  return browser;
}

let launched;
const browser = () => (launched ??= launch());
/** Ends the browsers. */
export const close = () => Promise.all(browsers.map(async (browser) => (await browser).close()));
after(close);

/**
 * A test with a server and a browser. `open` opens the page in a browser of its own.
 * @param {string} name
 * @param {(it: {bridge: Bridge, open: Function}) => Promise<void>} run
 * @param {object} [options] how the server is started
 */
export function story(name, run, options = {}) {
  test(name, async (t) => {
    const bridge = await Bridge.start(options);
    const opened = [];
    const open = async (where = '/', settings = {}) => {
      const page = await newPage(settings);
      opened.push(page);
      await page.goto(where.startsWith('/') ? `http://${bridge.host}${where}` : where);
      return page;
    };
    try {
      await run({ bridge, open, t });
      for (const page of opened) assert.deepEqual(await page.wrongs(), []);
    } finally {
      await Promise.all(opened.map((page) => page.context().close()));
      if (bridge.process.exitCode === null && bridge.process.signalCode === null) await bridge.kill();
    }
  });
}

/** A page in a context of its own. */
export async function newPage({ expected, ...settings } = {}) {
  const context = await (await browser()).newContext({ locale: 'en-GB', ...settings });
  context.setDefaultTimeout(PATIENCE);
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
 * Loads the page anew, over a connection that a test can close. While `down`, there is no other.
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

/** Writes something in the text box and sends it. */
export async function say(page, text) {
  await page.getByRole('textbox', { name: 'Message to Claude' }).fill(text);
  await page.keyboard.press('Enter');
}

/** Waits until a condition holds in the page. */
export const until = (page, condition, argument) => page.waitForFunction(condition, argument, { polling: 'raf' });
