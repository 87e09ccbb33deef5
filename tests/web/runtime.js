// A conversation of an app, in the runtime that runs this: `runtime.js ADDRESS`.

import process from 'node:process';

import { ClaudeSocket } from '../../client/claude-socket.js';

const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket;
const socket = new ClaudeSocket(process.argv[2], { WebSocket, user: 'ann' });
socket.on('reply', ({ content }) => console.log(content));
socket.connect();
const { state } = await socket.send('hello').answered;
console.log(state);
socket.disconnect();
