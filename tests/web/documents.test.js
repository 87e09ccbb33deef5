// The documents: the README's programs and other marked commands run, and every link leads somewhere.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import { newPage } from './browser.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
const binary = resolve(root, process.env.CLAUDE_SOCKET_TEST_BINARY ?? join(target, 'debug/claude-socket'));
const documents = spawnSync('git', ['ls-files', '*.md'], { cwd: root, encoding: 'utf8' }).stdout.trim().split('\n');
const read = (path) => readFileSync(join(root, path), 'utf8');

/** Returns the README's programs in a language, from "Connect your own program", with the server's port. */
function programs(language, port) {
  const section = read('README.md').split('\n## Connect your own program')[1].split('\n## ')[0];
  return blocks(section, language).map((code) => code.replaceAll('127.0.0.1:3100', `127.0.0.1:${port}`));
}

/** Returns the code blocks of a language, of which there must be some. */
function blocks(text, language) {
  const found = [...text.matchAll(new RegExp('^```' + language + '\n([\\s\\S]*?)^```', 'gm'))];
  assert.ok(found.length > 0, `there is a block of ${language}`);
  return found.map(([, code]) => code);
}

/** Starts the README's demo on a free port, and returns the port. */
async function demo(t) {
  const process = spawn(binary, ['demo', '--port', '0', '--pace', '1ms'], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => process.kill());
  for await (const line of createInterface(process.stdout)) {
    const address = /ws:\/\/127\.0\.0\.1:(\d+)/.exec(line);
    if (address) return address[1];
  }
  throw new Error('the demo has no address');
}

/** Runs a program to its end, and returns its output. */
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

test('the README has no program that no test runs', () => {
  const section = read('README.md').split('\n## Connect your own program')[1].split('\n## ')[0];
  const languages = [...section.matchAll(/^```(\w+)$/gm)].map(([, language]) => language);
  assert.deepEqual(languages, ['html', 'js', 'sh', 'python']);
});

test('the README’s page runs in a browser', async (t) => {
  const [html] = programs('html', await demo(t));
  const files = {
    '/ask.html': ['text/html', html],
    '/claude-socket.js': ['text/javascript', read('client/claude-socket.js')],
  };
  const server = createServer(({ url }, response) => {
    const [type, content] = files[url] ?? ['text/plain', ''];
    response.writeHead(files[url] ? 200 : 404, { 'content-type': type }).end(content);
  });
  t.after(() => server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const page = await newPage({ expected: /404/ });
  t.after(() => page.context().close());
  await page.goto(`http://127.0.0.1:${server.address().port}/ask.html`);
  await page.getByRole('textbox', { name: 'Question' }).fill('How warm is it?');
  await page.getByRole('button', { name: 'Ask' }).click();
  await page.getByText(ANSWER).waitFor();
  assert.deepEqual(await page.wrongs(), []);
});

test('the README’s JavaScript runs', async (t) => {
  const [code] = programs('js', await demo(t));
  const project = folder(t);
  const modules = join(project, 'node_modules');
  mkdirSync(modules);
  symlinkSync(join(root, 'client'), join(modules, 'claude-socket'));
  symlinkSync(join(root, 'tests/web/node_modules/ws'), join(modules, 'ws'));
  writeFileSync(join(project, 'ask.mjs'), code);
  assert.match(run(process.execPath, ['ask.mjs'], { cwd: project }), ANSWER);
});

test('the README’s Python runs', async (t) => {
  const [code] = programs('python', await demo(t));
  assert.match(run(join(target, 'python/bin/python'), ['-c', code]), ANSWER);
});

test('the README’s shell commands run', async (t) => {
  const port = await demo(t);
  const env = { ...process.env, CLAUDE_SOCKET_PORT: port, PATH: `${dirname(binary)}:${process.env.PATH}` };
  const printed = run('sh', ['-eu', '-c', programs('sh', port).join('\n')], { env });
  assert.match(printed, /load average/);
  assert.match(printed.trim().split('\n').at(-1), /"state":"answered"/);
});

test('the Rust client’s README compiles and runs', async (t) => {
  const [code] = blocks(read('crates/client/README.md'), 'rust,no_run');
  const project = join(target, 'tmp/readme');
  mkdirSync(join(project, 'src'), { recursive: true });
  const client = JSON.stringify(join(root, 'crates/client'));
  const manifest = ['[package]', 'name = "readme"', 'edition = "2024"', '[dependencies]', `claude-socket-client = { path = ${client} }`, '[workspace]'];
  writeFileSync(join(project, 'Cargo.toml'), manifest.join('\n'));
  writeFileSync(join(project, 'src/main.rs'), code.replaceAll('127.0.0.1:3100', `127.0.0.1:${await demo(t)}`));
  // The same versions, which are there already.
  copyFileSync(join(root, 'Cargo.lock'), join(project, 'Cargo.lock'));
  const env = { ...process.env, CARGO_TARGET_DIR: join(project, 'target') };
  assert.match(run('cargo', ['run', '--quiet', '--offline'], { cwd: project, env }), /Should I open the window\?/);
});

test('the hooks for a raw MCP config are those of the plugin', (t) => {
  const [command] = blocks(read('docs/claude-code.md').split('\n## Hooks')[1], 'sh');
  const copy = folder(t);
  mkdirSync(join(copy, 'plugin/hooks'), { recursive: true });
  copyFileSync(join(root, 'plugin/hooks/hooks.json'), join(copy, 'plugin/hooks/hooks.json'));
  run('sh', ['-eu', '-c', command], { cwd: copy });
  const servers = ({ hooks }) => Object.values(hooks).flatMap((matchers) => matchers[0].hooks.map(({ server }) => server));
  const ours = JSON.parse(read('plugin/hooks/hooks.json'));
  const theirs = JSON.parse(readFileSync(join(copy, 'hooks.json'), 'utf8'));
  assert.deepEqual(new Set(servers(theirs)), new Set(['claude-socket']));
  for (const hook of Object.values(ours.hooks).flatMap((matchers) => matchers[0].hooks)) hook.server = 'claude-socket';
  assert.deepEqual(theirs.hooks, ours.hooks);
});

test('the story in tests/README is one of the stories', () => {
  const [example] = /(?:^    .*\n)+/m.exec(read('tests/README.md').split('\n## Stories')[1]);
  const stories = read('tests/stories/talking.txt').split(/\n\n/).map((story) => story.trim());
  assert.ok(stories.includes(example.replace(/^    /gm, '').trim()), example);
});

/** Returns the anchor that GitHub gives a heading. */
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
