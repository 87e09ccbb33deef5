// The real binary as a child, with the test in Claude Code's place: real pipes.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import assert from 'node:assert/strict';

/** The binary under test. */
export const BINARY =
  process.env.CLAUDE_SOCKET_TEST_BINARY ??
  fileURLToPath(new URL('../../target/debug/claude-socket', import.meta.url));

/** How long anything may take that should happen at once. Machines can be slow. */
export const PATIENCE = 20_000;

/** Runs another command of the binary, and returns what it prints. */
export function run(...args) {
  return execFileSync(BINARY, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}

/** Waits for a promise, but not for ever. */
export function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it never came: ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A list that grows, of which a test takes what it waits for, in order. */
export class Inbox {
  #items = [];
  #waiting = [];

  push(item) {
    const waiting = this.#waiting.find(({ wanted }) => wanted(item));
    if (!waiting) return void this.#items.push(item);
    this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
    waiting.resolve(item);
  }

  /** Takes the first item that is wanted, now or when it comes. */
  next(wanted = () => true, what = 'the next one') {
    const index = this.#items.findIndex(wanted);
    if (index >= 0) return Promise.resolve(this.#items.splice(index, 1)[0]);
    return soon(new Promise((resolve) => this.#waiting.push({ wanted, resolve })), what);
  }

  /** Everything that has come and wasn't taken. */
  get rest() {
    return [...this.#items];
  }
}

/** A running server, with the test as its Claude Code. */
export class Bridge {
  /** Notifications of the channel. */
  said = new Inbox();
  #results = new Inbox();
  #log = new Inbox();
  #requests = 0;

  /** Starts it up to the point where messages can go through. `port` 0 is any free one. */
  static async start({ port = 0, flags = [], env = {}, ready = true } = {}) {
    const bridge = new Bridge();
    await bridge.#spawn(port, flags, env);
    await bridge.request('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'claude-code', version: '2.1.330' },
    });
    if (ready) bridge.ready();
    return bridge;
  }

  /** Takes messages from now on. */
  ready() {
    this.notify('notifications/initialized', {});
  }

  async #spawn(port, flags, env) {
    const theirs = (name) => name.startsWith('CLAUDE_') && name !== 'CLAUDE_SOCKET_STATE_DIR';
    const inherited = Object.entries(process.env).filter(([name]) => !theirs(name));
    this.process = spawn(BINARY, ['--port', String(port), ...flags], {
      env: { ...Object.fromEntries(inherited), ...env },
    });
    this.exited = once(this.process, 'exit');
    createInterface(this.process.stderr).on('line', (line) => this.#log.push(line));
    createInterface(this.process.stdout).on('line', (line) => {
      const message = JSON.parse(line);
      (message.method ? this.said : this.#results).push(message);
    });
    // It may be killed while something is written to it.
    this.process.stdin.on('error', () => {});
    const line = await this.logged('listening on ws://');
    this.host = /ws:\/\/([^/\s]+)/.exec(line)[1];
    this.port = Number(this.host.split(':').at(-1));
    this.url = `ws://${this.host}`;
  }

  logged(part) {
    return this.#log.next((line) => line.includes(part), `«${part}» in the log`);
  }

  notify(method, params) {
    this.#write({ jsonrpc: '2.0', method, params });
  }

  async request(method, params) {
    const id = ++this.#requests;
    this.#write({ jsonrpc: '2.0', id, method, params });
    const answer = await this.#results.next((line) => line.id === id, `the answer to ${method}`);
    assert.equal(answer.error, undefined, JSON.stringify(answer.error));
    return answer.result;
  }

  #write(message) {
    this.process.stdin.write(JSON.stringify(message) + '\n');
  }

  /** Uses a tool, as Claude does. */
  call(tool, args) {
    return this.request('tools/call', { name: tool, arguments: args });
  }

  /** Calls the plugin's hook, as Claude Code does. */
  hook(event, fields) {
    return this.call('activity', { event, prompt_id: 'p1', ...fields });
  }

  /** Puts a message into the conversation. */
  take({ meta: { chat_id, message_id } }) {
    const tag = `<channel source="plugin:claude-socket:claude-socket" chat_id="${chat_id}" message_id="${message_id}">`;
    return this.hook('UserPromptSubmit', { prompt: tag });
  }

  reply(text, chat_id = 'default') {
    return this.call('reply', { chat_id, text });
  }

  status(status, detail, chat_id = 'default') {
    return this.call('status', { chat_id, status, detail });
  }

  /** The next message that an app has sent, as Claude Code gets it. */
  async heard() {
    const wanted = ({ method }) => method === 'notifications/claude/channel';
    return (await this.said.next(wanted, 'a message from an app')).params;
  }

  /** Asks whether a tool may run. */
  ask(request_id, tool_name = 'Bash', description = 'make a file', input = { command: 'touch made' }) {
    this.notify('notifications/claude/channel/permission_request', {
      request_id,
      tool_name,
      description,
      input_preview: typeof input === 'string' ? input : JSON.stringify(input),
    });
  }

  /** The verdict on it. */
  async verdict(request_id) {
    const wanted = ({ method, params }) =>
      method === 'notifications/claude/channel/permission' && params.request_id === request_id;
    return (await this.said.next(wanted, `the verdict on ${request_id}`)).params.behavior;
  }

  /** Ends it as Claude Code does. */
  async stop() {
    this.process.stdin.end();
    await soon(this.exited, 'its end');
  }

  /** Kills it, as a power cut would. */
  async kill() {
    this.process.kill('SIGKILL');
    await soon(this.exited, 'its end');
  }
}
