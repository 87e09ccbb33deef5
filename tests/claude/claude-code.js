// The real Claude Code in a terminal of its own. Its home is thrown away, its key is made up, and
// its model is scripted. It must run in a network namespace of its own, where it can reach nothing
// else.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Model, SESSION } from './model.js';
import { LIMIT, until } from './until.js';

const PLUGIN = fileURLToPath(new URL('../../plugin', import.meta.url));
/** Claude Code, and the server under test. `run` names both. */
const { CLAUDE_CODE, CLAUDE_SOCKET_TEST_BINARY: SERVER } = process.env;

const KEY = 'sk-ant-not-a-real-key-of-anyone';
/** Claude Code remembers the answer about a key by its last characters. */
const KEY_TAIL = KEY.slice(-20);

/** The last lines of Claude Code's log that a failure shows. */
const LOG_LINES = 40;
/** The most characters of such a line. */
const LOG_WIDTH = 300;

/** How Claude Code gets the server: the arguments, and what its configuration has. */
const WAYS = {
  plugin: {
    arguments: ['--plugin-dir', PLUGIN, '--dangerously-load-development-channels', 'plugin:claude-socket@inline'],
  },
  'raw config': {
    arguments: ['--dangerously-load-development-channels', 'server:claude-socket'],
    configuration: { mcpServers: { 'claude-socket': { command: SERVER } } },
  },
};

/** The terminals to close when the program ends, however it ends. */
const running = new Set();
process.on('exit', () => running.forEach((claude) => claude.kill()));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

let lastPort = 3100;

export class ClaudeCode {
  /** The server's port, of this Claude Code alone. */
  #port = (lastPort += 1);
  #root = mkdtempSync(join(tmpdir(), 'claude-'));
  #way;
  #environment;

  /**
   * @param {object} options
   * @param {'plugin' | 'raw config'} options.way how it gets the server
   * @param {(turn: import('./model.js').Turn) => object} options.model what the model says
   * @param {Record<string, string>} [options.settings] settings of the server
   */
  constructor({ way, model, settings }) {
    this.#way = WAYS[way];
    this.#environment = {
      HOME: this.#path('home'),
      PATH: '/usr/local/bin:/usr/bin:/bin',
      LANG: 'C.UTF-8',
      TERM: 'xterm-256color',
      ANTHROPIC_API_KEY: KEY,
      DISABLE_AUTOUPDATER: '1',
      CLAUDE_SOCKET_BIN: SERVER,
      CLAUDE_SOCKET_PORT: String(this.#port),
      ...settings,
    };
    this.model = new Model(model);
    for (const folder of ['home', 'project']) mkdirSync(this.#path(folder));
    writeFileSync(this.#path('home', '.claude.json'), JSON.stringify(this.#configuration()));
    running.add(this);
  }

  /** Listens for Claude Code's requests to the model. */
  async prepare() {
    this.#environment.ANTHROPIC_BASE_URL = await this.model.start();
  }

  /** The address for apps. */
  get url() {
    return `ws://127.0.0.1:${this.#port}/?session=${SESSION}`;
  }

  /** Starts it with the channel and these arguments, and waits until it shows its prompt. */
  async start(...more) {
    const command = [CLAUDE_CODE, '--debug', '--permission-mode', 'default', '--allowedTools', 'Bash(sleep:*)', ...more];
    this.#tmux('new-session', '-d', '-x', '150', '-y', '50', ...command, ...this.#way.arguments);
    await until('Claude Code shows its prompt', () => {
      const screen = this.screen();
      if (screen.includes('I am using this for local development')) this.#tmux('send-keys', 'Enter');
      return /❯[^]*(shortcuts|mode on)/.test(screen);
    });
  }

  /** Waits until it takes messages: what is said before may be dropped. */
  async registersChannel() {
    await until('Claude Code registers the channel', () => this.#log().some((line) => line.includes('Channel notifications registered')));
  }

  /** Runs one of its commands, such as `mcp list`, and returns what that prints. */
  async run(...command) {
    const [flag, folder] = this.#way.arguments;
    const plugin = flag === '--plugin-dir' ? [flag, folder] : [];
    const options = { cwd: this.#path('project'), env: this.#environment, timeout: LIMIT };
    const { stdout } = await promisify(execFile)(CLAUDE_CODE, [...plugin, ...command], options);
    return stdout;
  }

  screen() {
    const lines = this.#tmux('capture-pane', '-p').split('\n');
    return lines.filter((line) => line.trim()).join('\n');
  }

  /**
   * Returns all that can be known of it, for a failure.
   * @param {Record<string, string[]>} more what else to show, by name
   */
  report(more) {
    const parts = {
      ...more,
      'the conversation, as the model was sent it last': this.model.conversation.map((message) => JSON.stringify(message)),
      'the end of its log': this.#log().slice(-LOG_LINES),
      'its screen': [this.screen()],
    };
    return Object.entries(parts).map(([name, lines]) => `--- ${name}:\n${lines.join('\n')}`).join('\n');
  }

  /** Ends it, and waits until it has. It can be started again. */
  end() {
    const pid = this.#tmux('list-panes', '-F', '#{pane_pid}').trim();
    this.#tmux('kill-server');
    if (pid) spawnSync('tail', ['--pid', pid, '-s', '0.05', '-f', '/dev/null'], { timeout: LIMIT });
  }

  /** Ends it for good, with its home. */
  kill() {
    running.delete(this);
    this.end();
    this.model.stop();
    // What it has started may still write there.
    rmSync(this.#root, { recursive: true, force: true, maxRetries: 10 });
  }

  #path(...parts) {
    return join(this.#root, ...parts);
  }

  /** What Claude Code would have asked for at its first start, and that it knows channels. */
  #configuration() {
    return {
      hasCompletedOnboarding: true,
      theme: 'dark',
      customApiKeyResponses: { approved: [KEY_TAIL], rejected: [] },
      cachedGrowthBookFeatures: { tengu_harbor: true, tengu_harbor_permissions: true },
      projects: { [this.#path('project')]: { hasTrustDialogAccepted: true, hasCompletedProjectOnboarding: true } },
      ...this.#way.configuration,
    };
  }

  /** Runs tmux on a terminal of this Claude Code alone; returns "" if it isn't there. */
  #tmux(...command) {
    const options = { cwd: this.#path('project'), env: this.#environment, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] };
    try {
      return execFileSync('tmux', ['-f', '/dev/null', '-S', this.#path('tmux'), ...command], options);
    } catch {
      return '';
    }
  }

  #log() {
    const folder = this.#path('home', '.claude', 'debug');
    const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith('.txt')) : [];
    const lines = files.flatMap((file) => readFileSync(join(folder, file), 'utf8').split('\n'));
    return lines.filter((line) => /MCP server/.test(line)).map((line) => line.slice(0, LOG_WIDTH));
  }
}
