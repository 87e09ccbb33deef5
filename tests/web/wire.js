// The network between a client and a server: a TCP connection that a test can cut, and
// on which it can lose what one side says.

import { createConnection, createServer } from 'node:net';
import { once } from 'node:events';

export class Wire {
  #links = new Set();
  /** What the server says is lost. */
  deaf = false;
  /** New connections are refused. */
  down = false;

  /** A wire to the server on this port. */
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

  /** Cuts every connection. */
  cut() {
    for (const link of this.#links) for (const socket of link) socket.destroy();
  }

  close() {
    this.cut();
    this.server.close();
  }
}
