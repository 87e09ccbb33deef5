// What the store keeps, as the client library and the web chat show it: over an end of Claude Code, a kill and a restart.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { WebSocket } from 'ws';

import { ClaudeSocket } from '../../client/claude-socket.js';
import { connected, say, story, until } from './browser.js';
import { Server, soon } from './server.js';

const own = (page, text) => page.locator('.message.own', { hasText: text });
const lines = (page) => page.locator('#log .body, #log .note').allInnerTexts();

/** Returns a port that is free now. What is stored belongs to the port that the server is given. */
async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

/** Starts another server with what this one has stored. */
async function again(t, { port, state }, options = {}) {
  const server = await Server.start({ port, state, ...options });
  t.after(() => server.process.exitCode === null && server.process.signalCode === null && server.kill());
  return server;
}

/** Connects a client that a test closes. */
async function join(t, server, options = {}) {
  const socket = new ClaudeSocket(server.url, { WebSocket, session: 's1', user: 'ann', reconnectDelay: 20, maxReconnectDelay: 50, ...options });
  t.after(() => socket.close());
  const welcome = new Promise((resolve) => socket.once('welcome', resolve));
  socket.connect();
  await soon(welcome, 'welcome');
  return socket;
}

test('what was said is there after a kill, and its numbers go on', async (t) => {
  const first = await again(t, { port: await freePort() });
  const socket = await join(t, first);
  const sent = socket.send('Is the window open?');
  await first.nextMessage();
  await first.reply('It is.', 's1');
  await soon(sent.answered, 'answered');
  const { messages: before } = await soon(socket.fetchHistory(), 'history');
  socket.close();
  await first.kill();

  const second = await again(t, first);
  const later = await join(t, second);
  assert.deepEqual((await soon(later.fetchHistory(), 'history')).messages, before);
  assert.equal(before[0].state, 'answered');
  // The same id is one message.
  const twice = later.send(sent.content, sent);
  const { state, message_id } = await soon(twice.answered, 'answered');
  assert.deepEqual([state, message_id], ['answered', before[0].message_id]);
  await soon(later.send('And the door?').accepted, 'accepted');
  assert.equal((await second.nextMessage()).content, 'And the door?');
  const { messages: after } = await soon(later.fetchHistory(10, { since: before.at(-1).seq }), 'history');
  assert.deepEqual(after.map(({ content }) => content), ['And the door?']);
  assert.deepEqual((await soon(later.fetchHistory(10, { before: after[0].seq }), 'history')).messages, before);
  const found = await soon(later.search('window op'), 'what was found');
  assert.deepEqual(found.map(({ session_id, content }) => [session_id, content]), [['s1', 'Is the window open?']]);
  assert.deepEqual(await soon(later.search('window', { session: 'other' }), 'what was found'), []);
});

test('a message that waits is given to the next Claude Code, once', async (t) => {
  const first = await again(t, { port: await freePort() }, { ready: false });
  const socket = await join(t, first);
  const one = socket.send('one');
  assert.equal((await soon(one.queued, 'queued')).state, 'queued');
  await first.kill();
  const two = socket.send('two');
  const second = await again(t, first);
  assert.deepEqual([(await second.nextMessage()).content, (await second.nextMessage()).content], ['one', 'two']);
  await soon(Promise.all([one.accepted, two.accepted]), 'accepted');
  await second.reply('Both.', 's1');
  await soon(one.answered, 'answered');
  const channel = second.notifications.rest.filter(({ method }) => method === 'notifications/claude/channel');
  assert.deepEqual(channel, []);
});

test('verdicts are there after a restart', async (t) => {
  const first = await again(t, { port: await freePort() });
  const socket = await join(t, first);
  const asked = new Promise((resolve) => socket.once('permission_request', resolve));
  first.ask('abcde', 'Bash', 'open the window');
  await soon(asked, 'the request');
  socket.respondToPermission('abcde', true);
  await first.verdict('abcde');
  const { verdicts: before } = await soon(socket.fetchVerdicts(), 'verdicts');
  assert.equal(before.length, 1);
  await first.stop();
  const second = await again(t, first);
  const later = await join(t, second);
  assert.deepEqual((await soon(later.fetchVerdicts(), 'verdicts')).verdicts, before);
});

story('the page opens with what was said before the end of Claude Code', async ({ open, t }) => {
  const first = await again(t, { port: await freePort() });
  const page = await open(`http://${first.host}/`);
  await connected(page);
  await say(page, 'Is the window open?');
  await first.nextMessage();
  first.ask('abcde', 'Bash', 'look at the window');
  await page.locator('[aria-label="Allow Bash"][aria-disabled=false]').click();
  await first.verdict('abcde');
  await page.getByText('You allowed Bash').waitFor();
  await first.reply('It is.');
  await own(page, 'Is the window open?').locator('[data-state=answered]').waitFor();
  await first.stop();

  const second = await again(t, first, { ready: false });
  await connected(page);
  await say(page, 'Then close it.');
  await own(page, 'Then close it.').locator('[data-state=queued]').waitFor();
  const expected = ['Is the window open?', 'user allowed Bash: look at the window.', 'It is.', 'Then close it.'];
  for (const show of [() => page.reload(), () => page.goto('about:blank').then(() => page.goto(`http://${second.host}/`))]) {
    await show();
    await own(page, 'Then close it.').locator('[data-state=queued]').waitFor();
    await page.getByText('user allowed Bash').waitFor();
    assert.deepEqual(await lines(page), expected);
    await own(page, 'Is the window open?').locator('[data-state=answered]').waitFor();
  }
  second.ready();
  assert.equal((await second.nextMessage()).content, 'Then close it.');
  await second.reply('Closed.');
  await own(page, 'Then close it.').locator('[data-state=answered]').waitFor();
  assert.deepEqual(await lines(page), [...expected, 'Closed.']);
});

story('the page finds what was said in another session before a restart', async ({ open, t }) => {
  const first = await again(t, { port: await freePort() });
  const shed = await open(`http://${first.host}/?session=shed`);
  await connected(shed);
  await say(shed, 'Where is the watering can?');
  await first.nextMessage();
  for (let number = 1; number <= 130; number += 1) await first.reply(`line ${number}`, 'shed');
  await shed.getByText('line 130').waitFor();
  await first.stop();
  const second = await again(t, first);
  const page = await open(`http://${second.host}/`);
  await connected(page);
  await page.keyboard.press('Control+k');
  await page.getByRole('textbox', { name: 'Words to find' }).fill('watering');
  await page.locator('#search-results button').click();
  await page.waitForURL((url) => url.searchParams.get('session') === 'shed');
  await until(page, () => document.activeElement.textContent.includes('watering can'));
  assert.match(await page.evaluate(() => document.activeElement.className), /message/);
});
