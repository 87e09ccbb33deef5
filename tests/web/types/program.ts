// Uses everything that the client library exports. It is compiled, not run.

import DefaultExport, {
  ClaudeSocket,
  DeliveryError,
  EndedError,
  RefusedError,
  SentMessage,
  UNAUTHORIZED,
  type ClaudeSocketEvents,
  type ClaudeSocketOptions,
  type DeliveryMessage,
  type Disconnection,
  type ErrorCode,
  type FoundMessage,
  type HistoryItem,
  type HistoryMessage,
  type Refusal,
  type ServerMessage,
} from 'claude-socket';
import { WebSocket } from 'ws';

const options: ClaudeSocketOptions = {
  session: 's1',
  user: 'ann',
  reconnect: true,
  reconnectDelay: 1000,
  maxReconnectDelay: 30_000,
  connectTimeout: 10_000,
  token: 'secret',
  stream: true,
  heartbeat: 20_000,
  queueLimit: 1000,
  WebSocket,
  fetch,
};
const socket: ClaudeSocket = new DefaultExport(new URL('ws://127.0.0.1:3100'), options);
new ClaudeSocket('ws://127.0.0.1:3100');
new ClaudeSocket('ws://127.0.0.1:3100', { WebSocket: globalThis.WebSocket, fetch: null });

const states: [boolean, boolean] = [socket.connected, socket.connecting];
socket.user = 'bob';
socket.token = undefined;
const session: string = socket.session;

/** Every message is told apart by its type, and none is forgotten. */
function describe(message: ServerMessage): string {
  switch (message.type) {
    case 'reply':
      return message.content + message.message_id + message.seq.toFixed() + (message.via ?? '');
    case 'status':
      return message.status === 'tool_use' ? (message.detail ?? '') : message.status;
    case 'history':
      return message.messages.map(({ role, user, content, seq }: HistoryItem) => `${seq} ${user ?? role}: ${content}`).join('\n');
    case 'sessions':
      return message.sessions.map(({ session_id, status, detail }) => session_id + status + (detail ?? '')).join() + message.total.toFixed() + message.permissions.toFixed();
    case 'verdicts':
      return message.verdicts.map(({ tool_name, allowed, by, ts }) => tool_name + String(allowed) + by + ts).join();
    case 'user_message':
      return message.user + message.content;
    case 'permission_request':
      return message.request_id + message.tool_name + message.description + message.input_preview;
    case 'permission_resolved':
      return message.request_id + String(message.allowed) + message.by;
    case 'delivery':
      return message.state === 'rejected' ? (message.code ?? '') : (message.message_id ?? '') + (message.hint ?? '');
    case 'stream':
      return message.delta;
    case 'welcome':
      return message.role + message.host.version + message.created + message.max_message.toFixed();
    case 'pong':
      return '';
    case 'error':
      return message.message + (message.code ?? '');
    default: {
      const nothing: never = message;
      return nothing;
    }
  }
}

const end: () => void = socket.on('message', (message) => describe(message));
socket.on('connected', () => undefined);
socket.on('disconnected', ({ code, reason, retryIn }: Disconnection) => [code.toFixed(), reason, retryIn?.toFixed()]);
socket.on('refused', ({ status, code, message }: Refusal) => [status.toFixed(), code, message]);
socket.once('reply', ({ content }) => content.length);
const listener: ClaudeSocketEvents['delivery'] = ({ state }: DeliveryMessage) => state satisfies string;
socket.on('delivery', listener);
socket.off('delivery', listener);
for (const event of ['status', 'history', 'verdicts', 'user_message', 'permission_request', 'permission_resolved', 'stream', 'welcome', 'pong', 'error'] as const) {
  socket.once(event, (message: ServerMessage) => describe(message));
}
end();

socket.connect();
const sent: SentMessage = socket.send('hello');
const { signal } = new AbortController();
socket.send(sent.content, { id: sent.id, ts: sent.ts, user: sent.user, signal });
const told: string[] = [sent.id, sent.ts, sent.content, sent.user];
try {
  const delivery: DeliveryMessage = await sent.accepted;
  told.push((await sent.queued).state, (await sent.when('queued', { signal })).state);
  const [seen, answered] = await Promise.all([sent.seen, sent.answered]);
  told.push(delivery.id, seen.state, answered.state, (await sent.when('answered', { signal })).state);
} catch (error) {
  if (error instanceof DeliveryError) {
    const code: ErrorCode | 'queue_full' = error.code;
    told.push(code, error.message);
  }
  if (error instanceof RefusedError) told.push(error.status.toFixed(), error.code);
  if (error instanceof EndedError) told.push(error.message);
}
const history: HistoryMessage = await socket.fetchHistory();
await socket.fetchHistory(10, { since: history.messages[0]?.seq ?? 0, signal });
await socket.fetchHistory(10, { before: history.messages[0]?.seq ?? 0, signal });
const found: FoundMessage[] = await socket.search('some words', { limit: 10, session: 's1', signal });
told.push(...found.map(({ session_id, seq, content, state }) => session_id + seq.toFixed() + content + (state ?? '')));
const { verdicts } = await socket.fetchVerdicts({ limit: 10, signal });
told.push(...verdicts.map(({ description }) => description), ...(await socket.search('more')).map(({ ts }) => ts));
const { sessions } = await socket.fetchSessions({ signal });
console.log(sessions[0]?.last?.content.length);
socket.respondToPermission('abcde', true);
socket.disconnect();
socket.close();

// What is wrong is found by the compiler.

// @ts-expect-error there is no such event
socket.on('answer', () => undefined);
// @ts-expect-error a verdict is true or false
socket.respondToPermission('abcde', 'yes');
// @ts-expect-error only words can be sent
socket.send({ content: 'hello' });
// @ts-expect-error words are searched for
void socket.search(7);
// @ts-expect-error a reply has no status
socket.on('reply', ({ status }) => status);
// @ts-expect-error the id is the library's own
sent.id = 'mine';

export { states, session, told };
