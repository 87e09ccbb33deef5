// A server with a history that is as long and as old as a test wants, in the place of the real one: it answers the page's
// WebSocket, as the protocol says. The page itself comes from the real server.

import { connected, until } from './browser.js';

/** The time of a message: a minute for each. */
export const at = (seq) => new Date(Date.parse('2026-01-01T00:00:00Z') + seq * 60_000).toISOString();
const uuid = (session, seq) => `${Buffer.from(session).toString('hex').padStart(8, '0').slice(-8)}-0000-7000-8000-${String(seq).padStart(12, '0')}`;

/** Returns a history: odd messages are ann's, even ones Claude's. `change` may replace fields. */
export function talk(count, change = () => ({})) {
  return Array.from({ length: count }, (_, index) => {
    const seq = index + 1;
    const said = seq % 2 ? { role: 'user', user: 'ann', content: `question ${seq}`, state: 'answered' } : { role: 'assistant', content: `answer ${seq}\n\nof two lines` };
    return { seq, ts: at(seq), ...said, ...change(seq) };
  });
}

export class Kept {
  /** What the page has asked, oldest first. */
  asked = [];
  /** `fetch_history` is refused. */
  refuses = false;
  /** Answers to `fetch_history` wait for this. */
  gate = Promise.resolve();
  #socket;

  /**
   * @param {Record<string, object[]>} sessions their messages, by name
   * @param {{verdicts?: object[], truncated?: Record<string, number>}} [more]
   */
  constructor(sessions, { verdicts = [], truncated = {}, role = 'operator' } = {}) {
    Object.assign(this, { sessions, verdicts, truncated, role });
    for (const [name, messages] of Object.entries(sessions)) for (const item of messages) item.message_id ??= uuid(name, item.seq);
  }

  /** Opens the page at this server. */
  async show(page, path = '/') {
    await page.routeWebSocket(/.*/, (socket) => {
      this.#socket = socket;
      this.session = new URL(socket.url()).searchParams.get('session') ?? 'default';
      socket.onMessage((text) => void this.#onFrame(JSON.parse(text)));
    });
    await page.goto(new URL(path, page.url()).href);
    await connected(page);
    await until(page, () => document.querySelector('#log > *') || !document.getElementById('welcome').hidden);
  }

  /** Says something in the page's session. */
  say(item) {
    const { seq } = item;
    const complete = { ts: at(seq), message_id: uuid(this.session, seq), ...item };
    this.sessions[this.session].push(complete);
    const { role, ...said } = complete;
    this.send({ type: role === 'assistant' ? 'reply' : 'user_message', session_id: this.session, ...said });
  }

  send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  /** Closes the connection. */
  close() {
    return this.#socket.close();
  }

  async #onFrame(frame) {
    this.asked.push(frame);
    const session_id = frame.session_id ?? this.session;
    const messages = this.sessions[session_id] ?? [];
    switch (frame.type) {
      case 'hello': {
        const host = { name: 'claude-code', version: '2.1.330', ready: true };
        const welcome = { server: 'claude-socket', version: '0.1.0', role: this.role, created: at(0), max_message: 458752, host };
        return this.send({ type: 'welcome', session_id, seq: messages.at(-1)?.seq ?? 0, ...welcome });
      }
      case 'ping':
        return this.send({ type: 'pong' });
      case 'fetch_history': {
        await this.gate;
        if (this.refuses) return this.send({ type: 'error', session_id, code: 'busy', message: 'not now', request: frame.type });
        const { since, before = Infinity, limit } = frame;
        const asked = messages.filter(({ seq }) => seq > (since ?? 0) && seq < before);
        const some = since === undefined ? asked.slice(-limit) : asked.slice(0, limit);
        const until = this.truncated[session_id] ?? 0;
        const isCut = (since ?? 0) + 1 < until && (since !== undefined || asked.length <= limit);
        return this.send({ type: 'history', session_id, messages: some, ...(isCut && { truncated_before: until }) });
      }
      case 'search': {
        const words = frame.text.toLowerCase().split(/\s+/);
        const has = ({ content }) => words.every((word) => content.toLowerCase().includes(word));
        const found = Object.entries(this.sessions).map(([name, said]) => [name, said.filter(has).slice(-frame.limit)]).filter(([, said]) => said.length > 0);
        if (found.length === 0) return this.send({ type: 'history', session_id, search: frame.text, messages: [] });
        return found.forEach(([name, said], index) => {
          this.send({ type: 'history', session_id: name, search: frame.text, messages: said, ...(index + 1 < found.length && { more: true }) });
        });
      }
      case 'fetch_verdicts':
        if (this.role !== 'operator') return this.send({ type: 'error', session_id: '', code: 'forbidden', message: 'only an operator can', request: frame.type });
        return this.send({ type: 'verdicts', verdicts: this.verdicts.slice(-frame.limit) });
    }
  }
}
