/**
 * The client of claude-socket: talk to a running Claude Code session from a browser,
 * Node, Bun or Deno.
 *
 *     import { ClaudeSocket } from 'claude-socket';
 *
 *     const socket = new ClaudeSocket('ws://127.0.0.1:3100');
 *     socket.on('reply', ({ content }) => console.log(content));
 *     socket.connect();
 *     socket.send('Hello');
 *
 * What is sent waits until the connection is open, and is sent again after it was lost,
 * under the same id, so that Claude gets it once. Replies that were missed meanwhile are
 * emitted, in order, before new ones.
 *
 * @module
 */

// What travels over the WebSocket. The protocol is described in the project's README.

/**
 * What Claude answers.
 * @typedef {object} ReplyMessage
 * @property {'reply'} type
 * @property {string} session_id
 * @property {string} message_id
 * @property {number} seq its place in the session, from 1
 * @property {string} content
 * @property {string} ts when, as RFC 3339
 * @property {'transcript'} [via] Claude wrote it in the terminal and didn't use the reply tool
 */

/**
 * What Claude is doing.
 * @typedef {object} StatusMessage
 * @property {'status'} type
 * @property {string} session_id
 * @property {'thinking' | 'tool_use' | 'idle'} status
 * @property {string} [detail] for people, such as `Bash: make a file`
 */

/**
 * Something that was said in a session.
 * @typedef {object} HistoryItem
 * @property {'user' | 'assistant'} role
 * @property {string} content
 * @property {string} ts
 * @property {string} message_id
 * @property {number} seq
 * @property {string} [user] who said it, if it wasn't Claude
 * @property {'transcript'} [via]
 */

/**
 * What was said, oldest first.
 * @typedef {object} HistoryMessage
 * @property {'history'} type
 * @property {string} session_id
 * @property {HistoryItem[]} messages
 */

/**
 * How a session is.
 * @typedef {object} SessionItem
 * @property {string} session_id
 * @property {number} clients how many are in it
 * @property {string} created when it began, as RFC 3339
 * @property {number} seq of what was said last; 0 before
 * @property {'thinking' | 'tool_use' | 'idle'} status
 * @property {string} [detail]
 * @property {HistoryItem} [last] what was said last; of a long text only the beginning
 */

/**
 * Which sessions there are.
 * @typedef {object} SessionsMessage
 * @property {'sessions'} type
 * @property {SessionItem[]} sessions 100 at most, those with somebody in them first
 * @property {number} total how many there are
 * @property {number} permissions how many permission requests wait for an operator
 */

/**
 * What somebody else in the session said.
 * @typedef {object} UserMessage
 * @property {'user_message'} type
 * @property {string} session_id
 * @property {string} message_id
 * @property {number} seq
 * @property {string} content
 * @property {string} user
 * @property {string} ts
 */

/**
 * Claude Code asks whether a tool may run.
 * @typedef {object} PermissionRequestMessage
 * @property {'permission_request'} type
 * @property {string} session_id
 * @property {string} request_id
 * @property {string} tool_name
 * @property {string} description
 * @property {string} input_preview what the tool would get, mostly JSON
 */

/**
 * It is decided.
 * @typedef {object} PermissionResolvedMessage
 * @property {'permission_resolved'} type
 * @property {string} session_id
 * @property {string} request_id
 * @property {boolean} allowed
 * @property {string} by a user's name, `terminal` or `expired`
 */

/**
 * What became of a message.
 * @typedef {object} DeliveryMessage
 * @property {'delivery'} type
 * @property {string} session_id
 * @property {string} id the id of the message, as `send` returned it
 * @property {string} [message_id] the server's id of it
 * @property {number} [seq] its place in the session
 * @property {'accepted' | 'seen' | 'unseen' | 'answered' | 'rejected'} state
 * @property {ErrorCode} [code] why it was rejected
 * @property {string} [hint] what may be wrong, if it is `unseen`
 */

/**
 * A piece of Claude's text, as it appears.
 * @typedef {object} StreamMessage
 * @property {'stream'} type
 * @property {string} session_id
 * @property {string} delta
 */

/**
 * Who the server is, and what this client may do there.
 * @typedef {object} WelcomeMessage
 * @property {'welcome'} type
 * @property {string} server
 * @property {string} version
 * @property {string} session_id
 * @property {'operator' | 'sender' | 'viewer'} role
 * @property {string} [user] the name of this client's token, which its messages are signed with
 * @property {number} seq the last one of the session
 * @property {string} created when the session began, as RFC 3339
 * @property {number} max_message the longest frame that the server takes, in bytes
 * @property {{name: string, version: string, ready: boolean}} host Claude Code
 */

/**
 * The answer to a ping.
 * @typedef {object} PongMessage
 * @property {'pong'} type
 */

/**
 * @typedef {'invalid_json' | 'unknown_type' | 'invalid_message' | 'too_large' | 'unknown_request' |
 *   'forbidden' | 'busy' | 'host_closed'} ErrorCode
 */

/**
 * The server has not taken a frame, or this client a message.
 * @typedef {object} ErrorMessage
 * @property {'error'} type
 * @property {string} session_id
 * @property {string} message one sentence for people
 * @property {ErrorCode | 'queue_full'} [code] for programs
 */

/**
 * Every message of the server's, told apart by `type`.
 * @typedef {ReplyMessage | StatusMessage | HistoryMessage | SessionsMessage | UserMessage |
 *   PermissionRequestMessage | PermissionResolvedMessage | DeliveryMessage | StreamMessage |
 *   WelcomeMessage | PongMessage | ErrorMessage} ServerMessage
 */

/**
 * Why and for how long there is no connection.
 * @typedef {object} Disconnection
 * @property {number} code the close code (RFC 6455, section 7.4); 1006 if there was none
 * @property {string} reason
 * @property {number | null} retryIn in how many milliseconds the next attempt is; null if there is none
 */

/**
 * The events, and what their listeners get.
 * @typedef {object} ClaudeSocketEvents
 * @property {() => void} connected
 * @property {(disconnection: Disconnection) => void} disconnected
 * @property {(message: ReplyMessage) => void} reply
 * @property {(message: StatusMessage) => void} status
 * @property {(message: HistoryMessage) => void} history
 * @property {(message: SessionsMessage) => void} sessions
 * @property {(message: UserMessage) => void} user_message
 * @property {(message: PermissionRequestMessage) => void} permission_request
 * @property {(message: PermissionResolvedMessage) => void} permission_resolved
 * @property {(message: DeliveryMessage) => void} delivery
 * @property {(message: StreamMessage) => void} stream
 * @property {(message: WelcomeMessage) => void} welcome
 * @property {(message: PongMessage) => void} pong
 * @property {(message: ErrorMessage) => void} error
 * @property {(message: ServerMessage) => void} message every message, after its own event
 */

/**
 * @typedef {object} ClaudeSocketOptions
 * @property {string} [session] the chat to take part in; if left out, the one that the URL names, the
 *   one that the token is for, or `default`
 * @property {string} [user] who speaks; `user` if left out
 * @property {boolean} [reconnect] whether a lost connection is opened again; true if left out
 * @property {number} [reconnectDelay] the longest wait before the first attempt, in milliseconds; it
 *   doubles with each. 1000 if left out. How long it really is, is random (full jitter).
 * @property {number} [maxReconnectDelay] the longest wait of all, in milliseconds; 30000 if left out
 * @property {string} [token] what lets this client in, if the server asks for one
 * @property {boolean} [stream] whether Claude's text is wanted as it appears; false if left out
 * @property {number} [heartbeat] how often a silent server is asked for a sign of life, in
 *   milliseconds; 20000 if left out. After two without one the connection counts as lost.
 * @property {number} [queueLimit] the most messages that wait for a receipt; 1000 if left out
 * @property {WebSocketConstructor} [WebSocket] the class to connect with, where the runtime has none
 *   (Node 20): that of `ws`
 */

/**
 * The part of a WebSocket that is used here.
 * @typedef {object} WebSocketLike
 * @property {number} readyState
 * @property {((event: any) => void) | null} onopen
 * @property {((event: any) => void) | null} onmessage
 * @property {((event: any) => void) | null} onclose
 * @property {((event: any) => void) | null} onerror
 * @property {(data: string) => void} send
 * @property {(code?: number, reason?: string) => void} close
 *
 * @typedef {new (url: string, protocols?: string[]) => WebSocketLike} WebSocketConstructor
 */

/** The most messages a server gives at once. */
const PAGE = 100;
/** How many unanswered attempts in a row double the wait; beyond, it is the longest anyway. */
const MAX_DOUBLINGS = 30;
/** Events that no message of the server's can cause. */
const OWN_EVENTS = ['connected', 'disconnected', 'message'];
/** The server's close code for a token that isn't valid any more. */
const UNAUTHORIZED = 4401;
/** The most messages of this client's that are remembered, and of which the answer is waited for. */
const MAX_UNANSWERED = 1000;
/** What a WebSocket subprotocol may be made of (RFC 9110, section 5.6.2). */
const TOKEN_CHARACTERS = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * A promise, and what settles it.
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: Error) => void}} Deferred
 */

/**
 * A message that Claude Code has got: its receipt, and the session's beginning.
 * @typedef {{message: SentMessage, receipt: DeliveryMessage, created: string | undefined}} Accepted
 */

/**
 * A history that was asked for, for the app or, with `fill`, to fill a gap.
 * @typedef {object} Ask
 * @property {number} limit
 * @property {number} [since]
 * @property {(history: HistoryMessage) => void} [answer]
 * @property {(history: HistoryMessage) => void} [fill]
 */

/** A message was not taken. */
export class DeliveryError extends Error {
  /**
   * @param {string} message
   * @param {ErrorCode | 'queue_full'} code
   */
  constructor(message, code) {
    super(message);
    this.name = 'DeliveryError';
    /** Why, for programs. */
    this.code = code;
  }
}

/** A message that was sent, and what becomes of it. */
export class SentMessage {
  /** @type {Record<'accepted' | 'seen' | 'answered', Deferred<DeliveryMessage>>} */
  #states = { accepted: deferred(), seen: deferred(), answered: deferred() };

  /**
   * @param {string} content
   * @param {{user: string, id?: string, ts?: string}} message
   */
  constructor(content, { user, id = uuid(), ts = new Date().toISOString() }) {
    /** What was said. @readonly */
    this.content = content;
    /** Who said it. @readonly */
    this.user = user;
    /** Its id. @readonly */
    this.id = id;
    /** When it was sent, as RFC 3339. @readonly */
    this.ts = ts;
  }

  /**
   * Claude Code has got it. Rejected with a {@link DeliveryError} if it was not taken.
   * @returns {Promise<DeliveryMessage>}
   */
  get accepted() {
    return this.#states.accepted.promise;
  }

  /**
   * It is in Claude's conversation. That can be told only where the plugin's hooks are at work;
   * elsewhere this waits for the answer.
   * @returns {Promise<DeliveryMessage>}
   */
  get seen() {
    return this.#states.seen.promise;
  }

  /**
   * Claude has replied to the session since.
   * @returns {Promise<DeliveryMessage>}
   */
  get answered() {
    return this.#states.answered.promise;
  }

  /**
   * Takes a receipt: a later state includes the earlier ones. `why` is what the server has said if
   * it is rejected.
   * @param {DeliveryMessage} delivery
   * @param {string} [why]
   * @internal
   */
  settle(delivery, why = `the server has not taken the message (${delivery.code})`) {
    if (delivery.state === 'rejected') return this.reject(why, delivery.code ?? 'invalid_message');
    const { accepted, seen, answered } = this.#states;
    accepted.resolve(delivery);
    if (delivery.state === 'seen' || delivery.state === 'answered') seen.resolve(delivery);
    if (delivery.state === 'answered') answered.resolve(delivery);
  }

  /**
   * @param {string} why
   * @param {ErrorCode | 'queue_full'} code
   * @internal
   */
  reject(why, code) {
    const error = new DeliveryError(why, code);
    for (const state of Object.values(this.#states)) state.reject(error);
  }
}

/** A connection to a session of a claude-socket server, kept as long as it is wanted. */
export class ClaudeSocket {
  /** @type {URL} */
  #url;
  /** @type {string | undefined} */
  #token;
  #session = '';
  /** @type {WebSocketConstructor} */
  #WebSocket;
  #options;
  /** @type {Map<string, Set<(message: any) => void>>} */
  #listeners = new Map();

  /** @type {WebSocketLike | null} */
  #socket = null;
  /** The WebSocket is open. */
  #open = false;
  /** The server has said who it is: what waits can go. */
  #welcomed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  #attempts = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #heart;
  /** Heartbeats since the server was last heard. */
  #missed = 0;
  #maxMessage = Infinity;

  /** Messages without a receipt, in order, by id. @type {Map<string, SentMessage>} */
  #unacknowledged = new Map();
  /** Messages that wait for an answer, by id, with their receipts. @type {Map<string, Accepted>} */
  #accepted = new Map();
  /** The server's ids of this client's last messages. @type {Set<string>} */
  #ownIds = new Set();
  /** Verdicts that wait for a connection. @type {Map<string, boolean>} */
  #verdicts = new Map();
  /** Histories that were asked for and have not come, in order. @type {Ask[]} */
  #asks = [];
  /**
   * Who asked for the sessions and hasn't got them, in order.
   * @type {((sessions: SessionsMessage) => void)[]}
   */
  #lists = [];

  /** The last error, which comes before the receipt of a message that was not taken. @type {ErrorMessage | undefined} */
  #lastError;
  /** When the session began; tells one that began anew. @type {string | undefined} */
  #created;
  /** The number of the last that was told of the session; what was missed comes after it. */
  #seq = 0;
  /** The number of this client's own last message. */
  #ownSeq = 0;
  /** The number of the last reply. */
  #replied = 0;
  /**
   * What comes while it isn't known yet what was missed before it.
   * @type {{messages: (ReplyMessage | UserMessage)[], ownSeq: number} | null}
   */
  #held = null;

  /**
   * @param {string | URL} url where the server is, such as `ws://127.0.0.1:3100`
   * @param {ClaudeSocketOptions} [options]
   * @throws {SyntaxError | TypeError} if the URL is none, or the runtime has no WebSocket
   */
  constructor(url, options = {}) {
    const {
      session,
      user = 'user',
      reconnect = true,
      reconnectDelay = 1000,
      maxReconnectDelay = 30000,
      token,
      stream = false,
      heartbeat = 20000,
      queueLimit = 1000,
      WebSocket = globalThis.WebSocket,
    } = options;
    if (!WebSocket) {
      throw new TypeError('this runtime has no WebSocket; give one as an option, such as that of the package ws');
    }
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace(/^http/, 'ws');
    this.#url.hash = '';
    if (session !== undefined) this.#url.searchParams.set('session', session);
    this.#token = token;
    this.#WebSocket = /** @type {WebSocketConstructor} */ (WebSocket);
    this.#options = { reconnect, reconnectDelay, maxReconnectDelay, stream, heartbeat, queueLimit };
    this.#session = this.#url.searchParams.get('session') || 'default';
    /** Who speaks. May be changed at any time. */
    this.user = user;
  }

  /** The session this takes part in. Where nobody has named one, the server does. */
  get session() {
    return this.#session;
  }

  /** Whether the connection is open. */
  get connected() {
    return this.#open;
  }

  /** Whether it is being opened. */
  get connecting() {
    return this.#socket !== null && !this.#open;
  }

  /**
   * Opens the connection. Does nothing if it is open or being opened; while one that was lost
   * waits for its next attempt, makes it at once.
   */
  connect() {
    if (this.#socket) return;
    clearTimeout(this.#retry);
    globalThis.removeEventListener?.('online', this.#online);
    const url = new URL(this.#url);
    let protocols;
    if (this.#token !== undefined) {
      // In a URL it could end up in the log of a proxy.
      if (TOKEN_CHARACTERS.test(this.#token)) protocols = ['claude-socket', `bearer.${this.#token}`];
      else url.searchParams.set('token', this.#token);
    }
    const socket = new this.#WebSocket(url.href, protocols);
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    // What went wrong, onclose tells.
    socket.onerror = () => {};
  }

  /** Closes the connection, and doesn't open it again. What waits goes on waiting for `connect`. */
  disconnect() {
    clearTimeout(this.#retry);
    globalThis.removeEventListener?.('online', this.#online);
    if (!this.#socket) return;
    this.#drop(1000);
    this.#emit('disconnected', { code: 1000, reason: '', retryIn: null });
  }

  /**
   * Sends words to Claude, now or when the connection is open.
   * @param {string} content
   * @param {{id?: string, ts?: string, user?: string}} [again] what an earlier client has sent and
   *   nobody has acknowledged keeps its id, time and user, so that Claude gets it once
   * @returns {SentMessage} its id, and promises of what becomes of it. Nobody need wait for them:
   *   what is not taken is also an `error` event.
   * @throws {TypeError} if the content is not a string
   */
  send(content, again) {
    if (typeof content !== 'string') throw new TypeError(`the content is a ${typeof content}; give a string`);
    const message = new SentMessage(content, { user: this.user, ...again });
    if (this.#unacknowledged.size >= this.#options.queueLimit) {
      const limit = this.#options.queueLimit;
      this.#refuse(message, `${limit} messages already wait for the server; send less, or give a larger queueLimit`, 'queue_full');
      return message;
    }
    this.#unacknowledged.set(message.id, message);
    if (this.#welcomed) this.#transmit(message);
    return message;
  }

  /**
   * Asks for what was said in the session. It comes as an event, too.
   * @param {number} [limit] the most messages, from 1 to 100
   * @param {{since?: number}} [from] with `since`, the first ones after that `seq`, else the last ones
   * @returns {Promise<HistoryMessage>}
   * @throws {TypeError} if one of them is not a whole number
   */
  fetchHistory(limit = 50, { since } = {}) {
    for (const [name, value] of Object.entries({ limit, since: since ?? 0 })) {
      if (!Number.isSafeInteger(value)) throw new TypeError(`${name} is ${value}; give a whole number`);
    }
    return new Promise((answer) => this.#ask({ limit, since, answer }));
  }

  /**
   * Asks which sessions there are, and how they are. It comes as an event, too. Joins none of them.
   * @returns {Promise<SessionsMessage>}
   */
  fetchSessions() {
    return new Promise((answer) => {
      this.#lists.push(answer);
      if (this.#welcomed) this.#write({ type: 'list_sessions' });
    });
  }

  /**
   * Answers a permission request. The first verdict counts.
   * @param {string} requestId
   * @param {boolean} allowed
   */
  respondToPermission(requestId, allowed) {
    if (this.#welcomed) this.#write({ type: 'permission_response', request_id: requestId, allowed });
    else this.#verdicts.set(requestId, allowed);
  }

  /**
   * Calls a function whenever something happens. Returns what ends that.
   * @template {keyof ClaudeSocketEvents} E
   * @param {E} event
   * @param {ClaudeSocketEvents[E]} callback
   * @returns {() => void}
   */
  on(event, callback) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(callback));
    return () => this.off(event, callback);
  }

  /**
   * The same, for the next time only.
   * @template {keyof ClaudeSocketEvents} E
   * @param {E} event
   * @param {ClaudeSocketEvents[E]} callback
   * @returns {() => void}
   */
  once(event, callback) {
    const end = this.on(
      event,
      /** @type {ClaudeSocketEvents[E]} */ (
        (/** @type {any} */ message) => {
          end();
          /** @type {(message: any) => void} */ (callback)(message);
        }
      ),
    );
    return end;
  }

  /**
   * Doesn't call it any more.
   * @template {keyof ClaudeSocketEvents} E
   * @param {E} event
   * @param {ClaudeSocketEvents[E]} callback
   */
  off(event, callback) {
    this.#listeners.get(event)?.delete(callback);
  }

  // The connection.

  #opened() {
    this.#open = true;
    this.#missed = 0;
    if (this.#created !== undefined) this.#held = { messages: [], ownSeq: 0 };
    this.#heart = setInterval(() => this.#beat(), this.#options.heartbeat);
    this.#write({ type: 'hello', stream: this.#options.stream });
    this.#emit('connected');
  }

  /** Asks for a sign of life, unless the last question is still open. */
  #beat() {
    this.#missed += 1;
    if (this.#missed > 1) this.#lost(1006, 'the server gives no sign of life');
    else this.#write({ type: 'ping' });
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #lost(code, reason) {
    this.#drop();
    const wanted = this.#options.reconnect && code !== UNAUTHORIZED;
    const retryIn = wanted ? this.#delay() : null;
    if (retryIn !== null) {
      this.#retry = setTimeout(() => this.connect(), retryIn);
      globalThis.addEventListener?.('online', this.#online);
    }
    this.#emit('disconnected', { code, reason, retryIn });
  }

  /** The network is back: no reason to wait on. */
  #online = () => this.connect();

  /** Full jitter, so that a thousand clients of a restarted server don't all come at once. */
  #delay() {
    const { reconnectDelay, maxReconnectDelay } = this.#options;
    const longest = Math.min(maxReconnectDelay, reconnectDelay * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, MAX_DOUBLINGS);
    return Math.random() * longest;
  }

  /**
   * Leaves the WebSocket to itself.
   * @param {number} [code]
   */
  #drop(code) {
    const socket = this.#socket;
    clearInterval(this.#heart);
    this.#socket = null;
    this.#open = false;
    this.#welcomed = false;
    // If there is a gap it is still there, and what came after it will come again.
    this.#held = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {};
    socket.close(code);
  }

  /** @param {object} message */
  #write(message) {
    this.#send(JSON.stringify(message));
  }

  /**
   * Sends a frame. One that is closing takes none, and browsers write that to the console.
   * @param {string} frame
   */
  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(frame);
  }

  // What waits to be sent.

  /** @param {SentMessage} message */
  #transmit(message) {
    const { id, content, user, ts } = message;
    const frame = JSON.stringify({ type: 'message', session_id: this.session, id, content, user, ts });
    const length = new TextEncoder().encode(frame).length;
    if (length > this.#maxMessage) {
      this.#unacknowledged.delete(id);
      this.#refuse(message, `the message has ${length} bytes, and the server takes ${this.#maxMessage}; send less at once`, 'too_large');
    } else {
      this.#send(frame);
    }
  }

  /**
   * Tells of a message that isn't sent.
   * @param {SentMessage} message
   * @param {string} why
   * @param {ErrorCode | 'queue_full'} code
   */
  #refuse(message, why, code) {
    message.reject(why, code);
    this.#tell({ type: 'error', session_id: this.session, message: why, code });
  }

  /** @param {Ask} ask */
  #ask(ask) {
    this.#asks.push(ask);
    if (this.#welcomed) this.#askFor(ask);
  }

  /** @param {Ask} ask */
  #askFor({ limit, since }) {
    this.#write({ type: 'fetch_history', session_id: this.session, limit, since });
  }

  // What comes.

  /** @param {unknown} data */
  #heard(data) {
    this.#missed = 0;
    /** @type {ServerMessage} */
    let message;
    try {
      message = JSON.parse(String(data));
    } catch {
      return console.error('claude-socket: the server has sent what is not JSON');
    }
    switch (message.type) {
      case 'welcome':
        this.#welcome(message);
        return this.#tell(message);
      case 'reply':
      case 'user_message':
        if (message.session_id !== this.session) return this.#tell(message);
        return void (this.#held ? this.#held.messages.push(message) : this.#said(message));
      case 'history': {
        const ask = this.#asks.shift();
        if (ask?.fill) return ask.fill(message);
        this.#tell(message);
        return ask?.answer?.(message);
      }
      case 'sessions':
        this.#tell(message);
        return this.#lists.shift()?.(message);
      case 'delivery':
        return this.#receipt(message);
      case 'error':
        this.#lastError = message;
        return this.#tell(message);
      default:
        return this.#tell(message);
    }
  }

  /** @param {WelcomeMessage} welcome */
  #welcome({ session_id, seq, created, max_message }) {
    this.#session = session_id;
    // What a listener sends or asks from here on goes by itself.
    const messages = [...this.#unacknowledged.values()];
    const asks = this.#asks.filter((ask) => !ask.fill);
    const lists = this.#lists.length;
    const verdicts = [...this.#verdicts];
    this.#asks = [];
    this.#verdicts.clear();
    this.#attempts = 0;
    this.#maxMessage = max_message;
    this.#welcomed = true;
    if (this.#created === undefined) this.#seq = seq;
    else if (created !== this.#created) this.#seq = this.#ownSeq = this.#replied = 0;
    this.#created = created;

    this.#seq = Math.max(this.#seq, this.#ownSeq);
    if (seq > this.#seq) this.#fill();
    else this.#release();
    for (const message of messages) this.#transmit(message);
    for (const ask of asks) this.#ask(ask);
    for (let asked = 0; asked < lists; asked += 1) this.#write({ type: 'list_sessions' });
    for (const [id, allowed] of verdicts) this.respondToPermission(id, allowed);
  }

  /** Asks for what was missed. What comes meanwhile is held back, so that all is told in order. */
  #fill() {
    this.#ask({ limit: PAGE, since: this.#seq, fill: (history) => this.#filled(history) });
  }

  /** @param {HistoryMessage} history */
  #filled({ messages }) {
    for (const item of messages) this.#missedItem(item);
    if (messages.length === PAGE) this.#fill();
    else this.#release();
  }

  /** Nothing is missing any more. */
  #release() {
    const { messages, ownSeq } = this.#held ?? { messages: [], ownSeq: 0 };
    this.#held = null;
    for (const message of messages) this.#said(message);
    this.#ownSeq = Math.max(this.#ownSeq, ownSeq);
    this.#settleAnswered();
  }

  /** @param {HistoryItem} item */
  #missedItem({ role, ...item }) {
    const session_id = this.session;
    if (role === 'assistant') this.#said({ type: 'reply', session_id, ...item });
    else this.#said({ type: 'user_message', session_id, ...item, user: item.user ?? 'user' });
  }

  /**
   * Whether this client has said it, maybe over an earlier connection. Without its receipt it is
   * known by its time and content.
   * @param {UserMessage} message
   */
  #isOwn({ message_id, ts, content }) {
    if (this.#ownIds.has(message_id)) return true;
    for (const message of this.#unacknowledged.values()) {
      if (message.ts === ts && message.content === content) return true;
    }
    return false;
  }

  /**
   * Tells what was said in the session, once.
   * @param {ReplyMessage | UserMessage} message
   */
  #said(message) {
    if (message.seq <= this.#seq) return;
    this.#seq = message.seq;
    if (message.type === 'user_message' && this.#isOwn(message)) return;
    this.#tell(message);
    if (message.type !== 'reply') return;
    this.#replied = message.seq;
    // The server doesn't know of what another one has taken before.
    this.#settleAnswered(({ created }) => created !== this.#created);
  }

  /** @param {DeliveryMessage} delivery */
  #receipt(delivery) {
    const { id, state, message_id, seq = 0 } = delivery;
    const message = this.#unacknowledged.get(id) ?? this.#accepted.get(id)?.message;
    this.#unacknowledged.delete(id);
    this.#accepted.delete(id);
    if (message_id) this.#remember(message_id);
    if (this.#held) this.#held.ownSeq = Math.max(this.#held.ownSeq, seq);
    else this.#ownSeq = Math.max(this.#ownSeq, seq);
    if (message && state !== 'answered' && state !== 'rejected') {
      this.#accepted.set(id, { message, receipt: delivery, created: this.#created });
      this.#forgetOldest();
    }
    const { code, message: why } = this.#lastError ?? {};
    message?.settle(delivery, code === delivery.code ? why : undefined);
    this.#tell(delivery);
  }

  /** @param {string} message_id */
  #remember(message_id) {
    this.#ownIds.add(message_id);
    const [oldest] = this.#ownIds;
    if (this.#ownIds.size > MAX_UNANSWERED && oldest) this.#ownIds.delete(oldest);
  }

  #forgetOldest() {
    const [oldest] = this.#accepted.values();
    if (!oldest || this.#accepted.size <= MAX_UNANSWERED) return;
    this.#accepted.delete(oldest.message.id);
    oldest.message.reject(`${MAX_UNANSWERED} later messages wait for an answer, too; this one is not waited for any more`, 'queue_full');
  }

  /**
   * Claude may have replied when nobody could tell this client what became of its messages.
   * @param {(accepted: Accepted) => boolean} [concerned]
   */
  #settleAnswered(concerned = () => true) {
    for (const accepted of [...this.#accepted.values()].filter(concerned)) {
      const { receipt, created } = accepted;
      // In a session that began anew it has no number, and any reply came later.
      const seq = created === this.#created ? (receipt.seq ?? 0) : 0;
      if (seq < this.#replied) this.#receipt({ ...receipt, state: 'answered' });
    }
  }

  // Events.

  /** @param {ServerMessage} message */
  #tell(message) {
    if (!OWN_EVENTS.includes(message.type)) this.#emit(message.type, message);
    this.#emit('message', message);
  }

  /**
   * @param {string} event
   * @param {unknown} [message]
   */
  #emit(event, message) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(message);
      } catch (error) {
        console.error(`claude-socket: a listener of "${event}" has failed:`, error);
      }
    }
  }
}

export default ClaudeSocket;

/**
 * A promise that may be rejected without anybody listening.
 * @template T
 * @returns {Deferred<T>}
 */
function deferred() {
  /** @type {any} */
  const settle = {};
  const promise = new Promise((resolve, reject) => Object.assign(settle, { resolve, reject }));
  promise.catch(() => {});
  return { promise, ...settle };
}

/** A UUID of version 4. Pages that came without TLS have no `crypto.randomUUID`. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
