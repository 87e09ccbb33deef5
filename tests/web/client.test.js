import { test } from 'node:test';
import assert from 'node:assert/strict';

import { WebSocket } from 'ws';

import { Bridge } from './bridge.js';

test('a message reaches Claude Code', async () => {
  const bridge = await Bridge.start();
  const socket = new WebSocket(`${bridge.url}/`);
  socket.on('open', () => socket.send(JSON.stringify({ type: 'message', content: 'hello' })));
  assert.equal((await bridge.heard()).content, 'hello');
  socket.close();
  await bridge.stop();
});
