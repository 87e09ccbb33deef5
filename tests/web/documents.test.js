// What the documents say: that the README's programs run, and that links lead somewhere.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
const binary = resolve(root, process.env.CLAUDE_SOCKET_TEST_BINARY ?? join(target, 'debug/claude-socket'));
const documents = spawnSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' }).stdout.trim().split('\n');
const read = (path) => readFileSync(join(root, path), 'utf8');

/** The blocks of a language under "Use it from …", with the server's port. */
function blocks(language, port) {
  const section = read('README.md').split('\n## Use it from')[1].split('\n## ')[0];
  const found = [...section.matchAll(new RegExp('^```' + language + '\n([\\s\\S]*?)^```', 'gm'))];
  assert.ok(found.length > 0, `there is no ${language}`);
  return found.map(([, code]) => code.replaceAll('127.0.0.1:3100', `127.0.0.1:${port}`));
}

/** A demo, as the README has it, on a free port, which is returned. */
async function demo(t) {
  const process = spawn(binary, ['demo', '--port', '0', '--pace', '1ms'], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => process.kill());
  for await (const line of createInterface(process.stdout)) {
    const address = /ws:\/\/127\.0\.0\.1:(\d+)/.exec(line);
    if (address) return address[1];
  }
  throw new Error('the demo has no address');
}

/** Runs a program to its end, and returns what it printed. */
function run(command, args, options = {}) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 120_000, ...options });
  assert.equal(status, 0, `${command}: ${stdout}${stderr}`);
  return stdout;
}

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), 'documents-'));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

const ANSWER = /How warm is it\?/;

test('the README’s JavaScript runs', async (t) => {
  const [code] = blocks('js', await demo(t));
  const file = join(folder(t), 'ask.mjs');
  writeFileSync(file, code.replace(`'claude-socket'`, `'${join(root, 'client/claude-socket.js')}'`));
  assert.match(run(process.execPath, ['--experimental-websocket', '--no-warnings', file]), ANSWER);
});

test('the README’s Python runs', async (t) => {
  const [code] = blocks('python', await demo(t));
  assert.match(run(join(target, 'python/bin/python'), ['-c', code]), ANSWER);
});

test('the README’s shell runs', async (t) => {
  const port = await demo(t);
  const env = { ...process.env, CLAUDE_SOCKET_PORT: port, PATH: `${dirname(binary)}:${process.env.PATH}` };
  const printed = run('sh', ['-eu', '-c', blocks('sh', port).join('\n')], { env });
  assert.match(printed, /load average/);
  assert.match(printed.trim().split('\n').at(-1), /"state":"answered"/);
});

test('the README’s Rust compiles and runs', async (t) => {
  const [code] = blocks('rust', await demo(t));
  const project = join(target, 'tmp/readme');
  mkdirSync(join(project, 'src'), { recursive: true });
  const manifest = ['[package]', 'name = "readme"', 'edition = "2024"', '[dependencies]', `claude-socket = { path = ${JSON.stringify(root)} }`, '[workspace]'];
  writeFileSync(join(project, 'Cargo.toml'), manifest.join('\n'));
  writeFileSync(join(project, 'src/main.rs'), code);
  // The same versions, which are there already.
  copyFileSync(join(root, 'Cargo.lock'), join(project, 'Cargo.lock'));
  assert.match(run('cargo', ['run', '--quiet', '--offline'], { cwd: project, env: { ...process.env, CARGO_TARGET_DIR: join(project, 'target') } }), ANSWER);
});

/** What GitHub calls a heading. */
const anchor = (heading) => heading.trim().toLowerCase().replace(/[`*]/g, '').replace(/\[(.*?)\]\(.*?\)/g, '$1').replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-');

test('every link in a document leads somewhere', () => {
  const broken = [];
  for (const path of documents) {
    const text = read(path).replace(/```[\s\S]*?```/g, '');
    for (const [, link] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [file, fragment] = link.split('#');
      const there = file ? join(dirname(path), file) : path;
      if (!existsSync(join(root, there))) broken.push(`${path}: ${link}`);
      else if (fragment && !read(there).split('\n').some((line) => /^#+ /.test(line) && anchor(line.replace(/^#+/, '')) === fragment)) broken.push(`${path}: ${link}`);
    }
  }
  assert.deepEqual(broken, []);
});
