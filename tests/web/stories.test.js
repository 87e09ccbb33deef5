// Plays tests/stories/client to the client library. The README there describes the lines. The player is
// the server, the app and the clock.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';

import { ClaudeSocket, DeliveryError, EndedError, LostError, RefusedError } from '../../client/claude-socket.js';

const folder = new URL('../stories/client/', import.meta.url);
/** What the app may be told without a line in the story. */
const OPTIONAL = ['welcome', 'pong', 'delivery', 'error', 'disconnected'];
const BEGINNING = Date.parse('2026-01-01T00:00:00Z');
/** The states of a WebSocket. */
const [CONNECTING, OPEN, CLOSED] = [0, 1, 3];
/** Milliseconds of a unit. */
const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

for (const file of readdirSync(folder).filter((name) => name.endsWith('.txt')).sort()) {
  for (const story of read(file)) {
    test(`${file}: ${story.title}`, async (t) => {
      t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: BEGINNING });
      t.mock.method(Math, 'random', () => 1);
      t.mock.method(console, 'error', () => {});
      const stage = new Stage(t);
      for (const line of story.lines) await stage.play(line);
      stage.end();
    });
  }
}

/** Returns the stories of a file. */
function read(file) {
  const stories = [];
  readFileSync(new URL(file, folder), 'utf8').split('\n').forEach((text, index) => {
    if (text.startsWith('# ')) stories.push({ title: text.slice(2), lines: [] });
    else if (text) stories.at(-1).lines.push({ text, where: `${file}:${index + 1}: ${text}` });
  });
  assert.ok(stories.length > 0, `${file} has stories`);
  return stories;
}

class Stage {
  #t;
  #options = {};
  #client;
  /** The WebSockets that the client has made, in order. */
  #sockets = [];
  /** Frames that the server has not got yet. */
  #frames = [];
  /** What the app was told, and the story has not mentioned yet. */
  #told = [];
  /** The states of the app's messages, by id, and of its last requests, such as `history`. */
  #states = new Map();
  /** What the server answers to a plain request; nothing listens if there is none. */
  #refusal = null;
  /** The client has closed an open connection. */
  #left = false;

  constructor(t) {
    this.#t = t;
  }

  async play({ text, where }) {
    const [, who, verb, rest = ''] = /^(\S+) (\S+)(?: (.*))?$/.exec(text) ?? assert.fail(`a line has a verb: ${where}`);
    this.where = where;
    if (who === 'option') return this.#option(verb, rest);
    this.#client ??= this.#connect();
    switch (`${who} ${verb}`) {
      case 'server opens':
        this.#opens();
        break;
      case 'server welcomes':
        this.#welcomes(JSON.parse(rest));
        break;
      case 'server >':
        this.#serverSends(rest);
        break;
      case 'server <':
        this.#compare(this.#frames.shift(), JSON.parse(rest));
        break;
      case 'server refuses':
        this.#refuses(JSON.parse(rest));
        break;
      case 'server breaks':
        this.#refusal = null;
        this.#closes(1006);
        break;
      case 'server closes':
        this.#closes(Number(rest));
        break;
      case 'app sends':
        this.#appSends(rest);
        break;
      case 'app fetches':
        this.#appFetches(rest);
        break;
      case 'app searches':
        this.#appAsks('search', this.#client.search(rest), (found) => found.map(({ session_id, seq }) => ` ${session_id}/${seq}`).join(''));
        break;
      case 'app closes':
        this.#client.close();
        this.#left = false;
        break;
      case 'app allows':
      case 'app denies':
        this.#client.respondToPermission(rest, verb === 'allows');
        break;
      case 'app <':
        this.#appIsTold(rest);
        break;
      case 'client leaves':
        assert.ok(this.#left, where);
        this.#left = false;
        break;
      case 'client gives':
        this.#t.mock.timers.tick(UNITS.h);
        assert.notEqual(this.#sockets.at(-1).readyState, CONNECTING, where);
        break;
      default:
        if (who === 'after') this.#t.mock.timers.tick(milliseconds(verb));
        else if (verb === 'is') assert.equal(this.#states.get(who), rest, where);
        else assert.fail(`unknown line: ${where}`);
    }
    // Promises settle.
    await new Promise(setImmediate);
  }

  /** Checks that the story has told everything. */
  end() {
    assert.deepEqual(this.#frames, [], `frames after ${this.where}`);
    const told = this.#told.filter(({ type }) => !OPTIONAL.includes(type));
    assert.deepEqual(told, [], `told after ${this.where}`);
    assert.equal(this.#left, false, `the client has left after ${this.where}`);
    this.#client.disconnect();
  }

  #option(name, value) {
    const camelCase = name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
    const isDuration = /^\d+[a-z]+$/.test(value);
    this.#options[camelCase] = isDuration ? milliseconds(value) : JSON.parse(value);
  }

  #connect() {
    const stage = this;
    class WebSocket {
      readyState = CONNECTING;
      constructor() {
        stage.#sockets.push(this);
      }
      send(frame) {
        assert.equal(this.readyState, OPEN, 'a frame is sent over an open connection');
        stage.#frames.push(JSON.parse(frame));
      }
      close() {
        if (this.readyState === OPEN) stage.#left = true;
        this.readyState = CLOSED;
      }
    }
    const fetch = async () => this.#refusal ?? Promise.reject(new TypeError('nothing listens'));
    const client = new ClaudeSocket('ws://x', { session: 's', user: 'ann', ...this.#options, WebSocket, fetch });
    client.on('message', (message) => this.#told.push(message));
    client.on('refused', (refusal) => this.#told.push({ type: 'refused', ...refusal }));
    client.on('gap', (gap) => this.#told.push({ type: 'gap', ...gap }));
    client.on('disconnected', ({ code, retryIn }) => {
      this.#told.push({ type: 'disconnected', code, retry_in: retryIn === null ? null : retryIn / UNITS.s });
    });
    client.connect();
    return client;
  }

  #opens() {
    const socket = this.#sockets.at(-1);
    assert.equal(socket.readyState, CONNECTING, `the client connects: ${this.where}`);
    socket.readyState = OPEN;
    socket.onopen({});
  }

  #welcomes(fields) {
    assert.equal(this.#frames.shift()?.type, 'hello', this.where);
    const host = { name: '', version: '', ready: true };
    const welcome = { type: 'welcome', server: 'claude-socket', version: '0', role: 'operator', seq: 0, created: 't1', max_message: 1000, host };
    this.#frame({ ...welcome, ...fields });
  }

  #serverSends(rest) {
    if (rest.startsWith('text ')) return this.#sockets.at(-1).onmessage({ data: rest.slice('text '.length) });
    const more = rest.startsWith('more ') || undefined;
    const seqs = replies(rest.replace(/^more /, ''));
    if (!seqs) return this.#frame(JSON.parse(rest));
    this.#frame({ type: 'history', more, messages: seqs.map((seq) => ({ role: 'assistant', seq, content: String(seq) })) });
  }

  /** Sends a frame of the server, completed by what the story leaves out. */
  #frame(frame) {
    const complete = (message) => ({
      ts: '2026-01-01T00:00:00Z',
      ...(message.seq !== undefined && { message_id: `00000000-0000-0000-0000-${String(message.seq).padStart(12, '0')}` }),
      ...message,
    });
    const { messages } = frame;
    const data = { session_id: 's', ...complete(frame), ...(messages && { messages: messages.map(complete) }) };
    this.#sockets.at(-1).onmessage({ data: JSON.stringify(data) });
  }

  /** Refuses the attempt to connect, of which the WebSocket learns nothing. */
  #refuses(refusal) {
    const isStatus = typeof refusal === 'number';
    const { status, retry_after, ...body } = isStatus ? { status: refusal } : refusal;
    const headers = retry_after && { 'Retry-After': String(retry_after) };
    this.#refusal = new Response(isStatus ? 'not JSON' : JSON.stringify(body), { status, headers });
    assert.equal(this.#sockets.at(-1).readyState, CONNECTING, `the client connects: ${this.where}`);
    this.#closes(1006);
  }

  #closes(code) {
    const socket = this.#sockets.at(-1);
    socket.readyState = CLOSED;
    this.#frames = [];
    socket.onclose({ code, reason: 'lost' });
  }

  #appSends(rest) {
    const [, id, content] = /^(\S+) (.*)$/.exec(rest);
    const sent = this.#client.send(content, { id });
    this.#states.set(id, 'waiting');
    for (const state of ['accepted', 'seen', 'answered']) void sent[state].then(() => this.#states.set(id, state), () => {});
    sent.answered.catch((error) => {
      // Without a connection, what was reached stays.
      const isFinal = error instanceof DeliveryError || (error instanceof LostError && this.#states.get(id) !== 'seen');
      if (this.#states.get(id) === 'waiting' || isFinal) this.#states.set(id, failure(error));
    });
  }

  #appFetches(rest) {
    const [, limit, side, seq] = /^history (\d+)(?: (since|before) (\d+))?$/.exec(rest) ?? [];
    if (limit) this.#appAsks('history', this.#client.fetchHistory(Number(limit), side && { [side]: Number(seq) }));
    else if (rest === 'sessions') this.#appAsks(rest, this.#client.fetchSessions());
    else if (rest === 'verdicts') this.#appAsks(rest, this.#client.fetchVerdicts());
    else assert.fail(`unknown line: ${this.where}`);
  }

  /** Keeps what becomes of a request, with what there is to say about its answer. */
  #appAsks(what, asked, say = () => '') {
    this.#states.set(what, 'waiting');
    asked.then((answer) => this.#states.set(what, `answered${say(answer)}`), (error) => this.#states.set(what, failure(error)));
  }

  #appIsTold(rest) {
    const wanted = replies(rest)?.map((seq) => ({ type: 'reply', seq })) ?? [JSON.parse(rest)];
    for (const message of wanted) {
      while (this.#told.length > 0 && this.#told[0].type !== message.type && OPTIONAL.includes(this.#told[0].type)) this.#told.shift();
      this.#compare(this.#told.shift(), message);
    }
  }

  #compare(found, wanted) {
    assert.ok(found !== undefined, `there is nothing: ${this.where}`);
    assert.ok(fits(found, wanted), `${this.where}, and not ${JSON.stringify(found)}`);
  }
}

/** Returns why a promise was rejected, as a story says it. */
function failure(error) {
  if (error instanceof RefusedError) return `refused ${error.status} ${error.code}`;
  if (error instanceof LostError) return 'lost';
  if (error instanceof EndedError) return 'ended';
  const again = error.retryAfter === undefined ? '' : ` for ${error.retryAfter}s`;
  return `rejected ${error.code}${again}`;
}

/** Returns the `seq`s of `replies 1..100`, or undefined for another line. */
function replies(text) {
  const [, first, last] = /^replies (\d+)\.\.(\d+)$/.exec(text) ?? [];
  return first && Array.from({ length: last - first + 1 }, (_, index) => Number(first) + index);
}

/** Returns the milliseconds of a duration such as `20s`. */
function milliseconds(text) {
  const [, count, unit] = /^(\d+)([a-z]+)$/.exec(text);
  return count * UNITS[unit];
}

/** Returns `true` if a value has what a story says of it. A field that is null must be missing. */
function fits(found, wanted) {
  if (wanted === null || typeof wanted !== 'object') return (found ?? null) === wanted;
  if (found === null || typeof found !== 'object' || Array.isArray(found) !== Array.isArray(wanted)) return false;
  if (Array.isArray(wanted) && found.length !== wanted.length) return false;
  return Object.entries(wanted).every(([key, value]) => fits(found[key], value));
}
