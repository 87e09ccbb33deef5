// The real program as a child process, with the test in Claude Code's place.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import assert from 'node:assert/strict';

/** The binary under test. */
export const BINARY =
  process.env.CLAUDE_SOCKET_TEST_BINARY ??
  fileURLToPath(new URL('../../target/debug/claude-socket', import.meta.url));

/** Milliseconds after which a test fails. Machines can be slow. */
export const TEST_TIMEOUT = 20_000;

/** The state folders of the servers. */
const STATES = mkdtempSync(join(tmpdir(), 'claude-socket-states-'));
process.on('exit', () => rmSync(STATES, { recursive: true, force: true }));
let servers = 0;

/** Keeps everything in memory only. */
export const NO_STORE = { CLAUDE_SOCKET_HISTORY_TTL: '0' };

/** Runs another command of the program, and returns its output. */
export function run(...args) {
  return execFileSync(BINARY, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}

/** Waits for a promise, up to TEST_TIMEOUT. */
export function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it never came: ${what}`)), TEST_TIMEOUT);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** A queue from which a test takes the items it waits for. */
export class Inbox {
  #items = [];
  #waiting = [];

  push(item) {
    const waiting = this.#waiting.find(({ wanted }) => wanted(item));
    if (!waiting) return void this.#items.push(item);
    this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
    waiting.resolve(item);
  }

  /** Removes and returns the first wanted item, and waits for it if need be. */
  next(wanted = () => true, what = 'the next one') {
    const index = this.#items.findIndex(wanted);
    if (index >= 0) return Promise.resolve(this.#items.splice(index, 1)[0]);
    return soon(new Promise((resolve) => this.#waiting.push({ wanted, resolve })), what);
  }

  /** The items that were not taken. */
  get rest() {
    return [...this.#items];
  }
}

/** A running server with a state folder of its own, to which the test is Claude Code. */
export class Server {
  /** The server's notifications. */
  notifications = new Inbox();
  #results = new Inbox();
  #log = new Inbox();
  #requests = 0;

  /**
   * Starts a server that is ready for messages. `port` 0 is any free one. It has a state folder of its own, unless it is
   * given that of an earlier one, `state`; what that one has stored is there if the port is the same, too.
   */
  static async start({ port = 0, flags = [], env = {}, ready = true, state = join(STATES, String(++servers)) } = {}) {
    const server = new Server();
    server.state = state;
    await server.#spawn(port, flags, { CLAUDE_SOCKET_STATE_DIR: state, ...env });
    await server.request('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'claude-code', version: '2.1.330' },
    });
    if (ready) server.ready();
    return server;
  }

  /** Says that Claude Code is ready for messages. */
  ready() {
    this.notify('notifications/initialized', {});
  }

  async #spawn(port, flags, env) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CLAUDE_'));
    this.process = spawn(BINARY, ['--port', String(port), ...flags], {
      // The test takes messages from the start.
      env: {
        ...Object.fromEntries(inherited),
        CLAUDE_SOCKET_CHANNEL_DELAY: '0s',
        ...env,
      },
    });
    // What Claude Code calls it in a channel tag.
    this.source = env.CLAUDE_PLUGIN_ROOT ? 'plugin:claude-socket:claude-socket' : 'claude-socket';
    this.exited = once(this.process, 'exit');
    createInterface(this.process.stderr).on('line', (line) => this.#log.push(line));
    createInterface(this.process.stdout).on('line', (line) => {
      const message = JSON.parse(line);
      (message.method ? this.notifications : this.#results).push(message);
    });
    // A killed process breaks the pipe.
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

  /** Calls a tool. */
  call(tool, args) {
    return this.request('tools/call', { name: tool, arguments: args });
  }

  /** Calls the tool of the plugin's hooks. */
  hook(event, fields) {
    return this.call('activity', { event, prompt_id: 'p1', ...fields });
  }

  /** Confirms by a hook that a message is in the conversation. */
  take({ meta: { chat_id, message_id } }) {
    const tag = `<channel source="${this.source}" chat_id="${chat_id}" message_id="${message_id}">`;
    return this.hook('UserPromptSubmit', { prompt: tag });
  }

  reply(text, chat_id = 'default') {
    return this.call('reply', { chat_id, text });
  }

  status(status, detail, chat_id = 'default') {
    return this.call('status', { chat_id, status, detail });
  }

  /** Waits for the next message of an app. */
  async nextMessage() {
    const wanted = ({ method }) => method === 'notifications/claude/channel';
    return (await this.notifications.next(wanted, 'a message from an app')).params;
  }

  /** Requests permission for a tool. */
  ask(request_id, tool_name = 'Bash', description = 'make a file', input = { command: 'touch made' }) {
    this.notify('notifications/claude/channel/permission_request', {
      request_id,
      tool_name,
      description,
      input_preview: typeof input === 'string' ? input : JSON.stringify(input),
    });
  }

  /** Waits for the verdict on a request. */
  async verdict(request_id) {
    const wanted = ({ method, params }) =>
      method === 'notifications/claude/channel/permission' && params.request_id === request_id;
    return (await this.notifications.next(wanted, `the verdict on ${request_id}`)).params.behavior;
  }

  /** Closes stdin, as Claude Code does, and waits for the end. */
  async stop() {
    this.process.stdin.end();
    await soon(this.exited, 'its end');
  }

  /** Kills the server, and waits for the end. */
  async kill() {
    this.process.kill('SIGKILL');
    await soon(this.exited, 'its end');
  }
}
