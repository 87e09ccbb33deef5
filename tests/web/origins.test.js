// Pages that are none of this machine's own, in a real Chromium: whatever they try, they
// neither connect nor read anything. The same page from a loopback origin can, which
// shows that it tries the right things.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { pathToFileURL } from 'node:url';

import { WebSocket } from 'ws';

import { Bridge, soon } from './bridge.js';
import { launch } from './browser.js';

/** What nobody else may get to know. */
const SECRET = 'the word is heliotrope';
/** A page with nothing in it but what a test has it do. */
const PAGE = '<!doctype html><title>a page</title><p>hello';

let browser;
let bridge;
let site;
let folder;

before(async () => {
  // Both names belong to an attacker, and lead to this machine.
  browser = await launch('--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebind.test 127.0.0.1');
  bridge = await Bridge.start();
  site = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end(PAGE));
  site.listen(0, '127.0.0.1');
  await once(site, 'listening');
  folder = await mkdtemp(join(tmpdir(), 'claude-socket-page-'));
  await writeFile(join(folder, 'page.html'), PAGE);
  // There is something to read, and something to decide.
  const owner = new WebSocket(`${bridge.url}/?session=secret`);
  await once(owner, 'open');
  owner.send(JSON.stringify({ type: 'message', content: SECRET, id: 'a1' }));
  await bridge.heard();
  bridge.ask('abcde');
  await once(owner, 'message');
  owner.close();
  await gone();
});

after(async () => {
  site.close();
  site.closeAllConnections();
  await rm(folder, { recursive: true });
  await bridge.kill();
});

/** How things are, as a program on this machine sees it. */
const health = async () => (await fetch(`http://${bridge.host}/healthz`)).json();

/** Waits until nobody is connected. */
const gone = () =>
  soon(
    (async () => {
      while ((await health()).clients > 0);
    })(),
    'everyone to leave',
  );

/** Everything that a page can try. Runs in the page, and returns what came of each. */
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
    const heard = [];
    socket.onopen = () => {
      socket.send(JSON.stringify({ type: 'message', content: 'rm -rf /', session_id: 'secret' }));
      socket.send(JSON.stringify({ type: 'permission_response', request_id: 'abcde', allowed: true }));
      socket.send(JSON.stringify({ type: 'fetch_history' }));
    };
    socket.onmessage = ({ data }) => {
      heard.push(data);
      if (JSON.parse(data).type === 'history') resolve(`read: ${heard}`);
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

/** Has a page, or a frame of one, try everything, and looks at what came of it. */
async function isKeptOut(page, hosts) {
  for (const host of hosts) {
    const outcomes = await page.evaluate(attack, host);
    for (const [what, came] of Object.entries(outcomes)) {
      // A page of the name that was rebound may read the sentence that refuses it.
      const refusal = /^read: \w* ?\{"error":"[^"]+\}\n?$|"status":"error"/;
      const harmless = came === 'blocked' || came === 'read: opaque ' || came === 'read: null' || refusal.test(came);
      assert.ok(harmless, `${what} to ${host}: ${came}`);
      for (const secret of [SECRET, 'claude-code', 'sessions', 'touch made']) {
        assert.ok(!came.includes(secret), `${what} to ${host}: ${came}`);
      }
    }
  }
  // It was the server that said no, and nobody has noticed anything else.
  await bridge.logged('refused');
  const { clients, permissions } = await health();
  assert.deepEqual({ clients, permissions }, { clients: 0, permissions: 1 });
  assert.deepEqual(bridge.said.rest, []);
}

/** All the names of the server that get there. */
const hosts = () => [`127.0.0.1:${bridge.port}`, `localhost:${bridge.port}`, `rebind.test:${bridge.port}`];

test('a page from another origin', async () => {
  const page = await browser.newPage();
  await page.goto(`http://evil.test:${site.address().port}/`);
  await isKeptOut(page, hosts());
});

test('a page that shows the chat as a part of itself, to have it clicked on', async () => {
  const page = await browser.newPage();
  const chat = `http://127.0.0.1:${bridge.port}/`;
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

test('a sandboxed iframe, even in a page of this machine', async () => {
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

test('a page from a file', async () => {
  const page = await browser.newPage();
  await page.goto(pathToFileURL(join(folder, 'page.html')).href);
  await isKeptOut(page, hosts());
});

test('a page reached through a rebound name', async () => {
  const page = await browser.newPage();
  // It came from the attacker's own server, before the name began to lead here.
  const url = `http://rebind.test:${bridge.port}/attack`;
  await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body: PAGE }));
  await page.goto(url);
  await isKeptOut(page, hosts());
  const answer = await page.goto(`http://rebind.test:${bridge.port}/`);
  assert.equal(answer.status(), 403);
});

// The last one: it connects.
test('a page of this machine is let in', async () => {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  const outcomes = await page.evaluate(attack, `127.0.0.1:${bridge.port}`);
  assert.match(outcomes.socket, /heliotrope/);
  assert.equal((await bridge.heard()).content, 'rm -rf /');
  assert.equal(await bridge.verdict('abcde'), 'allow');
});
