// A TCP proxy between a client and a server. A test can cut its connections, refuse new ones, and
// drop what the server sends.

import { createConnection, createServer } from 'node:net';
import { once } from 'node:events';

export class Wire {
  #links = new Set();
  /** Drops what the server sends. */
  deaf = false;
  /** Refuses new connections. */
  down = false;

  /** Starts a proxy for the server on this port. */
  static async to(port) {
    const wire = new Wire();
    wire.server = createServer((client) => wire.#connect(client, port));
    wire.server.listen(0, '127.0.0.1');
    await once(wire.server, 'listening');
    wire.url = `ws://127.0.0.1:${wire.server.address().port}`;
    return wire;
  }

  #connect(client, port) {
    if (this.down) return client.destroy();
    const server = createConnection(port, '127.0.0.1');
    const link = [client, server];
    this.#links.add(link);
    client.on('data', (data) => server.write(data));
    server.on('data', (data) => this.deaf || client.write(data));
    const end = () => {
      this.#links.delete(link);
      for (const socket of link) socket.destroy();
    };
    for (const socket of link) socket.on('close', end).on('error', end);
  }

  /** Cuts all connections. */
  cut() {
    for (const link of this.#links) for (const socket of link) socket.destroy();
  }

  close() {
    this.cut();
    this.server.close();
  }
}
