// The client library where there is no connection: the server refuses it, there is none, or what waits for one is
// given up. The stories in tests/stories/client say what follows from a refusal.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { WebSocket, WebSocketServer } from 'ws';

import { ClaudeSocket, EndedError, RefusedError } from '../../client/claude-socket.js';
import { launch } from './browser.js';
import { Inbox, Server, run, soon } from './server.js';

const HOUR = 3_600_000;
const LIBRARY = new URL('../../client/claude-socket.js', import.meta.url);

async function startServer(t, options) {
  const server = await Server.start(options);
  t.after(() => server.kill());
  return server;
}

/** Creates a client that ends with the test, with an inbox of its events as `[event, message]`. */
function client(t, url, options) {
  const socket = new ClaudeSocket(url, { WebSocket, reconnectDelay: 1, ...options });
  const inbox = new Inbox();
  for (const event of ['refused', 'disconnected', 'welcome', 'history', 'sessions']) {
    socket.on(event, (message) => inbox.push([event, message]));
  }
  t.after(() => socket.disconnect());
  const next = async (wanted) => (await inbox.next(([event]) => event === wanted, wanted))[1];
  return { socket, inbox, next };
}

/** Listens, and answers each request in the test's way. */
async function listen(t, server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => (server.close(), server.closeAllConnections?.()));
  return server.address().port;
}

/** Makes a folder with a token, and returns both. */
function guard(t, ...more) {
  const folder = mkdtempSync(`${tmpdir()}/tokens-`);
  t.after(() => rmSync(folder, { recursive: true }));
  return { folder, token: run('token', 'add', 'shed', '--role', 'sender', ...more, '--state-dir', folder) };
}

test('the server says why: no token, a wrong one, another session; with the right one it connects', async (t) => {
  const { folder, token } = guard(t, '--session', 'shed-1');
  const server = await startServer(t, { flags: ['--state-dir', folder] });
  const cases = [
    [{}, 401, 'unauthorized', /a token is needed here/],
    [{ token: 'guessed-and-wrong' }, 401, 'unauthorized', /this token is not known here/],
    [{ token: 'with a / space' }, 401, 'unauthorized', /this token is not known here/],
    [{ token, session: 'house' }, 403, 'forbidden_session', /this token is for sessions "shed-1" and not for "house"/],
  ];
  for (const [options, status, code, message] of cases) {
    const { socket, next } = client(t, server.url, options);
    const sent = socket.send('hello');
    const asked = socket.fetchHistory();
    socket.connect();
    assert.equal(socket.connecting, true);
    const refusal = await next('refused');
    assert.deepEqual([refusal.status, refusal.code], [status, code]);
    assert.match(refusal.message, message);
    assert.deepEqual(await next('disconnected'), { code: 1006, reason: refusal.message, retryIn: null });
    assert.equal(socket.connecting, false);
    for (const promise of [sent.accepted, sent.seen, sent.answered, asked, socket.fetchSessions(), socket.send('again').accepted]) {
      await assert.rejects(soon(promise, 'its end'), (error) => {
        assert.ok(error instanceof RefusedError && error instanceof EndedError);
        assert.deepEqual([error.status, error.code, error.message], [status, code, refusal.message]);
        return true;
      });
    }
  }
  const { socket, next } = client(t, server.url);
  socket.connect();
  await next('disconnected');
  socket.token = token;
  socket.connect();
  assert.equal((await next('welcome')).user, 'shed');
  socket.send('17 degrees');
  assert.equal((await server.nextMessage()).content, '17 degrees');
});

test('a server that is not there is no refusal, and is tried again', async (t) => {
  const probe = createServer();
  const port = await listen(t, probe);
  probe.close();
  const { socket, inbox, next } = client(t, `ws://127.0.0.1:${port}`);
  const message = socket.send('early');
  socket.connect();
  const { code, reason, retryIn } = await next('disconnected');
  assert.deepEqual([code, reason, typeof retryIn], [1006, `127.0.0.1:${port} cannot be reached`, 'number']);
  const server = await startServer(t, { port });
  assert.equal((await server.nextMessage()).content, 'early');
  await soon(message.accepted, 'accepted');
  assert.deepEqual(inbox.rest.filter(([event]) => event === 'refused'), []);
});

test('a server that answers without opening the connection is tried again', async (t) => {
  const answers = [
    [502, {}, '<html>', { status: 502, code: 'http_502', message: 'the server answers with the HTTP status 502' }],
    [302, { Location: '/login' }, '', { status: 302, code: 'http_302', message: 'the server answers with the HTTP status 302' }],
    [503, { 'Retry-After': '7' }, '{"code":5,"message":"","error":"come later"}', { status: 503, code: 'http_503', message: 'come later' }],
    [404, {}, 'null', { status: 404, code: 'http_404', message: 'the server answers with the HTTP status 404' }],
    [200, {}, '<html>', undefined],
    [426, {}, '', undefined],
  ];
  for (const [status, headers, body, expected] of answers) {
    const port = await listen(t, createHttpServer((_, answer) => answer.writeHead(status, headers).end(body)));
    const { socket, inbox, next } = client(t, `ws://127.0.0.1:${port}`, { reconnectDelay: 0 });
    socket.connect();
    const { reason, retryIn } = await next('disconnected');
    assert.equal(retryIn, headers['Retry-After'] ? 7_000 : 0, `status ${status}`);
    const [refusal] = inbox.rest.filter(([event]) => event === 'refused').map(([, refusal]) => refusal);
    assert.deepEqual(refusal, expected);
    assert.match(reason, expected ? new RegExp(expected.message) : /the WebSocket has not opened/);
    socket.disconnect();
  }
});

test('a server that does not answer in time counts as lost', async (t) => {
  const sockets = [];
  const port = await listen(t, createServer((socket) => sockets.push(socket)));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  const { socket, next } = client(t, `ws://127.0.0.1:${port}`, { connectTimeout: 20 });
  socket.connect();
  const { code, reason, retryIn } = await next('disconnected');
  assert.deepEqual([code, reason], [1006, `127.0.0.1:${port} has not answered within 0.02 s`]);
  assert.notEqual(retryIn, null);
  await next('disconnected');
});

test('a server that is asked why and does not answer in time counts as lost', async (t) => {
  const server = createHttpServer(() => {});
  server.on('upgrade', (_, socket) => socket.destroy());
  const port = await listen(t, server);
  const { socket, next } = client(t, `ws://127.0.0.1:${port}`, { connectTimeout: 20 });
  socket.connect();
  assert.equal((await next('disconnected')).reason, `127.0.0.1:${port} cannot be reached`);
});

test('a client that disconnects while it asks why is left alone', async (t) => {
  const server = createHttpServer((_, answer) => asked.push(answer));
  server.on('upgrade', (_, socket) => socket.destroy());
  const asked = new Inbox();
  const port = await listen(t, server);
  const { socket, inbox, next } = client(t, `ws://127.0.0.1:${port}`);
  socket.connect();
  const answer = await asked.next();
  assert.equal(socket.connecting, true);
  socket.connect();
  socket.disconnect();
  assert.equal(socket.connecting, false);
  assert.deepEqual(await next('disconnected'), { code: 1000, reason: '', retryIn: null });
  await once(answer, 'close');
  assert.deepEqual(inbox.rest, []);
});

test('without fetch a client is not told why, and tries again', async (t) => {
  const { folder } = guard(t);
  const server = await startServer(t, { flags: ['--state-dir', folder] });
  const { socket, inbox, next } = client(t, server.url, { fetch: null });
  socket.connect();
  const { code, reason, retryIn } = await next('disconnected');
  assert.deepEqual([code, reason, typeof retryIn], [1006, '', 'number']);
  await next('disconnected');
  assert.deepEqual(inbox.rest.filter(([event]) => event === 'refused'), []);
});

test('an error that no close follows is a lost connection', async (t) => {
  const made = [];
  class Mute {
    readyState = 0;
    constructor() {
      made.push(this);
    }
    send() {}
    close() {}
  }
  const { socket, next } = client(t, 'ws://127.0.0.1:9', { WebSocket: Mute, fetch: null, connectTimeout: 1 });
  socket.connect();
  made[0].onerror({});
  assert.equal((await next('disconnected')).code, 1006);
  while (made.length < 2) await new Promise(setImmediate);
  made[1].readyState = 1;
  made[1].onopen({});
  made[1].onerror({});
  assert.equal((await next('disconnected')).reason, 'the connection has failed');
});

test('a client with the WebSocket of Node reconnects', async (t) => {
  const probe = createServer();
  const port = await listen(t, probe);
  probe.close();
  const script = `
    import { ClaudeSocket } from '${LIBRARY}';
    const socket = new ClaudeSocket('ws://127.0.0.1:${port}', { reconnectDelay: 1 });
    let attempts = 0;
    socket.on('disconnected', ({ reason }) => {
      attempts += 1;
      if (attempts < 3) return;
      console.log(reason);
      socket.disconnect();
    });
    socket.connect();`;
  const flags = ['--experimental-websocket', '--no-warnings', '--input-type=module', '--eval', script];
  const { stdout } = await promisify(execFile)(process.execPath, flags, { timeout: 20_000 });
  assert.equal(stdout.trim(), `127.0.0.1:${port} cannot be reached`);
});

test('close ends what waits, and connect begins anew', async (t) => {
  const server = await startServer(t, { ready: false });
  const { socket, next } = client(t, server.url);
  socket.connect();
  await next('welcome');
  const waiting = [socket.send('one').answered, socket.fetchHistory(), socket.fetchSessions()];
  socket.close();
  assert.deepEqual(await next('disconnected'), { code: 1000, reason: '', retryIn: null });
  waiting.push(socket.send('two').accepted, socket.fetchHistory(), socket.fetchSessions());
  for (const promise of waiting) {
    await assert.rejects(soon(promise, 'its end'), (error) => error instanceof EndedError && !(error instanceof RefusedError));
  }
  socket.close();
  socket.connect();
  await next('welcome');
  assert.ok((await soon(socket.fetchSessions(), 'sessions')).sessions);
  const early = client(t, 'ws://127.0.0.1:9').socket;
  const message = early.send('never');
  early.close();
  await assert.rejects(message.accepted, EndedError);
});

test('what a signal aborts is not sent, and not waited for', async (t) => {
  const server = await startServer(t);
  const { socket, next } = client(t, server.url);
  const late = AbortSignal.abort(new Error('too late'));
  const now = new AbortController();
  const kept = socket.send('kept', { signal: AbortSignal.timeout(HOUR) });
  const aborted = [
    socket.send('never', { signal: late }).accepted,
    socket.send('never', { signal: now.signal }).answered,
    socket.fetchHistory(1, { signal: late }),
    socket.fetchHistory(2, { signal: now.signal }),
    socket.fetchSessions({ signal: late }),
    socket.fetchSessions({ signal: now.signal }),
  ];
  now.abort(new Error('too late'));
  for (const promise of aborted) await assert.rejects(soon(promise, 'its end'), /too late/);
  socket.connect();
  await next('welcome');
  assert.equal((await server.nextMessage()).content, 'kept');
  await soon(kept.accepted, 'accepted');
  socket.send('last');
  assert.equal((await server.nextMessage()).content, 'last');

  // The answers to what was sent and then aborted are not taken for those of what comes after.
  const then = new AbortController();
  const given = [socket.fetchHistory(1, { signal: then.signal }), socket.fetchSessions({ signal: then.signal })];
  const [history, sessions] = [socket.fetchHistory(2), socket.fetchSessions()];
  then.abort();
  for (const promise of given) await assert.rejects(promise, { name: 'AbortError' });
  assert.deepEqual((await soon(history, 'history')).messages.map(({ content }) => content), ['kept', 'last']);
  assert.equal((await soon(sessions, 'sessions')).total, 1);
  assert.deepEqual([(await next('history')).messages.length, (await next('history')).messages.length], [1, 2]);

  // One state is waited for until a signal, and the message goes on.
  const until = new AbortController();
  const answered = kept.when('answered', { signal: until.signal });
  until.abort();
  await assert.rejects(answered, { name: 'AbortError' });
  await server.reply('here');
  assert.equal((await soon(kept.when('answered'), 'answered')).state, 'answered');
});

test('a message that was sent and then aborted is not sent again', async (t) => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  t.after(() => server.close());
  const connections = new Inbox();
  server.on('connection', (socket) => {
    const frames = new Inbox();
    socket.on('message', (data) => frames.push(JSON.parse(data)));
    socket.send(JSON.stringify({ type: 'welcome', session_id: 'default', seq: 0, created: 'then', max_message: 1e6 }));
    connections.push({ socket, frames });
  });
  const { socket, next } = client(t, `ws://127.0.0.1:${server.address().port}`);
  const abort = new AbortController();
  socket.connect();
  await next('welcome');
  const sent = socket.send('aborted', { signal: abort.signal });
  const first = await connections.next();
  assert.equal((await first.frames.next(({ type }) => type === 'message')).content, 'aborted');
  abort.abort();
  await assert.rejects(sent.accepted, { name: 'AbortError' });
  first.socket.terminate();
  await next('welcome');
  socket.send('after');
  const second = await connections.next();
  assert.equal((await second.frames.next(({ type }) => type === 'message')).content, 'after');
});

test('two messages under one id are settled alike', async (t) => {
  const server = await startServer(t);
  const { socket } = client(t, server.url);
  const one = socket.send('hello', { id: 'a1' });
  const two = socket.send('hello', { id: 'a1', ts: one.ts });
  socket.connect();
  assert.equal((await server.nextMessage()).content, 'hello');
  await soon(Promise.all([one.accepted, two.accepted]), 'accepted');
  const three = socket.send('hello', { id: 'a1', ts: one.ts });
  await server.reply('hi');
  await soon(Promise.all([one.answered, two.answered, three.answered]), 'answered');
});

let browser;
after(() => browser?.close());

/** Connects from a page of this host in a real Chromium, and returns what it is told. At `/sandboxed` it has no origin. */
async function fromPage(t, host, url, options = {}, path = '/') {
  browser ??= await launch('--host-resolver-rules=MAP chat.test 127.0.0.1');
  const { createReadStream } = await import('node:fs');
  const port = await listen(t, createHttpServer((request, answer) => {
    const isScript = request.url.endsWith('.js');
    answer.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
    answer.setHeader('Access-Control-Allow-Origin', '*');
    if (request.url === '/sandboxed') answer.setHeader('Content-Security-Policy', 'sandbox allow-scripts');
    if (isScript) createReadStream(fileURLToPath(LIBRARY)).pipe(answer);
    else answer.end('<!doctype html><title>a page</title>');
  }));
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.goto(`http://${host}:${port}${path}`);
  const told = await page.evaluate(async ([url, options]) => {
    const { ClaudeSocket } = await import('/claude-socket.js');
    const socket = new ClaudeSocket(url, options);
    const told = {};
    const end = new Promise((resolve) => ['welcome', 'disconnected'].forEach((event) => socket.on(event, resolve)));
    for (const event of ['refused', 'disconnected', 'welcome']) socket.on(event, (message) => (told[event] = message));
    socket.connect();
    await end;
    socket.disconnect();
    return told;
  }, [url, options]);
  return { ...told, origin: `http://${host}:${port}` };
}

test('in a browser a page that is admitted is told why, and another one that it isn’t admitted', async (t) => {
  const open = await startServer(t);
  const { folder, token } = guard(t);
  const guarded = await startServer(t, { flags: ['--state-dir', folder] });

  assert.ok((await fromPage(t, 'localhost', open.url)).welcome);
  const foreign = await fromPage(t, 'chat.test', open.url);
  assert.deepEqual([foreign.refused.status, foreign.refused.code], [0, 'forbidden_origin']);
  assert.ok(foreign.refused.message.includes(foreign.origin), foreign.refused.message);
  assert.equal(foreign.disconnected.retryIn, null);

  // Without an origin, there is none to be listed.
  const outside = await fromPage(t, 'localhost', open.url, {}, '/sandboxed');
  assert.deepEqual([outside.refused.status, outside.refused.code], [0, 'forbidden_origin']);
  assert.match(outside.refused.message, /: open the page from http:\/\/localhost, or connect with a valid token$/);
  assert.ok((await fromPage(t, 'chat.test', guarded.url, { token }, '/sandboxed')).welcome);

  const unauthorized = await fromPage(t, 'localhost', guarded.url);
  assert.deepEqual([unauthorized.refused.status, unauthorized.refused.code], [401, 'unauthorized']);
  const wrong = await fromPage(t, 'chat.test', guarded.url, { token: 'guessed-and-wrong' });
  assert.deepEqual([wrong.refused.status, wrong.refused.code], [401, 'unauthorized']);
  assert.ok((await fromPage(t, 'chat.test', guarded.url, { token })).welcome);

  await open.kill();
  const gone = await fromPage(t, 'localhost', open.url);
  assert.equal(gone.refused, undefined);
  assert.equal(typeof gone.disconnected.retryIn, 'number');
});
