// The screen for the wall, in a real Chromium, as a viewer, served as its README says.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { once } from 'node:events';
import { extname, join, normalize } from 'node:path';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';

import { WebSocket } from 'ws';

import { ClaudeSocket } from '../../client/claude-socket.js';
import { Server, run, soon } from './server.js';
import { newPage, until } from './browser.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
const SHOTS = process.env.SCREENSHOTS;

/** Serves the repository. The page there names the test's server, and polls more often. */
async function site(t, server) {
  const site = createServer(async ({ url }, response) => {
    let path = normalize(new URL(url, 'http://site').pathname);
    if (path.endsWith('/')) path += 'index.html';
    try {
      let content = await readFile(join(ROOT, path));
      if (path.endsWith('.html')) content = String(content).replace('ws://127.0.0.1:3100', server);
      if (path.endsWith('dashboard.js')) content = String(content).replace('PAUSE = 1000', 'PAUSE = 20');
      response.setHeader('Content-Type', TYPES[extname(path)]).end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  t.after(() => (site.close(), site.closeAllConnections()));
  return `http://127.0.0.1:${site.address().port}/examples/dashboard/`;
}

/** Starts a server with tokens of these roles, and returns both. */
async function guarded(t, tokens) {
  const folder = await mkdtemp(join(tmpdir(), 'claude-socket-wall-'));
  t.after(() => rm(folder, { recursive: true }));
  const made = {};
  for (const [name, role] of Object.entries(tokens)) {
    made[name] = run('token', 'add', name, '--role', role, '--state-dir', folder);
  }
  const server = await Server.start({ flags: ['--state-dir', folder] });
  t.after(() => server.kill());
  return { server, folder, ...made };
}

async function client(t, url, token, session) {
  const socket = new ClaudeSocket(url, { WebSocket, token, session });
  t.after(() => socket.disconnect());
  const here = new Promise((resolve) => socket.on('welcome', resolve));
  socket.connect();
  await soon(here, 'welcome');
  return socket;
}

/** Returns the text of the cards. */
const cards = (page) =>
  page.locator('article').evaluateAll((cards) =>
    cards.map((card) => [card.querySelector('h2'), card.querySelector('.status'), card.querySelector('.last')].map((part) => part.innerText.trim())),
  );

/** Waits until a text is visible. */
const shows = (page, text) => until(page, (text) => document.body.innerText.includes(text), text);

test('a viewer sees all sessions, Claude’s status and the number of prompts', async (t) => {
  const { server, folder, wall, ann } = await guarded(t, { wall: 'viewer', ann: 'operator' });
  const page = await newPage({ viewport: { width: 1920, height: 1080 } });
  const shot = (name) => SHOTS && page.screenshot({ path: join(SHOTS, `dashboard-${name}.png`) });
  await page.goto(`${await site(t, server.url)}#token=${wall}`);
  await shows(page, 'Nobody has talked to Claude yet.');
  assert.ok(!page.url().includes(wall), 'the address has lost the token');
  await shot('empty');

  const greenhouse = await client(t, server.url, ann, 'greenhouse');
  await greenhouse.send('How warm is it in there? <img src=x onerror=alert(1)>').accepted;
  await server.status('tool_use', 'Bash: read the thermometer', 'greenhouse');
  const house = await client(t, server.url, ann, 'house');
  await house.send('Good night').accepted;
  await server.reply('Good night. The doors are closed, the lights are off, and the heating is down to 17 °C until six in the morning. '.repeat(3), 'house');
  await server.nextMessage();
  await server.nextMessage();
  server.ask('abcde', 'Bash', 'open the roof', { command: 'roof --open' });
  await shows(page, '1 prompt waits');
  await shows(page, 'Bash: read the thermometer');
  await shows(page, 'The doors are closed');
  const [first, second] = await cards(page);
  assert.deepEqual(first, ['greenhouse', 'Bash: read the thermometer', 'ann: How warm is it in there? <img src=x onerror=alert(1)>']);
  assert.deepEqual([second[0], second[1]], ['house', 'idle']);
  assert.match(second[2], /^Claude: Good night\./);
  assert.ok(!(await page.content()).includes('roof'), 'what waits is for operators');
  await shot('busy');

  greenhouse.respondToPermission('abcde', false);
  await until(page, () => document.getElementById('waiting').hidden);
  await server.reply('It is 23 °C.', 'greenhouse');
  await shows(page, 'It is 23 °C.');

  // Only the screen is left, which must not count as somebody who has received the reply.
  house.disconnect();
  await shows(page, '0 clients');
  await server.reply('One more thing.', 'house');
  await shows(page, 'One more thing.');
  const back = await client(t, server.url, ann, 'house');
  assert.equal((await back.fetchHistory(1)).messages[0].content, 'One more thing.');

  // Many sessions fit on the screen.
  for (let n = 1; n <= 7; n += 1) await client(t, server.url, ann, `sensor-${n}`);
  await until(page, () => document.querySelectorAll('article').length === 9);
  const fits = await page.evaluate(() => document.documentElement.scrollHeight <= innerHeight && document.documentElement.scrollWidth <= innerWidth);
  await shot('many');
  assert.ok(fits, 'nobody scrolls a wall');

  run('token', 'remove', 'wall', '--state-dir', folder);
  await shows(page, 'The token is not valid any more.');
  await shot('lost');
  // The line from the beginning.
  await server.logged('the tokens were read: 2');
  await page.getByLabel('Token of a viewer').fill(run('token', 'add', 'wall', '--role', 'viewer', '--state-dir', folder));
  await server.logged('the tokens were read: 2');
  await page.getByRole('button', { name: 'Show' }).click();
  await shows(page, 'One more thing.');
  assert.deepEqual(await page.wrongs(), []);
  await page.context().close();
});

test('the screen reconnects, and asks for a token if the server needs one', async (t) => {
  const { server, wall } = await guarded(t, { wall: 'viewer' });
  const page = await newPage({ viewport: { width: 390, height: 760 }, expected: /401/ });
  await page.goto(await site(t, server.url));
  await page.getByLabel('Token of a viewer').fill(wall);
  await page.getByRole('button', { name: 'Show' }).click();
  await shows(page, 'Nobody has talked to Claude yet.');
  await server.kill();
  await shows(page, 'No connection to');
  assert.deepEqual(await page.wrongs(), []);
  await page.context().close();
});
