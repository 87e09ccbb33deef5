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

// What the server says, made from the protocol's Rust types by `cargo xtask codegen`.

// codegen: types
/**
 * How a reply came, if Claude didn't use the reply tool. `transcript`: Claude has only said it in the terminal.
 * @typedef {'transcript'} ReplySource
 */

/**
 * Who has written a message. `user`: Somebody at a client. `assistant`: Claude.
 * @typedef {'user' | 'assistant'} Author
 */

/**
 * What Claude is doing. `thinking`: It thinks. `tool_use`: It uses a tool. `idle`: It waits for somebody.
 * @typedef {'thinking' | 'tool_use' | 'idle'} Status
 */

/**
 * How far a message has come. `accepted`: It has been written to Claude Code. `seen`: Claude Code has put it
 * into the conversation. Needs the plugin's hooks. `unseen`: Claude Code should have put it into the
 * conversation, and has not. It can still be `seen` later. Needs the plugin's hooks. `answered`: Claude has
 * replied to the session since. `rejected`: It was not taken. `code` says why, and an `error` before says more.
 * @typedef {'accepted' | 'seen' | 'unseen' | 'answered' | 'rejected'} DeliveryState
 */

/**
 * The kind of an error, for programs. `invalid_json`: The frame is not JSON. `unknown_type`: There is no such
 * `type`. `invalid_message`: A field is missing or wrong, and `message` names it. `too_large`: The message is
 * over the limit. Over four times the limit it closes the connection (1009). `forbidden`: The client's role or
 * token doesn't allow it. `unknown_request`: That permission request is not open. `busy`: The server has reached
 * a limit. `host_closed`: Claude Code has ended. `queue_full`: Too many messages wait for the server. Only
 * client libraries say so.
 * @typedef {'invalid_json' | 'unknown_type' | 'invalid_message' | 'too_large' | 'forbidden' | 'unknown_request'
 *   | 'busy' | 'host_closed' | 'queue_full'} ErrorCode
 */

/**
 * What a client may do. `operator`: Everything. `sender`: Send and read. Neither sees nor answers permission
 * requests. `viewer`: Read.
 * @typedef {'operator' | 'sender' | 'viewer'} Role
 */

/**
 * A message of a session.
 * @typedef {object} HistoryItem
 * @property {Author} role Who has written it.
 * @property {string} content The text.
 * @property {string} ts When it was written, as the client says; else the server's time, RFC 3339 in UTC.
 * @property {string} message_id The server's id of it.
 * @property {number} seq Its place in the session, from 1.
 * @property {string} [user] The author's name. Not for Claude.
 * @property {ReplySource} [via] How a reply came, if not by the reply tool.
 */

/**
 * The state of a session.
 * @typedef {object} SessionItem
 * @property {string} session_id Its name.
 * @property {number} clients The number of clients in it.
 * @property {string} created When it began, RFC 3339 in UTC.
 * @property {number} seq The last `seq`; 0 before the first message.
 * @property {Status} status What Claude is doing there.
 * @property {string} [detail] More, for people, such as the tool and what it does. Untrusted text.
 * @property {HistoryItem} [last] The last message, with 200 characters of its `content` at most.
 */

/**
 * Claude Code, as far as it has introduced itself.
 * @typedef {object} HostInfo
 * @property {string} name Its name, `claude-code`; `""` before it has introduced itself.
 * @property {string} version Its version, or `""`.
 * @property {boolean} ready `true` if it takes messages.
 */

/**
 * Claude's answer. To everyone in the session.
 * @typedef {object} ReplyMessage
 * @property {'reply'} type
 * @property {string} session_id The session.
 * @property {string} message_id The server's id of the reply.
 * @property {number} seq Its place in the session, from 1.
 * @property {string} content The text. Often Markdown.
 * @property {string} ts The server's time, RFC 3339 in UTC.
 * @property {ReplySource} [via] How the reply came, if not by the reply tool.
 */

/**
 * A piece of Claude's text, as it appears. To those who asked for it with `hello`. The `reply` counts. Needs the
 * plugin's hooks.
 * @typedef {object} StreamMessage
 * @property {'stream'} type
 * @property {string} session_id The session that Claude answers.
 * @property {string} delta The next piece.
 */

/**
 * What Claude is doing. To everyone in the session.
 * @typedef {object} StatusMessage
 * @property {'status'} type
 * @property {string} session_id The session.
 * @property {Status} status What Claude is doing.
 * @property {string} [detail] More, for people, such as the tool and what it does. Untrusted text.
 */

/**
 * Messages of a session, oldest first. The answer to `fetch_history`. Empty for a session that doesn't exist.
 * @typedef {object} HistoryMessage
 * @property {'history'} type
 * @property {string} session_id The session.
 * @property {HistoryItem[]} messages 100 messages at most.
 */

/**
 * The sessions. The answer to `list_sessions`. Only those that the client may read.
 * @typedef {object} SessionsMessage
 * @property {'sessions'} type
 * @property {SessionItem[]} sessions 100 sessions at most: those with a client in them first, then by name.
 * @property {number} total The number of sessions, listed or not.
 * @property {number} permissions The number of permission requests that wait for an operator. They belong to no
 *   session.
 */

/**
 * Claude Code asks whether a tool may run. Claude Code doesn't say for which session it asks, so every operator
 * is asked once, with the session of its own address, also who connects later. The texts come from Claude Code
 * and from what Claude has read: show them as text.
 * @typedef {object} PermissionRequestMessage
 * @property {'permission_request'} type
 * @property {string} session_id The client's own session.
 * @property {string} request_id What to answer with.
 * @property {string} tool_name The tool, such as `Bash`.
 * @property {string} description What the tool is about to do. Untrusted text.
 * @property {string} input_preview The tool's input, as display text, mostly JSON. Untrusted text.
 */

/**
 * A permission request is closed. To everyone who was asked.
 * @typedef {object} PermissionResolvedMessage
 * @property {'permission_resolved'} type
 * @property {string} session_id The client's own session.
 * @property {string} request_id The request.
 * @property {boolean} allowed `true` if the tool may run.
 * @property {string} by Who has answered: the name of a token, or the `user` of that client's last message
 *   (`user` without one). `terminal` if the prompt was answered there, `expired` if nobody has answered it.
 */

/**
 * A message of somebody else. To the other clients of its session.
 * @typedef {object} UserMessage
 * @property {'user_message'} type
 * @property {string} session_id The session.
 * @property {string} message_id The server's id of the message.
 * @property {number} seq Its place in the session, from 1.
 * @property {string} content The text.
 * @property {string} user The author's name.
 * @property {string} ts When it was written, as the client says; else the server's time, RFC 3339 in UTC.
 */

/**
 * The receipt of a message that had an `id`. To who has sent it.
 * @typedef {object} DeliveryMessage
 * @property {'delivery'} type
 * @property {string} session_id The session.
 * @property {string} id The client's own id of the message.
 * @property {string} [message_id] The server's id of the message. Not if it was rejected.
 * @property {number} [seq] Its place in the session, from 1. Not if it was rejected.
 * @property {DeliveryState} state How far the message has come.
 * @property {ErrorCode} [code] Why it was rejected.
 * @property {string} [hint] What can be done about it, for people. Only with `unseen`.
 */

/**
 * Who the server is, and what this client may do there. The answer to `hello`.
 * @typedef {object} WelcomeMessage
 * @property {'welcome'} type
 * @property {string} server Always `claude-socket`.
 * @property {string} version The server's version.
 * @property {string} session_id The connection's own session.
 * @property {Role} role What this client may do.
 * @property {string} [user] The name of this client's token, which its messages are signed with.
 * @property {number} seq The last `seq` of the session; 0 before the first message.
 * @property {string} created When the session began, RFC 3339 in UTC. One that began anew counts from 1 again.
 * @property {number} max_message The longest frame that the server takes, in bytes.
 * @property {HostInfo} host Claude Code.
 */

/**
 * A sign of life. The answer to `ping`.
 * @typedef {object} PongMessage
 * @property {'pong'} type
 */

/**
 * A frame was not taken. The connection goes on.
 * @typedef {object} ErrorMessage
 * @property {'error'} type
 * @property {string} session_id The session that the frame named, or `""`.
 * @property {string} message One sentence for people. It is `invalid JSON` for what isn't JSON, and `unknown
 *   message type: X` for an unknown type.
 * @property {ErrorCode} code The same for programs.
 */

/**
 * Every message of the server's, told apart by `type`.
 * @typedef {ReplyMessage | StreamMessage | StatusMessage | HistoryMessage | SessionsMessage |
 *   PermissionRequestMessage | PermissionResolvedMessage | UserMessage | DeliveryMessage | WelcomeMessage |
 *   PongMessage | ErrorMessage} ServerMessage
 */

// codegen: end

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
