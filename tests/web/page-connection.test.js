// The web chat: its connection, its tokens, and the page from disk.

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
import { BINARY, NO_STORE, Server } from './server.js';

const TOKEN = 'a-token-that-is-long-enough-to-be-one';
const own = (page) => page.locator('.message.own');
const ON_DISK = new URL('../../examples/basic/index.html', import.meta.url).href;

story('nothing is lost when the server is killed and restarted', async ({ server, open, t }) => {
  const page = await open();
  await connected(page);
  await say(page, 'before');
  await server.nextMessage();
  await server.reply('an answer');
  await own(page).locator('[data-state=answered]').waitFor();
  await server.kill();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'while it was away');
  await own(page).filter({ hasText: 'while it was away' }).locator('[data-state=waiting]').waitFor();
  await until(page, () => /Next attempt in \d+ s|Trying again/.test(document.getElementById('countdown').textContent));

  const again = await Server.start({ port: server.port });
  t.after(() => again.kill());
  await page.getByRole('button', { name: 'Now' }).click({ timeout: 2000 }).catch(() => {});
  assert.equal((await again.nextMessage()).content, 'while it was away');
  await again.reply('another answer');
  await page.locator('.claude .body', { hasText: 'another answer' }).waitFor();
  await own(page).filter({ hasText: 'while it was away' }).locator('[data-state=answered]').waitFor();
  await page.locator('#banner').waitFor({ state: 'hidden' });
  // The messages stay, in order.
  assert.deepEqual(await page.locator('.message:visible .body').allInnerTexts(), ['before', 'an answer', 'while it was away', 'another answer']);
});

story('nothing is lost when the network fails', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  // Chromium leaves an open WebSocket open, as some networks do.
  const line = await overALine(page);
  await page.context().setOffline(true);
  await line.close();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'into the void');
  const other = await open();
  await connected(other);
  await say(other, 'somebody else');
  await server.nextMessage();
  await server.reply('missed');
  await page.context().setOffline(false);
  await page.locator('.claude .body', { hasText: 'missed' }).waitFor();
  await page.locator('.other .body', { hasText: 'somebody else' }).waitFor();
  assert.equal((await server.nextMessage()).content, 'into the void');
  await own(page).locator('[data-state=accepted]').waitFor();
  assert.equal(await page.locator('.message:visible').count(), 3);
});

story('what the server has not kept is marked as missing', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  // Somebody has the answers, so they are not kept for this page.
  const other = await open();
  await connected(other);
  const line = await overALine(page);
  line.down = true;
  await line.close();
  await page.getByText('The connection is lost').waitFor();
  for (let number = 1; number <= 3; number++) await server.reply(`answer ${number}`);
  line.down = false;
  await page.locator('.claude .body', { hasText: 'answer 3' }).waitFor();
  const shown = await page.locator('#log > *:visible').allInnerTexts();
  const gap = shown.findIndex((text) => text.startsWith('Some messages are missing here'));
  assert.ok(gap >= 0, shown.join('\n'));
  assert.match(shown[gap + 1], /answer 2/);
  assert.doesNotMatch(shown.join('\n'), /answer 1/);
}, { flags: ['--history-messages', '2'], env: NO_STORE });

story('what is missing in the history is marked where it is', async ({ server, open }) => {
  const page = await open('/?session=s1');
  await connected(page);
  await page.goto('about:blank');
  // Nobody receives it, so it stays. What other sessions' clients say makes it lonely.
  await server.reply('the answer', 's1');
  const other = await open('/?session=s2');
  await other.evaluate(() => {
    const socket = new WebSocket(`ws://${location.host}/?session=s2`);
    const messages = ['one', 'two', 'three', 'four'].map((content) => ({ type: 'message', session_id: 's1', content }));
    socket.onopen = () => messages.forEach((message) => socket.send(JSON.stringify(message)));
  });
  for (let number = 0; number < 4; number++) await server.nextMessage();
  await page.goto(`http://${server.host}/?session=s1`);
  await page.locator('.message .body', { hasText: 'four' }).waitFor();
  const shown = await page.locator('#log .body, #log .note').allInnerTexts();
  assert.deepEqual(shown, ['the answer', 'Some messages are missing here: the server does not keep them any more.', 'three', 'four']);
}, { flags: ['--history-messages', '3'], env: NO_STORE });

story('a message that Claude Code took before its end is maybe lost, and its prompt is not decided', async ({ server, open, t }) => {
  const page = await open();
  await connected(page);
  await say(page, 'are you there?');
  await own(page).locator('[data-state=accepted]').waitFor();
  server.ask('abcde');
  await page.locator('.permission').waitFor();
  await server.stop();
  await page.getByText('(Claude Code ended before it was decided)').waitFor();
  const again = await Server.start({ port: server.port });
  t.after(() => again.kill());
  await connected(page);
  await again.reply('to somebody else');
  await page.locator('.claude .body', { hasText: 'to somebody else' }).waitFor();
  await own(page).locator('[data-state=lost]').waitFor();
  await own(page).getByText('whether it has seen this message is unknown').waitFor();
});

story('a message that Claude has seen before its end stays seen', async ({ server, open, t }) => {
  const page = await open();
  await connected(page);
  await say(page, 'are you there?');
  await server.take(await server.nextMessage());
  await own(page).locator('[data-state=seen]').waitFor();
  await server.stop();
  const again = await Server.start({ port: server.port });
  t.after(() => again.kill());
  await connected(page);
  await again.reply('to somebody else');
  await page.locator('.claude .body', { hasText: 'to somebody else' }).waitFor();
  await own(page).locator('[data-state=seen]').waitFor();
}, { env: { CLAUDE_PLUGIN_ROOT: '/plugin' } });

story('an unsent message survives a reload', async ({ server, open }) => {
  const page = await open();
  const line = await overALine(page);
  line.down = true;
  await line.close();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'first');
  await say(page, 'second');
  line.down = false;
  await page.reload();
  assert.equal((await server.nextMessage()).content, 'first');
  assert.equal((await server.nextMessage()).content, 'second');
  await own(page).locator('[data-state=accepted]').nth(1).waitFor();
  await page.reload();
  await connected(page);
  await own(page).nth(1).waitFor();
  assert.deepEqual(server.notifications.rest, []);
});

story('the page from disk finds the server', async ({ server, open }) => {
  const page = await open(`${ON_DISK}?session=s1&port=${server.port}&host=evil.example`, { expected: /from origin 'null'|ERR_FAILED/ });
  await page.waitForURL(`http://127.0.0.1:${server.port}/?session=s1`);
  await connected(page);
  await say(page, 'from disk');
  assert.equal((await server.nextMessage()).meta.chat_id, 's1');
});

story('the page from disk says what to start, and waits for the server', async ({ server, open, t }) => {
  await server.kill();
  const page = await open(`${ON_DISK}?port=${server.port}`, { expected: /from origin 'null'|ERR_FAILED/ });
  await page.getByText(`No claude-socket answers at http://127.0.0.1:${server.port}/.`).waitFor();
  await page.getByText('claude-socket demo', { exact: true }).waitFor();
  // Another server on the port is not ours.
  const other = createServer((_, answer) => answer.end('something else'));
  const asked = once(other, 'request');
  other.listen(server.port, '127.0.0.1');
  await asked;
  other.closeAllConnections();
  await once(other.close(), 'close');
  assert.ok(page.url().startsWith('file:'));
  const again = await Server.start({ port: server.port });
  t.after(() => again.kill());
  await page.waitForURL(`http://127.0.0.1:${server.port}/`);
  await connected(page);
});

story('a token in the link is kept in the tab, and is sent nowhere else', async ({ server, open }) => {
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
  assert.equal((await server.nextMessage()).meta.user, 'operator');
  assert.equal(await page.getByLabel('Your name').inputValue(), 'operator');
  for (const url of asked) assert.equal(new URL(url).host, server.host, url);
  assert.ok(!asked.some((url) => url.includes(TOKEN)), 'a proxy could log it');
}, { env: { CLAUDE_SOCKET_TOKEN: TOKEN } });

story('the page asks for a token', async ({ server, open }) => {
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
  assert.equal((await server.nextMessage()).content, 'let in');
  // A link with the token in its query, as programs use it.
  await page.goto(`http://${server.host}/?session=s1&token=${TOKEN}`);
  await connected(page);
  assert.equal(new URL(page.url()).search, '?session=s1');
  // A link with another token in the same tab.
  await page.evaluate(() => (location.hash = '#token=another-one-that-is-wrong'));
  await page.getByText('is not valid').waitFor();
  assert.ok(!page.url().includes('token'));
}, { env: { CLAUDE_SOCKET_TOKEN: TOKEN } });

/** Adds a token, and returns it. */
async function token(state, ...args) {
  const env = { ...process.env, CLAUDE_SOCKET_STATE_DIR: state };
  return (await promisify(execFile)(BINARY, ['token', ...args], { env })).stdout.trim();
}

const state = await mkdtemp(join(tmpdir(), 'claude-socket-page-'));
after(() => rm(state, { recursive: true }));
const OPERATOR = await token(state, 'add', 'ann', '--role', 'operator');
const VIEWER = await token(state, 'add', 'vera', '--role', 'viewer');
const SENDER = await token(state, 'add', 'sam', '--role', 'sender', '--session', 's1');

story('each role sees only what it may', async ({ server, open }) => {
  const expected = /status of 40[13]/;
  const operator = await open(`/?session=s1#token=${OPERATOR}`);
  const viewer = await open(`/?session=s1#token=${VIEWER}`);
  const sender = await open(`/?session=s1#token=${SENDER}`, { expected });
  for (const page of [operator, viewer, sender]) await connected(page);
  await viewer.getByText('You can read along, but not write').waitFor();
  assert.ok(await viewer.locator('#message').isDisabled());
  assert.ok(await viewer.getByRole('button', { name: 'Send' }).isDisabled());
  server.ask('abcde', 'Bash', 'make a file');
  await operator.locator('.permission').waitFor();
  await say(sender, 'hello');
  assert.equal((await server.nextMessage()).meta.user, 'sam');
  await server.reply('For all of you.', 's1');
  for (const page of [operator, viewer, sender]) await page.locator('.claude .body', { hasText: 'For all of you.' }).waitFor();
  for (const page of [viewer, sender]) assert.equal(await page.locator('.permission').count(), 0);

  // A session that the token is not for.
  await sender.goto(`http://${server.host}/?session=s2`);
  await sender.getByText('The server refuses: this token is for sessions "s1" and not for "s2"').waitFor();
  await sender.getByRole('button', { name: 'Try again' }).waitFor();
  // Without a session in the address, the token's session opens.
  await sender.goto(`http://${server.host}/`);
  await sender.waitForURL(/session=s1$/);
  await connected(sender);
  // The token is removed.
  await token(state, 'remove', 'sam');
  await sender.getByText('is not valid, or not any more').waitFor();
}, { env: { CLAUDE_SOCKET_STATE_DIR: state } });

story('the page has a strict policy', async ({ server, open }) => {
  const page = await open('/somewhere/else?session=s1', { expected: /Content Security Policy/ });
  await page.waitForURL(`http://${server.host}/?session=s1`);
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
