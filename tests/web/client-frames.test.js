// The client library against a server whose frames the test sends one by one, for cases that
// depend on the order of frames.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { once } from 'node:events';

import { WebSocket, WebSocketServer } from 'ws';

import { ClaudeSocket } from '../../client/claude-socket.js';
import { Inbox, soon } from './server.js';

const WELCOME = { type: 'welcome', session_id: 'default', role: 'operator', seq: 0, created: 'then', max_message: 1e6 };

/** Starts a server. Each connection has an inbox of frames, and sends with `say`. */
async function listen(t) {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'claude-socket' });
  await once(server, 'listening');
  t.after(() => server.close());
  const connections = new Inbox();
  server.on('connection', (socket, request) => {
    const frames = new Inbox();
    socket.on('message', (data) => frames.push(JSON.parse(data)));
    connections.push({
      request,
      next: (type) => frames.next((frame) => frame.type === type, type),
      say: (...messages) => messages.forEach((message) => socket.send(JSON.stringify(message))),
      close: (code) => socket.close(code),
      cut: () => socket.terminate(),
    });
  });
  return { url: `ws://127.0.0.1:${server.address().port}`, accepted: () => connections.next() };
}

function client(t, url, options) {
  const socket = new ClaudeSocket(url, { WebSocket, reconnectDelay: 1, ...options });
  t.after(() => socket.disconnect());
  socket.connect();
  return socket;
}

/** Returns an inbox of the contents of replies and of others' messages. */
function contents(socket) {
  const inbox = new Inbox();
  for (const event of ['reply', 'user_message']) socket.on(event, ({ content }) => inbox.push(content));
  return inbox;
}

const reply = (seq) => ({ type: 'reply', session_id: 'default', seq, content: String(seq) });
const item = (seq, role = 'assistant') => ({ role, seq, content: String(seq), message_id: `m${seq}` });
const history = (...messages) => ({ type: 'history', session_id: 'default', messages });

test('messages are sent only after the welcome', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url, { stream: true });
  socket.send('hello');
  const server = await accepted();
  assert.deepEqual(await server.next('hello'), { type: 'hello', stream: true });
  assert.equal(socket.connected, true);
  server.say(WELCOME);
  const { content, session_id, user } = await server.next('message');
  assert.deepEqual([content, session_id, user], ['hello', 'default', 'user']);
});

test('a message that comes while a gap is filled is emitted after it, once', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url);
  const inbox = contents(socket);
  const first = await accepted();
  first.say({ ...WELCOME, seq: 4 }, reply(5));
  assert.equal(await inbox.next(), '5');
  first.cut();
  const second = await accepted();
  second.say(reply(7), { ...WELCOME, seq: 7 }, reply(8));
  assert.equal((await second.next('fetch_history')).since, 5);
  second.say(history(item(6), item(7), item(8)), reply(9));
  assert.deepEqual([await inbox.next(), await inbox.next(), await inbox.next(), await inbox.next()], ['6', '7', '8', '9']);
});

test('a gap that was not filled completely is filled after the next connect', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url);
  const inbox = contents(socket);
  const first = await accepted();
  first.say(WELCOME, reply(1));
  assert.equal(await inbox.next(), '1');
  first.cut();
  const second = await accepted();
  second.say({ ...WELCOME, seq: 3 });
  assert.equal((await second.next('fetch_history')).since, 1);
  const message = socket.send('4');
  const { id } = await second.next('message');
  second.say({ type: 'delivery', session_id: 'default', id, message_id: 'm4', seq: 4, state: 'accepted' }, reply(5));
  await soon(message.accepted, 'accepted');
  second.cut();
  const third = await accepted();
  third.say({ ...WELCOME, seq: 5 });
  assert.equal((await third.next('fetch_history')).since, 1);
  third.say(history(item(2), item(3), item(4, 'user'), item(5)));
  assert.deepEqual([await inbox.next(), await inbox.next(), await inbox.next()], ['2', '3', '5']);
  assert.equal((await third.next('fetch_receipt')).id, id);
  third.say({ type: 'delivery', session_id: 'default', id, message_id: 'm4', seq: 4, state: 'answered' });
  await soon(message.answered, 'answered');
  assert.deepEqual(inbox.rest, []);
});

test('a server that repeats itself is not asked for ever', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url);
  const inbox = contents(socket);
  const first = await accepted();
  first.say(WELCOME);
  await once(await firstEvent(socket, 'welcome'), 'done');
  first.cut();
  const second = await accepted();
  second.say({ ...WELCOME, seq: 500 });
  const page = history(...Array.from({ length: 100 }, (_, index) => item(index + 1)));
  assert.equal((await second.next('fetch_history')).since, 0);
  second.say(page);
  assert.equal((await second.next('fetch_history')).since, 100);
  second.say(page, reply(101));
  for (let seq = 1; seq <= 101; seq += 1) assert.equal(await inbox.next(), String(seq));
  const asked = socket.fetchHistory(7);
  assert.equal((await second.next('fetch_history')).limit, 7);
  second.say(history(item(101)));
  assert.equal((await soon(asked, 'history')).messages.length, 1);
});

test('an invalid id is rejected at once', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url);
  const errors = new Inbox();
  socket.on('error', ({ code }) => errors.push(code));
  const cases = [
    ['', /"id" must not be empty/],
    ['x'.repeat(65), /"id" has 65 characters; the limit is 64/],
    ['a\nb', /"id" must not contain control characters/],
    ['a\u2028b', /"id" must not contain control characters/],
  ];
  for (const [id, message] of cases) {
    const sent = socket.send('hello', { id });
    await assert.rejects(soon(sent.answered, 'rejected'), { code: 'invalid_message', message });
    assert.equal(await errors.next(), 'invalid_message');
  }
  const longest = '🌡'.repeat(64);
  socket.send('hello', { id: longest });
  const server = await accepted();
  server.say(WELCOME);
  assert.equal((await server.next('message')).id, longest);
});

test('a history that the app has requested is not taken for the one that fills a gap', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url);
  const first = await accepted();
  first.say(WELCOME);
  await once(await firstEvent(socket, 'welcome'), 'done');
  first.cut();
  const asked = socket.fetchHistory(7);
  const second = await accepted();
  second.say({ ...WELCOME, seq: 2 });
  assert.equal((await second.next('fetch_history')).limit, 100);
  assert.equal((await second.next('fetch_history')).limit, 7);
  second.say(history(item(1), item(2)), history(item(2)));
  assert.deepEqual((await soon(asked, 'history')).messages.map(({ seq }) => seq), [2]);
});

test('each delivery state settles its promise', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url);
  const states = new Inbox();
  socket.on('delivery', ({ state, hint }) => states.push([state, hint]));
  const message = socket.send('hello');
  const server = await accepted();
  server.say(WELCOME);
  const { id } = await server.next('message');
  const delivery = (state, hint) => ({ type: 'delivery', session_id: 'default', id, message_id: 'm', seq: 1, state, hint });
  let seen = false;
  void message.seen.then(() => (seen = true));
  server.say(delivery('accepted'), delivery('unseen', 'look at the flag'));
  await soon(message.accepted, 'accepted');
  assert.deepEqual([await states.next(), await states.next()], [['accepted', undefined], ['unseen', 'look at the flag']]);
  assert.equal(seen, false);
  server.say(delivery('seen'));
  assert.equal((await soon(message.seen, 'seen')).state, 'seen');
  server.say(delivery('answered'));
  assert.equal((await soon(message.answered, 'answered')).state, 'answered');
});

test('Claude’s text is emitted as it appears', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url, { stream: true });
  const deltas = new Inbox();
  socket.on('stream', ({ delta }) => deltas.push(delta));
  const server = await accepted();
  server.say(WELCOME, { type: 'stream', session_id: 'default', delta: 'Hel' }, { type: 'stream', session_id: 'default', delta: 'lo' });
  assert.deepEqual([await deltas.next(), await deltas.next()], ['Hel', 'lo']);
});

test('a token goes into a subprotocol, or into the URL if it doesn’t fit there', async (t) => {
  const { url, accepted } = await listen(t);
  const cases = [
    [{}, undefined, null],
    [{ token: 'abc-123_~' }, 'claude-socket,bearer.abc-123_~', null],
    [{ token: 'with a / space' }, undefined, 'with a / space'],
  ];
  for (const [options, protocols, query] of cases) {
    client(t, url, options);
    const { request } = await accepted();
    assert.equal(request.headers['sec-websocket-protocol'], protocols);
    assert.equal(new URL(request.url, url).searchParams.get('token'), query);
  }
});

test('any form of the address connects', async (t) => {
  const { url, accepted } = await listen(t);
  client(t, url);
  assert.equal((await accepted()).request.url, '/');
  client(t, `${url}/?session=c`);
  assert.equal((await accepted()).request.url, '/?session=c');
  for (const [address, expected] of [
    [url, '/?session=a+b'],
    [`${url}/chat?x=1`, '/chat?x=1&session=a+b'],
    [url.replace('ws', 'http'), '/?session=a+b'],
    [new URL(url), '/?session=a+b'],
    [`${url}/#top`, '/?session=a+b'],
  ]) {
    client(t, address, { session: 'a b' });
    assert.equal((await accepted()).request.url, expected);
  }
});

test('a removed token ends the attempts to reconnect', async (t) => {
  const { url, accepted } = await listen(t);
  const socket = client(t, url, { token: 'old' });
  const gone = new Promise((resolve) => socket.on('disconnected', resolve));
  (await accepted()).close(4401);
  const { code, retryIn } = await soon(gone, 'disconnected');
  assert.deepEqual([code, retryIn], [4401, null]);
});

test('the client reconnects at once when the network is back', async (t) => {
  const { url, accepted } = await listen(t);
  const network = new EventTarget();
  for (const name of ['addEventListener', 'removeEventListener']) {
    globalThis[name] = network[name].bind(network);
    t.after(() => delete globalThis[name]);
  }
  client(t, url, { reconnectDelay: 3_600_000, maxReconnectDelay: 3_600_000 });
  (await accepted()).cut();
  const again = accepted();
  const ask = setInterval(() => network.dispatchEvent(new Event('online')), 1);
  t.after(() => clearInterval(ask));
  await again;
});

test('unknown messages are emitted, and cannot cause the client’s own events', async (t) => {
  const { url, accepted } = await listen(t);
  const errors = t.mock.method(console, 'error', () => {});
  const socket = client(t, url);
  const all = new Inbox();
  socket.on('message', (message) => all.push(message));
  socket.on('connected', (message) => all.push(message ?? 'connected'));
  const server = await accepted();
  assert.equal(await all.next(), 'connected');
  server.say({ type: 'tomorrow', x: 1 }, { type: 'connected' }, { ...reply(3), session_id: 'other' }, WELCOME);
  const types = [];
  while (types.at(-1) !== 'welcome') types.push((await all.next()).type);
  assert.deepEqual(types, ['tomorrow', 'connected', 'reply', 'welcome']);
  assert.equal(errors.mock.callCount(), 0);
});

/** Returns an emitter of `done` for the client's next event of this name. */
async function firstEvent(socket, event) {
  const { EventEmitter } = await import('node:events');
  const emitter = new EventEmitter();
  socket.once(event, () => emitter.emit('done'));
  return emitter;
}
