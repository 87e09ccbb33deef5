// The client library against the real server.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';

import { WebSocket } from 'ws';

import DefaultExport, { ClaudeSocket, DeliveryError, LostError } from '../../client/claude-socket.js';
import { Server, Inbox, run, soon } from './server.js';
import { Wire } from './wire.js';

const EVENTS = [
  'connected', 'disconnected', 'reply', 'status', 'history', 'sessions', 'user_message', 'permission_request',
  'permission_resolved', 'delivery', 'stream', 'welcome', 'pong', 'error',
];

/** Starts a server that ends with the test. */
async function startServer(t, options) {
  const server = await Server.start(options);
  t.after(() => server.kill());
  return server;
}

/** Puts a wire in front of a server. */
async function wire(t, { port }) {
  const wire = await Wire.to(port);
  t.after(() => wire.close());
  return wire;
}

/** Creates a client that ends with the test, with an inbox of its events as `{event, message}`. */
function client(t, url, options) {
  const socket = new ClaudeSocket(url, { WebSocket, reconnectDelay: 10, ...options });
  const inbox = new Inbox();
  for (const event of EVENTS) socket.on(event, (message) => inbox.push({ event, message }));
  t.after(() => socket.disconnect());
  const next = async (event, wanted = () => true) =>
    (await inbox.next((item) => item.event === event && wanted(item.message), event)).message;
  return { socket, next, inbox };
}

/** Creates a client, and waits for its welcome. */
async function connected(t, url, options) {
  const one = client(t, url, options);
  one.socket.connect();
  await one.next('welcome');
  return one;
}

/** Returns the contents of messages. */
const contents = (messages) => messages.map(({ content }) => content);

/** Waits for the next `count` replies and messages of others. */
async function nextMessages({ inbox }, count) {
  const wanted = ({ event }) => event === 'reply' || event === 'user_message';
  const messages = [];
  while (messages.length < count) messages.push((await inbox.next(wanted, 'a message')).message);
  return messages;
}

test('a message that is sent while connecting is delivered', async (t) => {
  const server = await startServer(t);
  const { socket, next } = client(t, server.url, { session: 's1', user: 'ann' });
  socket.connect();
  assert.deepEqual([socket.connecting, socket.connected], [true, false]);
  const message = socket.send('Hello');
  const { content, meta } = await server.nextMessage();
  assert.deepEqual(
    { content, chat_id: meta.chat_id, user: meta.user, ts: meta.ts },
    { content: 'Hello', chat_id: 's1', user: 'ann', ts: message.ts },
  );
  const accepted = await soon(message.accepted, 'accepted');
  assert.deepEqual([accepted.id, accepted.state, accepted.message_id], [message.id, 'accepted', meta.message_id]);
  assert.deepEqual([socket.connecting, socket.connected], [false, true]);
  await server.reply('Hi Ann', 's1');
  assert.equal((await next('reply')).content, 'Hi Ann');
  assert.equal((await soon(message.answered, 'answered')).state, 'answered');
  assert.ok(await soon(message.seen, 'seen'));
});

test('the API of the first version works', async (t) => {
  assert.equal(DefaultExport, ClaudeSocket);
  const server = await startServer(t);
  const socket = new DefaultExport(`${server.url}/`, { WebSocket });
  t.after(() => socket.disconnect());
  const inbox = new Inbox();
  const end = socket.on('message', (message) => inbox.push(message));
  const came = (type) => inbox.next((message) => message.type === type, type);
  const isConnected = new Promise((resolve) => socket.on('connected', resolve));
  socket.connect();
  socket.connect();
  await soon(isConnected, 'connected');
  socket.send('one');
  assert.deepEqual((await server.nextMessage()).meta.user, 'user');
  await server.status('tool_use', 'Bash: ls');
  assert.equal((await came('status')).detail, 'Bash: ls');
  await server.reply('two');
  assert.equal((await came('reply')).session_id, 'default');
  socket.fetchHistory();
  assert.deepEqual(contents((await came('history')).messages), ['one', 'two']);
  socket.fetchHistory(1);
  assert.deepEqual(contents((await came('history')).messages), ['two']);
  server.ask('abcde', 'Bash', 'list files', { command: 'ls' });
  const request = await came('permission_request');
  assert.deepEqual([request.request_id, request.tool_name], ['abcde', 'Bash']);
  socket.respondToPermission('abcde', true);
  assert.equal(await server.verdict('abcde'), 'allow');
  socket.respondToPermission('abcde', true);
  assert.equal((await came('error')).code, 'unknown_request');
  end();
  const isDisconnected = new Promise((resolve) => socket.on('disconnected', resolve));
  socket.disconnect();
  await soon(isDisconnected, 'disconnected');
  assert.deepEqual([socket.connected, socket.connecting], [false, false]);
});

test('every message is emitted under its type, and as message', async (t) => {
  const server = await startServer(t);
  const ann = await connected(t, server.url, { user: 'ann' });
  const all = [];
  ann.socket.on('message', ({ type }) => all.push(type));
  const bob = await connected(t, server.url, { user: 'bob' });
  bob.socket.send('hello, Ann');
  assert.equal((await ann.next('user_message')).user, 'bob');
  assert.equal((await bob.next('delivery')).state, 'accepted');
  server.ask('abcde');
  await ann.next('permission_request');
  bob.socket.respondToPermission('abcde', false);
  const resolved = await ann.next('permission_resolved');
  assert.deepEqual([resolved.request_id, resolved.allowed, resolved.by], ['abcde', false, 'bob']);
  assert.equal(await server.verdict('abcde'), 'deny');
  await server.status('thinking');
  await ann.next('status');
  await server.reply('hello');
  await ann.next('reply');
  ann.socket.send('');
  assert.equal((await ann.next('error')).code, 'invalid_message');
  await ann.next('delivery', ({ state }) => state === 'rejected');
  assert.deepEqual(all, [
    'user_message', 'permission_request', 'permission_resolved', 'status', 'reply', 'error', 'delivery',
  ]);
});

test('once and off end a listener, and one that throws does not disturb others', async (t) => {
  const server = await startServer(t);
  const { socket, next } = await connected(t, server.url);
  const calls = [];
  t.mock.method(console, 'error', () => calls.push('error'));
  socket.on('reply', () => {
    throw new Error('on purpose');
  });
  socket.once('reply', ({ content }) => calls.push(`once ${content}`));
  socket.once('reply', () => calls.push('never'))();
  const listener = ({ content }) => calls.push(`on ${content}`);
  socket.on('reply', listener);
  await server.reply('1');
  await next('reply');
  await server.reply('2');
  await next('reply');
  socket.off('reply', listener);
  await server.reply('3');
  await next('reply');
  assert.deepEqual(calls, ['error', 'once 1', 'on 1', 'error', 'on 2', 'error']);
});

test('a message whose receipt was lost is sent again, and reaches Claude once', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const { socket, inbox, next } = await connected(t, line.url);
  line.deaf = true;
  const first = socket.send('first');
  assert.equal((await server.nextMessage()).content, 'first');
  line.cut();
  await next('disconnected');
  const second = socket.send('second');
  line.deaf = false;
  await soon(first.accepted, 'accepted');
  await soon(second.accepted, 'accepted');
  assert.equal((await server.nextMessage()).content, 'second');
  // It was in the gap, and is this client's own.
  assert.deepEqual(inbox.rest.filter(({ event }) => event === 'user_message'), []);
});

test('an own message is not emitted after a reconnect', async (t) => {
  const server = await startServer(t, { ready: false });
  const line = await wire(t, server);
  const { socket, next, inbox } = await connected(t, line.url, { user: 'ann' });
  const message = socket.send('once');
  // The server has it, and Claude Code does not.
  await socket.fetchHistory();
  line.cut();
  await next('disconnected');
  await next('welcome');
  server.ready();
  await soon(message.accepted, 'accepted');
  socket.send('twice');
  assert.deepEqual([(await server.nextMessage()).content, (await server.nextMessage()).content], ['once', 'twice']);
  assert.deepEqual(inbox.rest.filter(({ event }) => event === 'user_message'), []);
});

test('the client reconnects to a server that was killed and restarted', async (t) => {
  const first = await startServer(t);
  const { socket, next } = await connected(t, first.url);
  await first.reply('before');
  await next('reply');
  await first.kill();
  assert.ok((await next('disconnected')).retryIn <= 10);
  const messages = ['one', 'two', 'three'].map((content) => socket.send(content));
  const second = await startServer(t, { port: first.port });
  for (const content of ['one', 'two', 'three']) assert.equal((await second.nextMessage()).content, content);
  await soon(Promise.all(messages.map((message) => message.accepted)), 'accepted');
  for (const content of ['first', 'second', 'third']) {
    await second.reply(content);
    assert.equal((await next('reply')).content, content);
  }
  await soon(Promise.all(messages.map((message) => message.answered)), 'answered');
});

test('a message that a killed server had is lost, and no reply of the next one answers it', async (t) => {
  const first = await startServer(t);
  const { socket, next } = await connected(t, first.url);
  const message = socket.send('hello');
  await soon(message.accepted, 'accepted');
  await first.kill();
  const second = await startServer(t, { port: first.port });
  await next('welcome');
  await second.reply('hi');
  await next('reply');
  await assert.rejects(soon(message.answered, 'lost'), LostError);
});

test('missed messages are emitted once and in order', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const ann = await connected(t, line.url, { user: 'ann' });
  const bob = await connected(t, server.url, { user: 'bob' });
  const message = ann.socket.send('0');
  await soon(message.accepted, 'accepted');
  await server.reply('1');
  await ann.next('reply');
  line.down = true;
  line.cut();
  await ann.next('disconnected');
  await server.reply('2');
  await soon(bob.socket.send('3').accepted, 'accepted');
  await server.reply('4');
  line.down = false;
  const missed = await nextMessages(ann, 3);
  assert.deepEqual(contents(missed), ['2', '3', '4']);
  assert.deepEqual(missed.map(({ type, user }) => [type, user]), [
    ['reply', undefined], ['user_message', 'bob'], ['reply', undefined],
  ]);
  await server.reply('5');
  assert.deepEqual(contents(await nextMessages(ann, 1)), ['5']);
  assert.deepEqual(ann.inbox.rest.filter(({ event }) => event === 'history'), []);
});

test('a gap longer than one page of history is filled', async (t) => {
  const server = await startServer(t, { flags: ['--history-messages', '1000'] });
  const line = await wire(t, server);
  const ann = await connected(t, line.url);
  line.down = true;
  line.cut();
  await ann.next('disconnected');
  const expected = Array.from({ length: 250 }, (_, number) => String(number));
  for (const content of expected) await server.reply(content);
  line.down = false;
  assert.deepEqual(contents(await nextMessages(ann, 250)), expected);
});

test('a message is answered by a reply that was missed', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const { socket, next } = await connected(t, line.url);
  const message = socket.send('hello');
  await soon(message.accepted, 'accepted');
  line.down = true;
  line.cut();
  await next('disconnected');
  await server.reply('hi');
  line.down = false;
  assert.equal((await next('reply')).content, 'hi');
  assert.equal((await soon(message.answered, 'answered')).id, message.id);
});

test('messages of a session that began anew are emitted', async (t) => {
  const server = await startServer(t, { flags: ['--session-ttl', '1ms'] });
  const line = await wire(t, server);
  const ann = await connected(t, line.url);
  await server.reply('old');
  await ann.next('reply');
  line.down = true;
  line.cut();
  await ann.next('disconnected');
  const sessions = async () => (await (await fetch(`http://${server.host}/healthz`)).json()).sessions;
  while (await sessions()) await new Promise(setImmediate);
  await connected(t, server.url);
  await server.reply('new');
  line.down = false;
  assert.deepEqual(contents(await nextMessages(ann, 1)), ['new']);
});

test('half of a character becomes U+FFFD, and the message is accepted', async (t) => {
  const server = await startServer(t);
  const { socket } = await connected(t, server.url, { session: 's\ud83d', user: 'ann\ud83d' });
  const { next } = await connected(t, server.url, { session: 's\ufffd' });
  const message = socket.send('👋👋'.slice(0, 3), { id: 'm\ude00' });
  assert.deepEqual([message.content, message.user, message.id], ['👋\ufffd', 'ann\ufffd', 'm\ufffd']);
  assert.equal((await soon(message.accepted, 'accepted')).id, 'm\ufffd');
  assert.equal((await next('user_message')).content, '👋\ufffd');
});

test('a message beyond the queue limit is rejected', async (t) => {
  const { socket, next } = client(t, 'ws://127.0.0.1:9', { queueLimit: 2 });
  const messages = ['1', '2', '3'].map((content) => socket.send(content));
  const error = await next('error');
  assert.equal(error.code, 'queue_full');
  await assert.rejects(soon(messages[2].accepted, 'rejected'), (error) => {
    assert.ok(error instanceof DeliveryError);
    assert.equal(error.code, 'queue_full');
    return true;
  });
});

test('a message that is too large is rejected and not sent', async (t) => {
  const server = await startServer(t, { flags: ['--max-message', '1KB'] });
  const { socket, next } = client(t, server.url);
  socket.connect();
  const large = socket.send('ü'.repeat(500));
  await assert.rejects(soon(large.answered, 'rejected'), { code: 'too_large' });
  assert.equal((await next('error')).code, 'too_large');
  socket.send('small');
  assert.equal((await server.nextMessage()).content, 'small');
});

test('a message that the server rejects has its code and sentence', async (t) => {
  const server = await startServer(t);
  const { socket } = await connected(t, server.url);
  await assert.rejects(soon(socket.send('').accepted, 'rejected'), {
    code: 'invalid_message',
    message: /"content" must not be empty/,
  });
});

test('a message of an earlier client is delivered once under its id', async (t) => {
  const server = await startServer(t);
  const first = await connected(t, server.url, { user: 'ann' });
  const { id, ts, user, content, accepted } = first.socket.send('hello');
  const { message_id } = await soon(accepted, 'accepted');
  const second = await connected(t, server.url);
  const again = second.socket.send(content, { id, ts, user });
  assert.equal((await soon(again.accepted, 'accepted')).message_id, message_id);
  second.socket.send('once');
  assert.deepEqual([(await server.nextMessage()).content, (await server.nextMessage()).content], ['hello', 'once']);
});

test('verdicts and requests wait for the connection', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const { socket, next } = await connected(t, line.url);
  server.ask('abcde');
  await next('permission_request');
  await server.reply('hello');
  await next('reply');
  line.cut();
  await next('disconnected');
  socket.respondToPermission('abcde', true);
  const history = socket.fetchHistory();
  const list = socket.fetchSessions();
  assert.equal(await server.verdict('abcde'), 'allow');
  assert.deepEqual(contents((await soon(history, 'history')).messages), ['hello']);
  const { sessions, total } = await soon(list, 'sessions');
  assert.deepEqual([sessions[0].last.content, total], ['hello', 1]);
  assert.deepEqual(contents((await soon(socket.fetchHistory(5, { since: 1 }), 'history')).messages), []);
});

test('a connection without a sign of life is lost', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const { socket, next } = await connected(t, line.url, { heartbeat: 20 });
  await next('pong');
  line.deaf = true;
  const { code, reason } = await next('disconnected');
  assert.deepEqual([code, reason], [1006, 'the server gives no sign of life']);
  line.deaf = false;
  await next('welcome');
  assert.equal(socket.connected, true);
});

test('disconnect does not reconnect, and connect sends what waits', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const { socket, next } = await connected(t, line.url, { reconnect: false });
  socket.disconnect();
  assert.deepEqual(await next('disconnected'), { code: 1000, reason: '', retryIn: null });
  socket.send('meanwhile');
  socket.disconnect();
  socket.connect();
  await next('welcome');
  assert.equal((await server.nextMessage()).content, 'meanwhile');
  line.cut();
  assert.equal((await next('disconnected')).retryIn, null);
});

test('the wait between attempts doubles up to a limit, with full jitter', async (t) => {
  // A port that is free again.
  const closed = createServer().listen(0, '127.0.0.1');
  await once(closed, 'listening');
  const { port } = closed.address();
  closed.close();
  const random = t.mock.method(Math, 'random', () => 0.5);
  const { socket, next } = client(t, `ws://127.0.0.1:${port}`, { reconnectDelay: 2, maxReconnectDelay: 12 });
  socket.connect();
  const waits = [];
  while (waits.length < 5) waits.push((await next('disconnected')).retryIn);
  assert.deepEqual(waits, [1, 2, 4, 6, 6]);
  random.mock.restore();
});

test('connect between two attempts connects at once', async (t) => {
  const server = await startServer(t);
  const line = await wire(t, server);
  const { socket, next } = await connected(t, line.url, { reconnectDelay: 3_600_000, maxReconnectDelay: 3_600_000 });
  line.cut();
  await next('disconnected');
  socket.connect();
  await next('welcome');
});

test('with hooks, a message is seen, and Claude’s text is streamed', async (t) => {
  const server = await startServer(t);
  const { socket, next } = await connected(t, server.url, { stream: true });
  const message = socket.send('hello');
  await server.take(await server.nextMessage());
  assert.equal((await soon(message.seen, 'seen')).state, 'seen');
  assert.equal((await next('status')).status, 'thinking');
  await server.hook('MessageDisplay', { message_id: 'm1', index: '0', delta: 'Hel' });
  await server.hook('MessageDisplay', { message_id: 'm1', index: '1', delta: 'lo' });
  assert.deepEqual([(await next('stream')).delta, (await next('stream')).delta], ['Hel', 'lo']);
  await server.hook('Stop', { last_assistant_message: 'Hello' });
  const { content, via } = await next('reply');
  assert.deepEqual([content, via], ['Hello', 'transcript']);
  await soon(message.answered, 'answered');
});

test('a message that Claude Code does not show is unseen, until it does', async (t) => {
  const server = await startServer(t, { flags: ['--seen-timeout', '1ms'], env: { CLAUDE_PLUGIN_ROOT: '/plugin' } });
  const { socket, next } = await connected(t, server.url);
  const message = socket.send('hello');
  const received = await server.nextMessage();
  const { hint } = await next('delivery', ({ state }) => state === 'unseen');
  assert.match(hint, /without the channel flag/);
  await server.take(received);
  await soon(message.seen, 'seen');
});

test('a token admits the client under its name until it is removed', async (t) => {
  const folder = mkdtempSync(`${tmpdir()}/tokens-`);
  t.after(() => rmSync(folder, { recursive: true }));
  const token = run('token', 'add', 'shed', '--role', 'sender', '--session', 'shed-1', '--state-dir', folder);
  const server = await startServer(t, { flags: ['--state-dir', folder] });
  const stranger = client(t, server.url, { token: 'guessed', reconnect: false });
  stranger.socket.connect();
  assert.equal((await stranger.next('disconnected')).code, 1006);
  const shed = client(t, server.url, { token, user: 'somebody else' });
  shed.socket.connect();
  const { role, user } = await shed.next('welcome');
  assert.deepEqual([role, user, shed.socket.session], ['sender', 'shed', 'shed-1']);
  shed.socket.send('17 degrees');
  const { meta } = await server.nextMessage();
  assert.deepEqual([meta.user, meta.chat_id], ['shed', 'shed-1']);
  await server.reply('thanks', 'shed-1');
  assert.equal((await shed.next('reply')).content, 'thanks');
  server.ask('abcde');
  shed.socket.respondToPermission('abcde', true);
  assert.equal((await shed.next('error')).code, 'forbidden');
  run('token', 'remove', 'shed', '--state-dir', folder);
  const { code, retryIn } = await shed.next('disconnected');
  assert.deepEqual([code, retryIn], [4401, null]);
});

test('wrong arguments throw', async (t) => {
  assert.throws(() => new ClaudeSocket('not a url', { WebSocket }), /Invalid URL/);
  if (!globalThis.WebSocket) {
    assert.throws(() => new ClaudeSocket('ws://127.0.0.1:9'), /no WebSocket; give one as an option/);
  }
  const { socket } = client(t, 'ws://127.0.0.1:9');
  assert.throws(() => socket.send(5), /the content is a number; give a string/);
  assert.throws(() => socket.fetchHistory('many'), /limit is many; give a whole number/);
  assert.throws(() => socket.fetchHistory(5, { since: NaN }), /since is NaN; give a whole number/);
  assert.throws(() => socket.fetchHistory(5, { before: 1.5 }), /before is 1.5; give a whole number/);
  assert.throws(() => socket.search(7), /the text is a number; give a string/);
  assert.throws(() => socket.search('words', { limit: 'all' }), /limit is all; give a whole number/);
  assert.throws(() => socket.fetchVerdicts({ limit: NaN }), /limit is NaN; give a whole number/);
});
