// The client library's types: generated from its source, and strict.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const tsc = (...args) => spawnSync(process.execPath, [here('node_modules/typescript/bin/tsc'), ...args], { encoding: 'utf8' });

test('the declarations are generated from the source', (t) => {
  const folder = mkdtempSync(`${tmpdir()}/types-`);
  t.after(() => rmSync(folder, { recursive: true }));
  const { status, stdout } = tsc('-p', here('../../client'), '--outDir', folder);
  assert.equal(status, 0, stdout);
  const [made, kept] = [`${folder}/claude-socket.d.ts`, here('../../client/claude-socket.d.ts')].map((path) => readFileSync(path, 'utf8'));
  assert.equal(kept, made, 'client/claude-socket.d.ts is out of date; run: npm run types --prefix tests/web');
});

test('correct use compiles in strict mode, and misuse does not', () => {
  const { status, stdout } = tsc('-p', here('types'));
  assert.equal(status, 0, stdout);
});

test('the package has what it needs, and nothing else', () => {
  const [{ files, version }] = JSON.parse(
    execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: here('../../client'), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  assert.deepEqual(files.map(({ path }) => path).sort(), ['LICENSE', 'README.md', 'claude-socket.d.ts', 'claude-socket.js', 'package.json']);
  const [, crate] = /^version = "(.*)"$/m.exec(readFileSync(here('../../Cargo.toml'), 'utf8'));
  assert.equal(version, crate, 'client/package.json and Cargo.toml have the same version');
});
