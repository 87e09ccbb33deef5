// Pages of other origins in a real Chromium neither connect nor read anything. The same page from a
// loopback origin does, which shows that it tries the right things.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { pathToFileURL } from 'node:url';

import { WebSocket } from 'ws';

import { Server, soon } from './server.js';
import { launch } from './browser.js';

/** Must not reach any other page. */
const SECRET = 'the word is heliotrope';
/** An empty page, in which a test runs its code. */
const PAGE = '<!doctype html><title>a page</title><p>hello';

let browser;
let server;
let site;
let folder;

before(async () => {
  // Both names belong to an attacker, and resolve to this machine.
  browser = await launch('--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebind.test 127.0.0.1');
  server = await Server.start();
  site = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end(PAGE));
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  folder = await mkdtemp(join(tmpdir(), 'claude-socket-page-'));
  await writeFile(join(folder, 'page.html'), PAGE);
  // A history to read, and a prompt to answer.
  const owner = new WebSocket(`${server.url}/?session=secret`);
  await once(owner, 'open');
  owner.send(JSON.stringify({ type: 'message', content: SECRET, id: 'a1' }));
  await server.nextMessage();
  server.ask('abcde');
  await once(owner, 'message');
  owner.close();
  await gone();
});

after(async () => {
  site.close();
  site.closeAllConnections();
  await rm(folder, { recursive: true });
  await server.kill();
});

/** Returns the server's health, as a program on this machine gets it. */
const health = async () => (await fetch(`http://${server.host}/healthz`)).json();

/** Waits until no client is connected. */
const gone = () =>
  soon(
    (async () => {
      while ((await health()).clients > 0);
    })(),
    'everyone to leave',
  );

/** Tries every way in. Runs in the page, and returns the outcome of each. */
async function attack(host) {
  const LATE = 5_000;
  const outcome = (begin) =>
    new Promise((resolve) => {
      setTimeout(resolve, LATE, 'nothing came');
      begin(resolve);
    });
  const body = (init) => async (resolve) => {
    try {
      const response = await fetch(`http://${host}/healthz`, init);
      resolve(`read: ${response.type} ${await response.text()}`);
    } catch {
      resolve('blocked');
    }
  };
  const element = (name, attribute, path) => (resolve) => {
    const made = document.createElement(name);
    if (name === 'link') made.rel = 'stylesheet';
    made[attribute] = `http://${host}${path}`;
    made.onload = () => resolve('loaded');
    made.onerror = () => resolve('blocked');
    document.body.append(made);
  };
  const socket = (protocols) => (resolve) => {
    const socket = new WebSocket(`ws://${host}/?session=secret`, protocols);
    const received = [];
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: 'message', content: 'rm -rf /', session_id: 'secret' }));
      socket.send(JSON.stringify({ type: 'permission_response', request_id: 'abcde', allowed: true }));
      socket.send(JSON.stringify({ type: 'fetch_history' }));
    };
    socket.onmessage = ({ data }) => {
      received.push(data);
      if (JSON.parse(data).type === 'history') resolve(`read: ${received}`);
    };
    socket.onclose = () => resolve('blocked');
  };
  return {
    socket: await outcome(socket()),
    'socket with a subprotocol': await outcome(socket(['claude-socket', 'bearer.guess'])),
    fetch: await outcome(body()),
    'fetch with credentials': await outcome(body({ credentials: 'include' })),
    'fetch without CORS': await outcome(body({ mode: 'no-cors' })),
    'fetch with a header of its own': await outcome(body({ headers: { Authorization: 'Bearer guess' } })),
    post: await outcome(body({ method: 'POST', mode: 'no-cors', body: '{"type":"message","content":"rm -rf /"}' })),
    XMLHttpRequest: await outcome((resolve) => {
      const request = new XMLHttpRequest();
      request.open('GET', `http://${host}/metrics`);
      request.onload = () => resolve(`read: ${request.responseText}`);
      request.onerror = () => resolve('blocked');
      request.send();
    }),
    EventSource: await outcome((resolve) => {
      const source = new EventSource(`http://${host}/`);
      source.onopen = () => resolve('read: it is open');
      source.onerror = () => (source.close(), resolve('blocked'));
    }),
    script: await outcome(element('script', 'src', '/healthz')),
    style: await outcome(element('link', 'href', '/metrics')),
    image: await outcome(element('img', 'src', '/')),
    frame: await outcome((resolve) => {
      const frame = document.createElement('iframe');
      frame.src = `http://${host}/healthz`;
      frame.onload = () => {
        try {
          resolve(`read: ${frame.contentDocument.body.innerText}`);
        } catch {
          resolve('blocked');
        }
      };
      document.body.append(frame);
    }),
  };
}

/** Has a page or frame try every way in, and checks that none works. */
async function isKeptOut(page, hosts) {
  for (const host of hosts) {
    const outcomes = await page.evaluate(attack, host);
    for (const [what, came] of Object.entries(outcomes)) {
      // A page under a rebound name may read why it is refused.
      const refusal = /^read: \w* ?\{"error":"[^"]+\}\n?$|"status":"error"/;
      const harmless = came === 'blocked' || came === 'read: opaque ' || came === 'read: null' || refusal.test(came);
      assert.ok(harmless, `${what} to ${host}: ${came}`);
      for (const secret of [SECRET, 'claude-code', 'sessions', 'touch made']) {
        assert.ok(!came.includes(secret), `${what} to ${host}: ${came}`);
      }
    }
  }
  // The server has refused, and nothing else has happened.
  await server.logged('refused');
  const { clients, permissions } = await health();
  assert.deepEqual({ clients, permissions }, { clients: 0, permissions: 1 });
  assert.deepEqual(server.notifications.rest, []);
}

/** All names that resolve to the server. */
const hosts = () => [`127.0.0.1:${server.port}`, `localhost:${server.port}`, `rebind.test:${server.port}`];

test('a page from another origin gets nothing', async () => {
  const page = await browser.newPage();
  await page.goto(`http://evil.test:${site.address().port}/`);
  await isKeptOut(page, hosts());
});

test('a page cannot show the chat in a frame', async () => {
  const page = await browser.newPage();
  const chat = `http://127.0.0.1:${server.port}/`;
  await page.goto(chat);
  const writing = 'textarea, [contenteditable]';
  assert.ok(await page.locator(writing).count(), 'by itself it is there');
  await page.goto(`http://evil.test:${site.address().port}/`);
  const loaded = page.waitForEvent('framenavigated', (frame) => frame !== page.mainFrame());
  await page.evaluate((chat) => {
    document.body.append(Object.assign(document.createElement('iframe'), { src: chat }));
  }, chat);
  const frame = await loaded;
  assert.equal(await frame.locator(writing).count(), 0);
  assert.notEqual(frame.url(), chat);
  await page.close();
  await gone();
});

test('a sandboxed frame gets nothing, even in a page of this machine', async () => {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  const loaded = page.waitForEvent('framenavigated', (frame) => frame !== page.mainFrame());
  await page.evaluate((html) => {
    const frame = document.createElement('iframe');
    frame.sandbox = 'allow-scripts';
    frame.srcdoc = html;
    document.body.append(frame);
  }, PAGE);
  const frame = await loaded;
  assert.equal(await frame.evaluate(() => self.origin), 'null');
  await isKeptOut(frame, hosts());
});

test('a page from a file gets nothing', async () => {
  const page = await browser.newPage();
  await page.goto(pathToFileURL(join(folder, 'page.html')).href);
  await isKeptOut(page, hosts());
});

test('a page under a rebound name gets nothing', async () => {
  const page = await browser.newPage();
  // It came from the attacker's server, before the name resolved to this machine.
  const url = `http://rebind.test:${server.port}/attack`;
  await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body: PAGE }));
  await page.goto(url);
  await isKeptOut(page, hosts());
  const answer = await page.goto(`http://rebind.test:${server.port}/`);
  assert.equal(answer.status(), 403);
});

/** Imports the client and asks the server. Runs in the page. */
async function readEverything({ host, headers }) {
  const { ClaudeSocket } = await import(`http://${host}/client/claude-socket.js`);
  const ask = async (path, init) => {
    const answer = await fetch(`http://${host}${path}`, init);
    const { status, code } = await answer.json();
    return [answer.status, code ?? status];
  };
  return {
    client: typeof ClaudeSocket,
    health: await ask('/healthz', { headers }),
    socket: await ask('/?session=s1', { headers }),
    // Asked for first, because it isn't a simple request.
    wrong: await ask('/', { headers: { Authorization: 'Bearer wrong' } }),
    missing: await ask('/api/nothing', { headers }),
  };
}

test('a page of another server on this machine may read', async () => {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  const read = await page.evaluate(readEverything, { host: `127.0.0.1:${server.port}` });
  assert.deepEqual(read, {
    client: 'function',
    health: [200, 'ok'],
    socket: [200, 'ok'],
    wrong: [200, 'ok'],
    missing: [404, 'not_found'],
  });
});

test('a page that was given a token may read, and is told why another one is refused', async () => {
  const token = 'a-token-of-32-characters-or-more';
  const locked = await Server.start({ env: { CLAUDE_SOCKET_TOKEN: token } });
  const headers = { Authorization: `Bearer ${token}` };
  for (const name of ['localhost', 'evil.test']) {
    const page = await browser.newPage();
    await page.goto(`http://${name}:${site.address().port}/`);
    const read = await page.evaluate(readEverything, { host: `127.0.0.1:${locked.port}`, headers });
    assert.deepEqual(read, {
      client: 'function',
      health: [200, 'ok'],
      socket: [200, 'ok'],
      wrong: [401, 'unauthorized'],
      missing: [404, 'not_found'],
    });
  }
  await locked.kill();
});

// Must be the last test, because it connects.
test('a page of this machine connects', async () => {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  const outcomes = await page.evaluate(attack, `127.0.0.1:${server.port}`);
  assert.match(outcomes.socket, /heliotrope/);
  assert.equal((await server.nextMessage()).content, 'rm -rf /');
  assert.equal(await server.verdict('abcde'), 'allow');
});
