// The web chat: where it comes from, whom it talks to, and what it does without a
// network.

import { after } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { connected, overALine, say, story, until } from './browser.js';
import { BINARY, Bridge } from './bridge.js';

const TOKEN = 'a-token-that-is-long-enough-to-be-one';
const own = (page) => page.locator('.message.own');
const ON_DISK = new URL('../../examples/basic/index.html', import.meta.url).href;

story('the server goes, and comes back with nothing lost', async ({ bridge, open, t }) => {
  const page = await open();
  await connected(page);
  await say(page, 'before');
  await bridge.heard();
  await bridge.reply('an answer');
  await own(page).locator('[data-state=answered]').waitFor();
  await bridge.kill();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'while it was away');
  await own(page).filter({ hasText: 'while it was away' }).locator('[data-state=waiting]').waitFor();
  await until(page, () => /Next attempt in \d+ s|Trying again/.test(document.getElementById('countdown').textContent));

  const again = await Bridge.start({ port: bridge.port });
  t.after(() => again.kill());
  await page.getByRole('button', { name: 'Now' }).click({ timeout: 2000 }).catch(() => {});
  assert.equal((await again.heard()).content, 'while it was away');
  await again.reply('another answer');
  await page.locator('.claude .body', { hasText: 'another answer' }).waitFor();
  await own(page).filter({ hasText: 'while it was away' }).locator('[data-state=answered]').waitFor();
  await page.locator('#banner').waitFor({ state: 'hidden' });
  // What is shown stays, in order.
  assert.deepEqual(await page.locator('.message:visible .body').allInnerTexts(), ['before', 'an answer', 'while it was away', 'another answer']);
});

story('the network goes, and comes back', async ({ bridge, open }) => {
  const page = await open();
  await connected(page);
  // Chromium leaves an open WebSocket open then, as some networks do.
  const line = await overALine(page);
  await page.context().setOffline(true);
  await line.close();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'into the void');
  const other = await open();
  await connected(other);
  await say(other, 'somebody else');
  await bridge.heard();
  await bridge.reply('missed');
  await page.context().setOffline(false);
  await page.locator('.claude .body', { hasText: 'missed' }).waitFor();
  await page.locator('.other .body', { hasText: 'somebody else' }).waitFor();
  assert.equal((await bridge.heard()).content, 'into the void');
  await own(page).locator('[data-state=accepted]').waitFor();
  assert.equal(await page.locator('.message:visible').count(), 3);
});

story('what was not sent yet survives a reload', async ({ bridge, open }) => {
  const page = await open();
  const line = await overALine(page);
  line.down = true;
  await line.close();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'first');
  await say(page, 'second');
  line.down = false;
  await page.reload();
  assert.equal((await bridge.heard()).content, 'first');
  assert.equal((await bridge.heard()).content, 'second');
  await own(page).locator('[data-state=accepted]').nth(1).waitFor();
  await page.reload();
  await connected(page);
  await own(page).nth(1).waitFor();
  assert.deepEqual(bridge.said.rest, []);
});

story('opened from disk, it finds the server', async ({ bridge, open }) => {
  const page = await open(`${ON_DISK}?session=s1&port=${bridge.port}&host=evil.example`, { expected: /from origin 'null'|ERR_FAILED/ });
  await page.waitForURL(`http://127.0.0.1:${bridge.port}/?session=s1`);
  await connected(page);
  await say(page, 'from disk');
  assert.equal((await bridge.heard()).meta.chat_id, 's1');
});

story('opened from disk without a server, it says what to start and goes on looking', async ({ bridge, open, t }) => {
  await bridge.kill();
  const page = await open(`${ON_DISK}?port=${bridge.port}`, { expected: /from origin 'null'|ERR_FAILED/ });
  await page.getByText(`No claude-socket answers at http://127.0.0.1:${bridge.port}/.`).waitFor();
  await page.getByText('claude-socket demo', { exact: true }).waitFor();
  // Something else there is not the server.
  const other = createServer((_, answer) => answer.end('something else'));
  const asked = once(other, 'request');
  other.listen(bridge.port, '127.0.0.1');
  await asked;
  other.closeAllConnections();
  await once(other.close(), 'close');
  assert.ok(page.url().startsWith('file:'));
  const again = await Bridge.start({ port: bridge.port });
  t.after(() => again.kill());
  await page.waitForURL(`http://127.0.0.1:${bridge.port}/`);
  await connected(page);
});

story('a token in the link is kept in the tab, and goes nowhere else', async ({ bridge, open }) => {
  const page = await open(`/?session=s1&host=evil.example&url=ws://evil.example/#token=${TOKEN}`);
  const asked = [];
  page.on('request', (request) => asked.push(request.url()));
  page.on('websocket', (socket) => asked.push(socket.url()));
  await connected(page);
  assert.ok(!page.url().includes(TOKEN) && !page.url().includes('#'), page.url());
  assert.deepEqual(await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage).join()]).then(([tab, browser]) => [tab.includes('a-token-that-is-long-enough-to-be-one'), browser.includes('a-token')]), [true, false]);
  await page.reload();
  await connected(page);
  await say(page, 'hello');
  assert.equal((await bridge.heard()).meta.user, 'operator');
  assert.equal(await page.getByLabel('Your name').inputValue(), 'operator');
  for (const url of asked) assert.equal(new URL(url).host, bridge.host, url);
  assert.ok(!asked.some((url) => url.includes(TOKEN)), 'a proxy could log it');
}, { env: { CLAUDE_SOCKET_TOKEN: TOKEN } });

story('who has no token is asked for one', async ({ bridge, open }) => {
  const expected = /status of 401/;
  const page = await open('/?session=s1', { expected });
  await page.getByRole('heading', { name: 'This server asks for a token' }).waitFor();
  assert.ok(!(await page.locator('#composer').isVisible()));
  await page.getByLabel('Token').fill('a-wrong-token-that-is-long-enough');
  await page.getByRole('button', { name: 'Connect' }).click();
  await page.getByText('is not valid').waitFor();
  await page.getByLabel('Token').fill(TOKEN);
  await page.keyboard.press('Enter');
  await connected(page);
  await say(page, 'let in');
  assert.equal((await bridge.heard()).content, 'let in');
  // A link as programs use it.
  await page.goto(`http://${bridge.host}/?session=s1&token=${TOKEN}`);
  await connected(page);
  assert.equal(new URL(page.url()).search, '?session=s1');
  // A link with another token, opened in the same tab.
  await page.evaluate(() => (location.hash = '#token=another-one-that-is-wrong'));
  await page.getByText('is not valid').waitFor();
  assert.ok(!page.url().includes('token'));
}, { env: { CLAUDE_SOCKET_TOKEN: TOKEN } });

/** Makes a token. */
async function token(state, ...args) {
  const env = { ...process.env, CLAUDE_SOCKET_STATE_DIR: state };
  return (await promisify(execFile)(BINARY, ['token', ...args], { env })).stdout.trim();
}

const state = await mkdtemp(join(tmpdir(), 'claude-socket-page-'));
after(() => rm(state, { recursive: true }));
const OPERATOR = await token(state, 'add', 'ann', '--role', 'operator');
const VIEWER = await token(state, 'add', 'vera', '--role', 'viewer');
const SENDER = await token(state, 'add', 'sam', '--role', 'sender', '--session', 's1');

story('each role sees what it may', async ({ bridge, open }) => {
  const expected = /status of 40[13]/;
  const operator = await open(`/?session=s1#token=${OPERATOR}`);
  const viewer = await open(`/?session=s1#token=${VIEWER}`);
  const sender = await open(`/?session=s1#token=${SENDER}`, { expected });
  for (const page of [operator, viewer, sender]) await connected(page);
  await viewer.getByText('You can read along, but not write').waitFor();
  assert.ok(await viewer.locator('#message').isDisabled());
  assert.ok(await viewer.getByRole('button', { name: 'Send' }).isDisabled());
  bridge.ask('abcde', 'Bash', 'make a file');
  await operator.locator('.permission').waitFor();
  await say(sender, 'hello');
  assert.equal((await bridge.heard()).meta.user, 'sam');
  await bridge.reply('For all of you.', 's1');
  for (const page of [operator, viewer, sender]) await page.locator('.claude .body', { hasText: 'For all of you.' }).waitFor();
  for (const page of [viewer, sender]) assert.equal(await page.locator('.permission').count(), 0);

  // Another session than its own.
  await sender.goto(`http://${bridge.host}/?session=s2`);
  await sender.getByText('the token may not be for the session s2').waitFor();
  // Without a session in the address it is in its own.
  await sender.goto(`http://${bridge.host}/`);
  await sender.waitForURL(/session=s1$/);
  await connected(sender);
  // A token that is taken back.
  await token(state, 'remove', 'sam');
  await sender.getByText('is not valid, or not any more').waitFor();
}, { env: { CLAUDE_SOCKET_STATE_DIR: state } });

story('the page keeps to its policy', async ({ bridge, open }) => {
  const page = await open('/somewhere/else?session=s1', { expected: /Content Security Policy/ });
  await page.waitForURL(`http://${bridge.host}/?session=s1`);
  await connected(page);
  assert.deepEqual(await page.wrongs(), []);
  const [header, stolen] = await page.evaluate(async () => {
    const answer = await fetch('./', { headers: { Accept: 'text/html' } });
    const script = document.createElement('script');
    script.textContent = 'window.stolen = 1';
    document.body.append(script);
    await fetch('http://127.0.0.1:1/').catch(() => {});
    return [answer.headers.get('content-security-policy'), window.stolen];
  });
  assert.match(header, /default-src 'none'; script-src 'self'; style-src 'self'/);
  assert.equal(stolen, undefined);
  await until(page, () => window.violations.length === 2);
  const violations = await page.evaluate(() => window.violations.splice(0));
  assert.match(violations.sort().join(), /^connect-src http:\/\/127\.0\.0\.1:1\/,script-src-elem inline$/);
});
