// The client library in each runtime but browsers, which the tests of the pages have.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { Server } from './server.js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

for (const [name, command, ...args] of [
  ['Node', process.execPath],
  ['Bun', here('node_modules/.bin/bun')],
  ['Deno', here('node_modules/.bin/deno'), 'run', '--allow-net', '--allow-read', '--no-config', '--no-remote', '--quiet'],
]) {
  test(name, async (t) => {
    const server = await Server.start();
    t.after(() => server.kill());
    const env = { ...process.env, DENO_NO_UPDATE_CHECK: '1' };
    const run = promisify(execFile)(command, [...args, here('runtime.js'), server.url], { env, timeout: 20_000 });
    assert.equal((await server.nextMessage()).meta.user, 'ann');
    await server.reply('hello from here');
    const { stdout, stderr } = await run;
    assert.deepEqual(stdout.trim().split('\n').sort(), ['answered', 'hello from here'], stderr);
  });
}
