// Clients that are there before the server: one that speaks the protocol by itself, and the npm
// package, whose messages wait in its queue.

import { WebSocket } from 'ws';

import { ClaudeSocket } from '../../client/claude-socket.js';
import { until } from './until.js';

/** Milliseconds between two tries to connect. */
const RETRY = 5;

/** What both have: the receipts of their messages. */
class Receipts {
  /** Every receipt, oldest first: `{id, state}` and more. */
  all = [];

  /** The last state of a message; undefined before the first. */
  state(id) {
    return this.all.findLast((receipt) => receipt.id === id)?.state;
  }

  /** For the report of a failure. */
  get lines() {
    return this.all.map(({ id, state, code = '' }) => `${id} ${state} ${code}`);
  }
}

/** A client that speaks the protocol by itself. */
export class App {
  receipts = new Receipts();
  /** What the server has sent other than receipts. */
  frames = [];
  #socket;

  /** Tries until the server is there. */
  async connect(url) {
    await until('the server listens', () => this.#isOpen(url), RETRY);
  }

  send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  say(id) {
    this.send({ type: 'message', id, content: id, user: 'ann' });
  }

  close() {
    this.#socket?.close();
  }

  #isOpen(url) {
    const socket = new WebSocket(url);
    socket.on('message', (data) => {
      const frame = JSON.parse(String(data));
      (frame.type === 'delivery' ? this.receipts.all : this.frames).push(frame);
    });
    this.#socket = socket;
    return new Promise((resolve) => {
      socket.on('open', () => resolve(true));
      socket.on('error', () => resolve(false));
    });
  }
}

/** The npm package. */
export class QueuingApp {
  receipts = new Receipts();
  /** How often it has connected. */
  connections = 0;
  #socket;

  async connect(url) {
    this.#socket = new ClaudeSocket(url, { WebSocket, user: 'ann', reconnectDelay: RETRY, maxReconnectDelay: 2 * RETRY });
    this.#socket.on('delivery', (receipt) => this.receipts.all.push(receipt));
    this.#socket.on('connected', () => (this.connections += 1));
    this.#socket.connect();
  }

  say(id) {
    this.#socket.send(id, { id });
  }

  close() {
    this.#socket?.disconnect();
  }
}
