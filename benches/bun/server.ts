// A server that speaks the same protocol as claude-socket, in TypeScript on Bun, to compare with.
//
// It is written the usual way: one process, one event loop, Bun's own WebSocket
// server, and for a reply Bun's own publish to a topic. It speaks the part of the protocol that
// all servers of this kind share: messages, replies, statuses, histories, permission requests.
// It is not the TypeScript server that claude-socket replaces, but has the same shape. It leaves out
// what would slow it down: the MCP SDK, tokens, origins, receipts, limits, a log. A complete server
// on Bun starts later, and needs more memory.
//
//     CLAUDE_SOCKET_PORT=3100 bun benches/bun/server.ts
import type { ServerWebSocket } from 'bun';

type Client = ServerWebSocket<{ session: string; joined: Set<string> }>;
type Message = { role: 'user' | 'assistant'; content: string; ts: string };
type Session = { history: Message[]; clients: number; end?: Timer };

const HISTORY = 100;
const TTL = 5 * 60 * 1000;
const sessions = new Map<string, Session>();
const permissions = new Set<string>();
const stdout = Bun.stdout.writer();

// The agent (Claude Code): JSON-RPC lines.

function toAgent(message: object) {
  stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
  stdout.flush();
}

const text = (text: string) => ({ content: [{ type: 'text', text }] });
const string = { type: 'string' };
const TOOLS = [
  tool('reply', 'Answer the people in a session.', { chat_id: string, text: string }, ['chat_id', 'text']),
  tool('status', 'Show what you are doing.', { chat_id: string, status: string, detail: string }, ['chat_id', 'status']),
  tool('fetch_messages', 'Read what was said.', { session_id: string, limit: { type: 'number' } }, ['session_id']),
];

function tool(name: string, description: string, properties: object, required: string[]) {
  return { name, description, inputSchema: { type: 'object', properties, required } };
}

function call(name: string, args: any) {
  const id = args.chat_id ?? args.session_id;
  const session = sessions.get(id);
  if (!session) return { ...text(`there is no session "${id}"`), isError: true };
  const ts = new Date().toISOString();
  if (name === 'reply') {
    append(session, { role: 'assistant', content: args.text, ts });
    const message_id = crypto.randomUUID();
    server.publish(id, JSON.stringify({ type: 'reply', session_id: id, message_id, content: args.text, ts }));
    return text('sent');
  }
  if (name === 'status') {
    server.publish(id, JSON.stringify({ type: 'status', session_id: id, status: args.status, detail: args.detail }));
    return text('sent');
  }
  const messages = session.history.slice(-(args.limit ?? 50));
  return text(messages.map(({ ts, role, content }) => `[${ts}] ${role}: ${content}`).join('\n'));
}

function fromAgent({ id, method, params }: any) {
  switch (method) {
    case 'initialize': {
      const experimental = { 'claude/channel': {}, 'claude/channel/permission': {} };
      const serverInfo = { name: 'bun', version: '1' };
      const { protocolVersion } = params;
      return toAgent({ id, result: { protocolVersion, capabilities: { tools: {}, experimental }, serverInfo } });
    }
    case 'ping':
      return toAgent({ id, result: {} });
    case 'tools/list':
      return toAgent({ id, result: { tools: TOOLS } });
    case 'tools/call':
      if (!TOOLS.some((tool) => tool.name === params.name)) break;
      return toAgent({ id, result: call(params.name, params.arguments ?? {}) });
    case 'notifications/claude/channel/permission_request':
      permissions.add(params.request_id);
      for (const session_id of sessions.keys()) {
        server.publish(session_id, JSON.stringify({ type: 'permission_request', session_id, ...params }));
      }
      return;
  }
  if (id !== undefined) toAgent({ id, error: { code: -32601, message: 'Method not found' } });
}

// The clients: WebSockets.

function append(session: Session, message: Message) {
  session.history.push(message);
  if (session.history.length > HISTORY) session.history.shift();
}

function join(client: Client, id: string): Session {
  let session = sessions.get(id);
  if (!session) sessions.set(id, (session = { history: [], clients: 0 }));
  if (!client.data.joined.has(id)) {
    client.data.joined.add(id);
    client.subscribe(id);
    session.clients += 1;
    clearTimeout(session.end);
  }
  return session;
}

function leave(client: Client) {
  for (const id of client.data.joined) {
    const session = sessions.get(id);
    if (!session || --session.clients > 0) continue;
    session.end = setTimeout(() => sessions.delete(id), TTL);
  }
}

function fromClient(client: Client, raw: string) {
  const send = (message: object) => client.send(JSON.stringify(message));
  let message: any;
  try {
    message = JSON.parse(raw);
  } catch {
    return send({ type: 'error', session_id: '', message: 'invalid JSON' });
  }
  const session_id = message.session_id ?? client.data.session;
  switch (message.type) {
    case 'message': {
      const { content, user = 'user', ts = new Date().toISOString() } = message;
      append(join(client, session_id), { role: 'user', content, ts });
      const meta = { chat_id: session_id, user, ts, message_id: crypto.randomUUID() };
      return toAgent({ method: 'notifications/claude/channel', params: { content, meta } });
    }
    case 'fetch_history': {
      const limit = Math.min(Math.max(message.limit ?? 50, 1), HISTORY);
      const messages = sessions.get(session_id)?.history.slice(-limit) ?? [];
      return send({ type: 'history', session_id, messages });
    }
    case 'permission_response': {
      const { request_id, allowed } = message;
      if (!permissions.delete(request_id)) return send({ type: 'error', session_id, message: 'unknown request' });
      const params = { request_id, behavior: allowed ? 'allow' : 'deny' };
      return toAgent({ method: 'notifications/claude/channel/permission', params });
    }
  }
  send({ type: 'error', session_id, message: `unknown message type: ${message.type}` });
}

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.env.CLAUDE_SOCKET_PORT ?? 3100),
  fetch(request, server) {
    const session = new URL(request.url).searchParams.get('session') ?? 'default';
    if (server.upgrade(request, { data: { session, joined: new Set<string>() } })) return;
    return Response.json({ status: 'ok', sessions: sessions.size });
  },
  websocket: {
    open: (client: Client) => void join(client, client.data.session),
    message: (client: Client, raw) => fromClient(client, String(raw)),
    close: leave,
  },
});

for await (const line of console) if (line) fromAgent(JSON.parse(line));
process.exit(0);
