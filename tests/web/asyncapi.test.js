// The protocol for machines, src/protocol/asyncapi.yaml: that it is valid AsyncAPI, that it has
// every field that the server sends, and that it takes and refuses what the server does.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { once } from 'node:events';

import { Parser } from '@asyncapi/parser';
import { Ajv } from 'ajv';
import formats from 'ajv-formats';
import { WebSocket } from 'ws';

import { NO_STORE, Server, Inbox, run } from './server.js';

const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8');
const { document, diagnostics } = await new Parser().parse(read('../../src/protocol/asyncapi.yaml'));
assert.ok(document, JSON.stringify(diagnostics, null, 2));

/** Returns the payloads of one direction by their type. `receive` is what clients send. */
function payloads(action) {
  const operations = document.operations().all().filter((operation) => operation.action() === action);
  const asked = (operation) => operation.reply()?.messages().all() ?? [];
  const messages = operations.flatMap((operation) => operation.messages().all());
  if (action === 'send') messages.push(...document.operations().all().flatMap(asked));
  return Object.fromEntries(messages.map((message) => [message.id(), message.payload().json()]));
}
const CLIENT = payloads('receive');
const SERVER = payloads('send');

/** Returns the schema without room for other fields, which only newer versions may have. */
function strict(schema) {
  if (Array.isArray(schema)) return schema.map(strict);
  if (schema === null || typeof schema !== 'object') return schema;
  const closed = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  return schema.type === 'object' ? { additionalProperties: false, ...closed } : closed;
}

const ajv = formats.default(new Ajv({ strict: false, allErrors: true }));
const compile = (schemas) => Object.fromEntries(Object.entries(schemas).map(([type, schema]) => [type, ajv.compile(schema)]));
const tolerant = compile(CLIENT);
const exact = { client: compile(strict(CLIENT)), server: compile(strict(SERVER)) };

/** Fails if the message has other fields or kinds than its schema. */
function check(side, message) {
  const validate = exact[side][message.type];
  assert.ok(validate, `the schema doesn't know ${side}'s ${message.type}: ${JSON.stringify(message)}`);
  assert.ok(validate(message), `${JSON.stringify(message)}: ${ajv.errorsText(validate.errors)}`);
}

/** Yields the path of every field of a schema or a message, with dots. */
function* fieldsOf(value, path = '') {
  if (Array.isArray(value)) {
    for (const item of value) yield* fieldsOf(item, path);
  } else if (value !== null && typeof value === 'object') {
    for (const [key, inner] of Object.entries(value)) {
      yield `${path}.${key}`;
      yield* fieldsOf(inner, `${path}.${key}`);
    }
  }
}
function* fieldsOfSchema({ properties = {}, items, allOf = [] }, path = '') {
  for (const [key, inner] of Object.entries(properties)) {
    yield `${path}.${key}`;
    yield* fieldsOfSchema(inner, `${path}.${key}`);
  }
  for (const inner of [...allOf, ...(items ? [items] : [])]) yield* fieldsOfSchema(inner, path);
}
const all = (fields) => [...new Set(fields)].sort();
const inSchemas = (schemas) => all(Object.entries(schemas).flatMap(([type, schema]) => [...fieldsOfSchema(schema, type)]));
const inMessages = (messages) => all(messages.flatMap((message) => [...fieldsOf(message, message.type)]));

test('the document and its examples are valid', () => {
  // 0 is an error and 1 a warning; 2 says that there is a newer AsyncAPI.
  assert.deepEqual(diagnostics.filter(({ severity }) => severity < 2), []);
  const [, version] = /^version = "(.*)"$/m.exec(read('../../Cargo.toml'));
  assert.equal(document.info().version(), version);
  for (const message of document.allMessages().all()) {
    assert.ok(message.examples().all().length, `${message.id()} has an example`);
    const side = message.id() in CLIENT ? 'client' : 'server';
    for (const example of message.examples().all()) check(side, example.payload());
  }
});

test('every message has one direction, and the name of its type', () => {
  const types = document.allMessages().all().map((message) => [message.id(), message.payload().json().properties.type.const]);
  for (const [id, type] of types) assert.equal(id, type);
  assert.deepEqual([...Object.keys(CLIENT), ...Object.keys(SERVER)].sort(), types.map(([id]) => id).sort());
});

/** A client that checks every frame, both ways, and keeps it. */
class Client {
  received = new Inbox();
  /** Every frame of every client, by its sender. */
  static frames = { client: [], server: [] };

  static async connect(t, server, { query = 'session=s1', headers = {}, protocols = [] } = {}) {
    const client = new Client();
    client.socket = new WebSocket(`${server.url}/?${query}`, protocols, { headers });
    t.after(() => client.socket.terminate());
    client.closed = once(client.socket, 'close');
    client.socket.on('message', (data) => {
      const message = JSON.parse(data);
      Client.frames.server.push(message);
      client.received.push(message);
    });
    await once(client.socket, 'open');
    return client;
  }

  /** Sends a valid message. */
  say(message) {
    check('client', message);
    Client.frames.client.push(message);
    this.socket.send(JSON.stringify(message));
  }

  /** Sends anything. */
  blurt(text) {
    this.socket.send(text);
  }

  async hears(type, fields = {}) {
    const wanted = (message) => message.type === type && Object.entries(fields).every(([key, value]) => message[key] === value);
    return this.received.next(wanted, `${type} ${JSON.stringify(fields)}`);
  }
}

async function start(t, options) {
  const server = await Server.start(options);
  t.after(() => server.stop());
  return server;
}

const PLUGIN = { CLAUDE_PLUGIN_ROOT: '/plugin' };

test('real traffic fits the schemas, and has every message and field', async (t) => {
  await t.test('a conversation', async (t) => {
    const server = await start(t, { env: PLUGIN });
    const ann = await Client.connect(t, server);
    const bob = await Client.connect(t, server);
    ann.say({ type: 'hello', stream: true });
    await ann.hears('welcome', { role: 'operator', seq: 0 });
    ann.say({ type: 'ping' });
    await ann.hears('pong');

    ann.say({ type: 'message', session_id: 's1', content: 'hi', user: 'ann', ts: '2026-01-01T00:00:00Z', id: 'a1' });
    await ann.hears('delivery', { state: 'accepted' });
    await bob.hears('user_message', { content: 'hi', user: 'ann' });
    await server.take(await server.nextMessage());
    await ann.hears('delivery', { state: 'seen' });
    await ann.hears('status', { status: 'thinking' });
    await server.status('tool_use', 'reading', 's1');
    await ann.hears('status', { status: 'tool_use', detail: 'reading' });
    ann.say({ type: 'list_sessions' });
    await ann.hears('sessions', { total: 1 });
    await server.hook('MessageDisplay', { message_id: 'm1', index: '0', delta: 'Hel' });
    await ann.hears('stream', { delta: 'Hel' });
    await server.reply('Hello', 's1');
    await bob.hears('reply', { content: 'Hello' });
    await ann.hears('delivery', { state: 'answered' });
    await server.hook('Stop', { last_assistant_message: 'I have replied.' });
    await ann.hears('status', { status: 'idle' });

    ann.say({ type: 'message', content: 'and now in the terminal' });
    await server.take(await server.nextMessage());
    await server.hook('Stop', { last_assistant_message: 'Said in the terminal.' });
    await ann.hears('reply', { via: 'transcript' });
    ann.say({ type: 'fetch_receipt', session_id: 's1', id: 'a1' });
    await ann.hears('delivery', { state: 'answered' });
    ann.say({ type: 'fetch_receipt', id: 'nobody has sent this' });
    assert.ok((await ann.hears('delivery', { state: 'lost' })).hint);
    ann.say({ type: 'fetch_history', session_id: 's1', limit: 10, since: 0 });
    const { messages } = await ann.hears('history');
    assert.equal(messages.length, 4);
    assert.equal(messages[0].state, 'answered');
    ann.say({ type: 'fetch_history', limit: 10, before: messages[2].seq });
    assert.deepEqual((await ann.hears('history')).messages, messages.slice(0, 2));
    ann.say({ type: 'search', session_id: 's1', text: 'in the termi', limit: 10 });
    const found = await ann.hears('history', { search: 'in the termi' });
    assert.deepEqual(found.messages.map(({ content }) => content), ['and now in the terminal', 'Said in the terminal.']);
    ann.say({ type: 'search', text: 'nobody has said this' });
    assert.deepEqual((await ann.hears('history', { search: 'nobody has said this' })).messages, []);
    ann.say({ type: 'list_sessions' });
    assert.equal((await ann.hears('sessions')).sessions[0].last.via, 'transcript');

    server.ask('abcde');
    await bob.hears('permission_request', { request_id: 'abcde' });
    ann.say({ type: 'permission_response', request_id: 'abcde', allowed: true });
    await bob.hears('permission_resolved', { request_id: 'abcde', by: 'ann' });
    bob.say({ type: 'permission_response', request_id: 'abcde', allowed: false });
    await bob.hears('error', { code: 'unknown_request' });
    ann.say({ type: 'fetch_verdicts', limit: 10 });
    const { verdicts } = await ann.hears('verdicts');
    assert.deepEqual(verdicts.map(({ request_id, allowed, by }) => [request_id, allowed, by]), [['abcde', true, 'ann']]);
    for (const [frame, code] of [['{', 'invalid_json'], ['{"type":"dance"}', 'unknown_type'], ['{"type":"message","id":"a2"}', 'invalid_message']]) {
      ann.blurt(frame);
      await ann.hears('error', { code });
    }
    await ann.hears('delivery', { state: 'rejected' });
  });

  await t.test('limits', async (t) => {
    const server = await start(t, { flags: ['--max-sessions', '1', '--max-message', '1KiB', '--seen-timeout', '1ms', '--history-messages', '2'], env: { ...PLUGIN, ...NO_STORE } });
    const client = await Client.connect(t, server);
    client.say({ type: 'message', session_id: 's2', content: 'hi', id: 'a1' });
    await client.hears('delivery', { state: 'rejected', code: 'busy' });
    client.say({ type: 'message', content: 'x'.repeat(2000), id: 'a2' });
    await client.hears('delivery', { state: 'rejected', code: 'too_large' });
    await server.hook('SessionStart', {});
    client.say({ type: 'message', content: 'hi', id: 'a3' });
    assert.ok((await client.hears('delivery', { state: 'unseen' })).hint);
    for (const content of ['one', 'two']) client.say({ type: 'message', content });
    client.say({ type: 'fetch_history' });
    assert.equal((await client.hears('history')).truncated_before, 2);
  });

  await t.test('answers of several frames', async (t) => {
    const long = '\u0001'.repeat(2_000);
    const server = await start(t, { flags: ['--max-frame', '16KiB', '--max-message', '14KiB'] });
    const client = await Client.connect(t, server, { query: `session=${'%F0%9F%A4%96'.repeat(128)}` });
    for (let sent = 0; sent < 2; sent += 1) client.say({ type: 'message', content: long });
    client.say({ type: 'fetch_history' });
    assert.equal((await client.hears('history', { more: true })).messages.length, 1);
    assert.equal((await client.hears('history', { more: undefined })).messages.length, 1);
    for (let session = 0; session < 20; session += 1) client.say({ type: 'message', session_id: `s${session}`, content: long });
    client.say({ type: 'list_sessions' });
    await client.hears('sessions', { more: true });
    await client.hears('sessions', { more: undefined });
    for (let request = 0; request < 20; request += 1) {
      const request_id = `abcd${String.fromCharCode(97 + request)}`;
      server.ask(request_id, 'Bash', '\u0001'.repeat(1_000));
      await client.hears('permission_request', { request_id });
      client.say({ type: 'permission_response', request_id, allowed: false });
      await client.hears('permission_resolved', { request_id });
    }
    client.say({ type: 'fetch_verdicts' });
    await client.hears('verdicts', { more: true });
    await client.hears('verdicts', { more: undefined });
  });

  await t.test('messages that wait', async (t) => {
    const server = await Server.start({ ready: false });
    t.after(() => server.kill());
    const client = await Client.connect(t, server);
    client.say({ type: 'message', content: 'for later', id: 'a1' });
    await client.hears('delivery', { state: 'queued' });
    server.ready();
    await client.hears('delivery', { state: 'accepted' });
  });

  await t.test('a token is taken from each of three places', async (t) => {
    const folder = mkdtempSync(`${tmpdir()}/tokens-`);
    t.after(() => rmSync(folder, { recursive: true }));
    const token = run('token', 'add', 'shed', '--role', 'sender', '--rate', '1/d', '--state-dir', folder);
    const server = await start(t, { flags: ['--state-dir', folder] });
    const places = [
      { headers: { Authorization: `Bearer ${token}` } },
      { query: `token=${token}` },
      { protocols: ['claude-socket', `bearer.${token}`] },
    ];
    for (const place of places) {
      const client = await Client.connect(t, server, place);
      client.say({ type: 'hello' });
      await client.hears('welcome', { role: 'sender', user: 'shed' });
      client.say({ type: 'permission_response', request_id: 'abcde', allowed: true });
      await client.hears('error', { code: 'forbidden' });
    }
    const client = await Client.connect(t, server, places[0]);
    for (const id of ['a1', 'a2']) client.say({ type: 'message', content: 'hi', id });
    const { retry_after } = await client.hears('error', { code: 'busy' });
    await client.hears('delivery', { id: 'a2', code: 'busy', retry_after });
  });

  await t.test('the end', async (t) => {
    const server = await Server.start({ ready: false, env: NO_STORE });
    const client = await Client.connect(t, server);
    client.say({ type: 'message', content: 'too late', id: 'a1' });
    server.ask('abcde');
    await client.hears('permission_request');
    await server.stop();
    assert.ok((await client.hears('permission_resolved', { by: 'expired' })).reason);
    await client.hears('delivery', { state: 'rejected', code: 'host_closed' });
    const [code] = await client.closed;
    assert.ok(document.channels().get('session').json('x-close-codes')[code], `close code ${code}`);
  });

  const { frames } = Client;
  for (const message of frames.server) check('server', message);
  assert.deepEqual(inMessages(frames.client), inSchemas(CLIENT), 'every field of every client message was sent');
  assert.deepEqual(inMessages(frames.server), inSchemas(SERVER), 'every field of every server message was seen');
  const seen = (field) => all(frames.server.map((message) => message[field]).filter((value) => value !== undefined));
  const { schemas } = document.components().json();
  assert.deepEqual(seen('code'), all(schemas.ErrorCode.enum), 'every code was seen');
  assert.deepEqual(seen('state'), all(schemas.DeliveryState.enum), 'every state was seen');
});

test('the schemas reject exactly what the server answers with invalid_message', async (t) => {
  const server = await start(t);
  const client = await Client.connect(t, server);
  // A valid frame of each type, with each of these as the value of each field.
  const valid = Object.keys(CLIENT).map((type) => ({ type, ...{ message: { content: 'c' }, search: { text: 't' }, fetch_receipt: { id: 'i' }, permission_response: { request_id: 'r', allowed: true } }[type] }));
  const fields = all(inSchemas(CLIENT).map((path) => path.split('.')[1]));
  const values = [
    undefined, null, true, false, 0, -1, 1.5, 1e300, '', 'a', ' ', 'a b', '2026-01-01T00:00:00.000+01:00', 'now!', 'ä', '€', '😀'.repeat(64),
    'x'.repeat(64), 'x'.repeat(65), 'x'.repeat(128), 'x'.repeat(129), 'x'.repeat(200), 'x'.repeat(201), '😀'.repeat(129), 'a\nb', '\u0000', '\u007f', '\u009f', '\u00a0', '\u2028', '\u2029', [], ['a'], {},
  ];
  const frames = valid.flatMap((frame) => fields.flatMap((field) => values.map((value) => ({ ...frame, [field]: value }))));
  for (const other of [null, true, 1, 'message', [], [{ type: 'ping' }], {}]) frames.push(other);
  const differences = [];
  let refused = 0;
  for (const frame of frames) {
    const text = JSON.stringify(frame);
    client.blurt(text);
    client.blurt('{"type":"dance"}');
    let code;
    for (;;) {
      const message = await client.received.next();
      if (message.type === 'error' && message.message === 'unknown message type: dance') break;
      if (message.type === 'error') code = message.code;
    }
    const isValid = Boolean(tolerant[frame?.type]?.(frame));
    const isTaken = code !== 'invalid_message' && code !== 'unknown_type';
    if (isValid !== isTaken) differences.push({ text, code, isValid });
    if (!isTaken) refused += 1;
  }
  assert.deepEqual(differences, []);
  assert.ok(refused > 200 && refused < frames.length - 200, `${refused} of ${frames.length} were refused`);
});
