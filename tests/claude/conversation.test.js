// What really gets into Claude's conversation, and what clients are told of it. Only the model's
// requests say so: they hold the whole conversation.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'node:test';

import { App, QueuingApp } from './apps.js';
import { ClaudeCode } from './claude-code.js';
import { reply, replyToAll } from './model.js';
import { until } from './until.js';

const WORDS = Array.from({ length: 14 }, (_, index) => `word ${index + 1}`);
/** The last message of a test: what isn't in the conversation before it never gets there. */
const LAST = 'the last word';

/** Milliseconds after which a test is ended. */
const TEST_TIMEOUT = 90_000;
/** Milliseconds after which a busy loop ends by itself, whatever becomes of the test. */
const MAX_BUSY = 60_000;

/**
 * Runs a test with a Claude Code and an app of its own. A failure reports everything about both.
 * @param {string} name
 * @param {{way: string, App?: typeof App | typeof QueuingApp, model?: Function, settings?: object, busy?: number}} options
 * @param {(claude: ClaudeCode, app: App & QueuingApp) => Promise<void>} body
 */
function testClaude(name, { way, App: AppKind = App, model = replyToAll, settings, busy = 0 }, body) {
  test(`${name} (${way})`, { timeout: TEST_TIMEOUT }, async () => {
    const loops = Array.from({ length: busy }, busyLoop);
    const claude = new ClaudeCode({ way, model, settings });
    const app = new AppKind();
    try {
      await claude.prepare();
      await body(claude, app);
    } catch (error) {
      console.error(`"${name} (${way})" has failed:\n${claude.report({ "the app's receipts": app.receipts.lines })}`);
      throw error;
    } finally {
      app.close();
      claude.kill();
      for (const loop of loops) loop.kill();
    }
  });
}

function busyLoop() {
  return spawn(process.execPath, ['-e', `for (const end = Date.now() + ${MAX_BUSY}; Date.now() < end; );`], { stdio: 'ignore' });
}

/** Waits until a message of a client is in the conversation. */
function reaches(claude, content) {
  return until(`"${content}" in the conversation`, () => contents(claude).includes(content));
}

const contents = (claude) => claude.model.messages.map(({ content }) => content);

// 14 messages at the start.

for (const { AppKind, how, way, busy } of [
  { AppKind: App, how: '25 ms apart', way: 'plugin' },
  { AppKind: App, how: '25 ms apart', way: 'raw config' },
  { AppKind: App, how: '25 ms apart, on a busy machine', way: 'plugin', busy: 4 },
  { AppKind: App, how: '25 ms apart, on a busy machine', way: 'raw config', busy: 4 },
  { AppKind: QueuingApp, how: "from the npm package's queue", way: 'plugin' },
  { AppKind: QueuingApp, how: "from the npm package's queue", way: 'raw config' },
]) {
  testClaude(`words right after the start get into the conversation: ${how}`, { way, App: AppKind, busy }, async (claude, app) => {
    await Promise.all([claude.start(), sayAll(claude, app)]);
    // Without hooks a reply answers the oldest word, and of the others nobody knows more than that Claude Code has them.
    const settled = ['answered', 'unseen', 'rejected', ...(way === 'plugin' ? [] : ['accepted'])];
    await until('what became of each word', () => WORDS.every((word) => settled.includes(app.receipts.state(word))));
    app.say(LAST);
    await reaches(claude, LAST);

    const got = contents(claude);
    const claimed = WORDS.filter((word) => ['seen', 'answered'].includes(app.receipts.state(word)));
    assert.deepEqual(claimed.filter((word) => !got.includes(word)), [], 'said to be seen or answered, and not in the conversation');
    assert.deepEqual(got, [...WORDS, LAST], 'the conversation');
  });
}

/** Says the words as soon as the server is there; the npm package takes them before. */
async function sayAll(claude, app) {
  await app.connect(claude.url);
  for (const word of WORDS) {
    app.say(word);
    await pause(25);
  }
}

for (const way of ['plugin', 'raw config']) {
  // `claude mcp list` starts the server for a moment, and drops what it says.
  testClaude('a word that waits is not lost on claude mcp list', { way, App: QueuingApp }, async (claude, app) => {
    await app.connect(claude.url);
    app.say('are you there?');
    const listed = await claude.run('mcp', 'list');
    assert.match(listed, /claude-socket.*Connected/);
    assert.ok(app.connections > 0, 'the app was not quick enough to connect to the server of claude mcp list');
    await claude.start();
    await reaches(claude, 'are you there?');
    app.say(LAST);
    await reaches(claude, LAST);
    assert.deepEqual(contents(claude), ['are you there?', LAST]);
  });

  const settings = { CLAUDE_SOCKET_SESSION_TTL: '2s' };
  // The session would be forgotten while Claude is at work for it.
  testClaude('an answer after the session’s time is there when the app is back', { way, settings, model: slowAtFirst() }, async (claude, app) => {
    await claude.start();
    await claude.registersChannel();
    await app.connect(claude.url);
    app.say('take your time');
    await reaches(claude, 'take your time');
    app.close();
    await until('the reply', () => JSON.stringify(claude.model.conversation).includes('here you are'));
    await until("the reply tool's result", () => claude.model.conversation.at(-1).role !== 'assistant');

    await app.connect(claude.url);
    app.send({ type: 'fetch_history' });
    const history = await until('the history', () => app.frames.find(({ type }) => type === 'history'));
    assert.deepEqual(history.messages.map(({ content }) => content), ['take your time', 'here you are']);
    app.say('take your time');
    app.say(LAST);
    await reaches(claude, LAST);
    assert.deepEqual(contents(claude), ['take your time', LAST]);
  });
}

for (const way of ['plugin', 'raw config']) {
  testClaude('what was said is there when Claude Code has been started again', { way }, async (claude, app) => {
    await claude.start();
    await claude.registersChannel();
    await app.connect(claude.url);
    app.say('hello');
    await until('an answer', () => app.receipts.state('hello') === 'answered');
    claude.end();

    await claude.start('--continue');
    await app.connect(claude.url);
    app.send({ type: 'fetch_history' });
    const history = await until('the history', () => app.frames.find(({ type }) => type === 'history'));
    assert.deepEqual(history.messages.map(({ role, state }) => [role, state]), [['user', 'answered'], ['assistant', undefined]]);
    app.receipts.all = [];
    app.say('hello');
    await until('what became of it', () => app.receipts.state('hello') === 'answered');
    app.say(LAST);
    await reaches(claude, LAST);
    assert.deepEqual(contents(claude), ['hello', LAST]);
  });

  // The server that `claude mcp list` starts has the same project, and gets no message.
  testClaude('a word that waits on disk is given to the next Claude Code, once', { way }, async (claude, app) => {
    const listed = claude.run('mcp', 'list');
    await app.connect(claude.url);
    app.say('are you there?');
    await listed;
    assert.equal(app.receipts.state('are you there?'), 'queued');
    await claude.start();
    await reaches(claude, 'are you there?');
    await app.connect(claude.url);
    app.say(LAST);
    await reaches(claude, LAST);
    assert.deepEqual(contents(claude), ['are you there?', LAST]);
  });
}

/** A model that works for four seconds before it answers the first message. */
function slowAtFirst() {
  const steps = [{ tool: 'Bash', input: { command: 'sleep 4' } }, reply('here you are')];
  return ({ messages, results }) => (messages.length > 0 || results.length > 0) && steps.shift();
}

testClaude('the hooks add nothing to the conversation', { way: 'plugin' }, async (claude, app) => {
  await claude.start();
  await claude.registersChannel();
  await app.connect(claude.url);
  for (const word of ['hello', 'again', LAST]) {
    app.say(word);
    await until(`an answer to "${word}"`, () => app.receipts.state(word) === 'answered');
  }
  assert.deepEqual(contents(claude), ['hello', 'again', LAST]);
  assert.deepEqual(claude.model.texts.filter((text) => /UserPromptSubmit|hook success/i.test(text)), []);
});
