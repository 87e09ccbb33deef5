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
 * A message waits until the connection is open. After a lost connection it is sent again
 * under the same id, so that Claude gets it once. Missed replies are emitted in order,
 * before new ones.
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
 * replied to the session since. `rejected`: It does not reach Claude, and `code` says why. An `error` precedes
 * it if the frame itself was rejected. A message that waited when Claude Code ended, or when the client's token
 * was revoked, gets only this.
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
 * What Claude Code has said about itself.
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
 * @property {ReplySource} [via] How the reply came, if not by the reply tool. Only such a one can be cut off,
 *   and then says so at its end.
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
 * What Claude is doing. To everyone in the session, and to a client that joins while it isn't `idle`.
 * @typedef {object} StatusMessage
 * @property {'status'} type
 * @property {string} session_id The session.
 * @property {Status} status What Claude is doing.
 * @property {string} [detail] More, for people, such as the tool and what it does, in 500 characters at most.
 *   Untrusted text.
 */

/**
 * Messages of a session, oldest first. The answer to `fetch_history`. Empty for a session that doesn't exist. A
 * long one comes in several such messages, and others may come between them.
 * @typedef {object} HistoryMessage
 * @property {'history'} type
 * @property {string} session_id The session.
 * @property {HistoryItem[]} messages 100 messages at most.
 * @property {boolean} [more] `true` if the next `history` goes on with this answer.
 */

/**
 * The sessions. The answer to `list_sessions`. Only those that the client may read. A long one comes in several
 * such messages, and others may come between them.
 * @typedef {object} SessionsMessage
 * @property {'sessions'} type
 * @property {SessionItem[]} sessions 100 sessions at most: those with a client in them first, then by name.
 * @property {number} total The number of sessions, listed or not.
 * @property {number} permissions The number of permission requests that wait for an operator. They belong to no
 *   session.
 * @property {boolean} [more] `true` if the next `sessions` goes on with this answer.
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
 * @property {string} input_preview The tool's input, as display text, mostly JSON. A long one is cut off, and
 *   says so at its end. Untrusted text.
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
 * @property {string} [message_id] The server's id of the message. Left out if the frame itself was rejected.
 * @property {number} [seq] Its place in the session, from 1. Left out as `message_id` is.
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

/** Most messages in one `history` answer. */
const PAGE = 100;
/** Failed attempts in a row after which the wait no longer doubles. */
const MAX_DOUBLINGS = 30;
/** Events that a message of the server must never cause, whatever its `type`. */
const OWN_EVENTS = ['connected', 'disconnected', 'message'];
/** Close code of the server for a token that was removed or changed, or when one is needed now. */
export const UNAUTHORIZED = 4401;
/** Most messages that wait for an answer, and most ids of own messages that are remembered. */
const MAX_UNANSWERED = 1000;
/** Longest id of a message, in characters. */
const MAX_MESSAGE_ID = 64;
/** Characters that an id must not contain: control characters and line separators. */
const ID_BREAKS = /[\p{Cc}\u2028\u2029]/u;
/** Characters allowed in a WebSocket subprotocol (RFC 9110, section 5.6.2). */
const TOKEN_CHARACTERS = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * A promise with its `resolve` and `reject`.
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: Error) => void}} Deferred
 */

/**
 * A message with a receipt, when the session of that receipt began, and the highest `seq` when it
 * came: only a reply after that can answer the message.
 * @typedef {{message: SentMessage, receipt: DeliveryMessage, created: string | undefined, newest: number}} Accepted
 */

/**
 * A request for history that was not answered yet: of the app (`answer`), or to fill a gap (`fill`).
 * @typedef {object} HistoryRequest
 * @property {number} limit
 * @property {number} [since]
 * @property {(history: HistoryMessage) => void} [answer]
 * @property {(history: HistoryMessage) => void} [fill]
 */

/** A message was rejected. */
export class DeliveryError extends Error {
  /**
   * @param {string} message
   * @param {ErrorCode} code
   */
  constructor(message, code) {
    super(message);
    this.name = 'DeliveryError';
    /** Why, for programs. */
    this.code = code;
  }
}

/** @type {DeliveryState[]} */
const DELIVERY_STATES = ['accepted', 'seen', 'unseen', 'answered', 'rejected'];

/** A message that was sent, with promises of its delivery states. */
export class SentMessage {
  /** @type {Record<'accepted' | 'seen' | 'answered', Deferred<DeliveryMessage>>} */
  #states = { accepted: deferred(), seen: deferred(), answered: deferred() };

  /**
   * @param {string} content
   * @param {{user: string, id?: string, ts?: string}} message
   */
  constructor(content, { user, id = uuid(), ts = new Date().toISOString() }) {
    /** Its text. @readonly */
    this.content = content;
    /** Its author. @readonly */
    this.user = user;
    /** Its id. @readonly */
    this.id = id;
    /** When it was sent (RFC 3339). @readonly */
    this.ts = ts;
  }

  /**
   * Resolves when Claude Code has the message. Rejects with a {@link DeliveryError} if it was rejected.
   * @returns {Promise<DeliveryMessage>}
   */
  get accepted() {
    return this.#states.accepted.promise;
  }

  /**
   * Resolves when the message is in Claude's conversation. Only the plugin's hooks can tell; without
   * them it resolves with the answer.
   * @returns {Promise<DeliveryMessage>}
   */
  get seen() {
    return this.#states.seen.promise;
  }

  /**
   * Resolves when Claude has replied to the session after the message.
   * @returns {Promise<DeliveryMessage>}
   */
  get answered() {
    return this.#states.answered.promise;
  }

  /**
   * Applies a receipt. A later state includes the earlier ones.
   * @param {DeliveryMessage} delivery
   * @param {string} [why] the server's sentence about a rejected message
   * @internal
   */
  settle(delivery, why = `the server has rejected the message (${delivery.code})`) {
    if (delivery.state === 'rejected') return this.reject(why, delivery.code ?? 'invalid_message');
    const { accepted, seen, answered } = this.#states;
    accepted.resolve(delivery);
    if (delivery.state === 'seen' || delivery.state === 'answered') seen.resolve(delivery);
    if (delivery.state === 'answered') answered.resolve(delivery);
  }

  /**
   * @param {string} why
   * @param {ErrorCode} code
   * @internal
   */
  reject(why, code) {
    const error = new DeliveryError(why, code);
    for (const state of Object.values(this.#states)) state.reject(error);
  }
}

/** A connection to a session of a claude-socket server. It reconnects until `disconnect`. */
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
  #open = false;
  /** `welcome` has arrived on this connection. Messages are sent only after it. */
  #welcomed = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  #attempts = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #heartbeatTimer;
  /** Heartbeats since the last frame of the server. */
  #missed = 0;
  #maxMessage = Infinity;

  /** Messages without a receipt, in order, by id. @type {Map<string, SentMessage>} */
  #unacknowledged = new Map();
  /** Messages with a receipt and without an answer, by id. @type {Map<string, Accepted>} */
  #accepted = new Map();
  /** The server's ids of the last messages of this client. @type {Set<string>} */
  #ownIds = new Set();
  /** Verdicts to send after the next `welcome`, by request id. @type {Map<string, boolean>} */
  #verdicts = new Map();
  /** Unanswered requests for history, in order. @type {HistoryRequest[]} */
  #historyRequests = [];
  /**
   * Callbacks of unanswered requests for the sessions, in order.
   * @type {((sessions: SessionsMessage) => void)[]}
   */
  #sessionRequests = [];
  /**
   * What has come of a `history` of several frames.
   * @type {HistoryItem[]}
   */
  #historyPart = [];
  /**
   * What has come of a `sessions` of several frames.
   * @type {SessionItem[]}
   */
  #sessionsPart = [];

  /** The last error. It precedes the receipt of a message whose frame was rejected. @type {ErrorMessage | undefined} */
  #lastError;
  /** When the session began. Another value means that it began anew. @type {string | undefined} */
  #created;
  /** `seq` of the last message that was emitted. Missed messages have a higher one. */
  #seq = 0;
  /** `seq` of the last message of this client. */
  #ownSeq = 0;
  /** `seq` of the last reply. */
  #lastReplySeq = 0;
  /** The highest `seq` of which the server has told, be it of a message that was missed. */
  #newestSeq = 0;
  /**
   * New messages that are held back until the missed ones before them are there; null when nothing is missing.
   * @type {{messages: (ReplyMessage | UserMessage)[], ownSeq: number} | null}
   */
  #reorderBuffer = null;

  /**
   * @param {string | URL} url the server's address, such as `ws://127.0.0.1:3100`
   * @param {ClaudeSocketOptions} [options]
   * @throws {SyntaxError | TypeError} if the URL is invalid, or the runtime has no WebSocket
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
    /** The author of the messages to come. May be changed at any time. */
    this.user = user;
  }

  /** The session. If neither an option nor the URL names one, the server does, with `welcome`. */
  get session() {
    return this.#session;
  }

  /** `true` while the connection is open. */
  get connected() {
    return this.#open;
  }

  /** `true` while the connection is being opened. */
  get connecting() {
    return this.#socket !== null && !this.#open;
  }

  /**
   * Opens the connection. Does nothing if it is open or being opened. Between two attempts to
   * reconnect, makes the next one at once.
   */
  connect() {
    if (this.#socket) return;
    clearTimeout(this.#retryTimer);
    globalThis.removeEventListener?.('online', this.#online);
    const url = new URL(this.#url);
    let protocols;
    if (this.#token !== undefined) {
      // Proxies may log URLs.
      if (TOKEN_CHARACTERS.test(this.#token)) protocols = ['claude-socket', `bearer.${this.#token}`];
      else url.searchParams.set('token', this.#token);
    }
    const socket = new this.#WebSocket(url.href, protocols);
    this.#socket = socket;
    socket.onopen = () => this.#onOpen();
    socket.onmessage = ({ data }) => this.#onMessage(data);
    socket.onclose = ({ code, reason }) => this.#onLost(code, reason);
    // `onclose` follows.
    socket.onerror = () => {};
  }

  /** Closes the connection and does not reconnect. Unsent messages wait for the next `connect`. */
  disconnect() {
    clearTimeout(this.#retryTimer);
    globalThis.removeEventListener?.('online', this.#online);
    if (!this.#socket) return;
    this.#detach(1000);
    this.#emit('disconnected', { code: 1000, reason: '', retryIn: null });
  }

  /**
   * Sends a message to Claude, now or when the connection is open.
   * @param {string} content
   * @param {{id?: string, ts?: string, user?: string}} [again] the `id`, `ts` and `user` of a message
   *   that an earlier client has sent without a receipt: under its old id Claude gets it once
   * @returns {SentMessage} the id, and promises of the delivery states. Awaiting them is optional: a
   *   rejected message also causes a `delivery` event, and mostly an `error` event before it.
   * @throws {TypeError} if the content is not a string
   */
  send(content, again) {
    if (typeof content !== 'string') throw new TypeError(`the content is a ${typeof content}; give a string`);
    const message = new SentMessage(content, { user: this.user, ...again });
    const fault = idFault(message.id);
    if (fault) {
      this.#rejectUnsent(message, fault, 'invalid_message');
      return message;
    }
    if (this.#unacknowledged.size >= this.#options.queueLimit) {
      const limit = this.#options.queueLimit;
      this.#rejectUnsent(message, `${limit} messages already wait for the server; send less, or give a larger queueLimit`, 'queue_full');
      return message;
    }
    this.#unacknowledged.set(message.id, message);
    if (this.#welcomed) this.#writeMessage(message);
    return message;
  }

  /**
   * Requests the session's history. It is also emitted as a `history` event.
   * @param {number} [limit] most messages, from 1 to 100
   * @param {{since?: number}} [from] with `since`, the first messages after that `seq`; without, the last ones
   * @returns {Promise<HistoryMessage>}
   * @throws {TypeError} if `limit` or `since` is not a whole number
   */
  fetchHistory(limit = 50, { since } = {}) {
    for (const [name, value] of Object.entries({ limit, since: since ?? 0 })) {
      if (!Number.isSafeInteger(value)) throw new TypeError(`${name} is ${value}; give a whole number`);
    }
    return new Promise((answer) => this.#requestHistory({ limit, since, answer }));
  }

  /**
   * Requests the list of sessions, and joins none. It is also emitted as a `sessions` event.
   * @returns {Promise<SessionsMessage>}
   */
  fetchSessions() {
    return new Promise((answer) => {
      this.#sessionRequests.push(answer);
      if (this.#welcomed) this.#write({ type: 'list_sessions' });
    });
  }

  /**
   * Answers a permission request. Only the first verdict on a request counts.
   * @param {string} requestId
   * @param {boolean} allowed
   */
  respondToPermission(requestId, allowed) {
    if (this.#welcomed) this.#write({ type: 'permission_response', request_id: requestId, allowed });
    else this.#verdicts.set(requestId, allowed);
  }

  /**
   * Adds a listener. Returns a function that removes it.
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
   * Adds a listener for the next event only. Returns a function that removes it.
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
   * Removes a listener.
   * @template {keyof ClaudeSocketEvents} E
   * @param {E} event
   * @param {ClaudeSocketEvents[E]} callback
   */
  off(event, callback) {
    this.#listeners.get(event)?.delete(callback);
  }

  // The connection.

  #onOpen() {
    this.#open = true;
    this.#missed = 0;
    this.#historyPart = [];
    this.#sessionsPart = [];
    if (this.#created !== undefined) this.#reorderBuffer = { messages: [], ownSeq: 0 };
    this.#heartbeatTimer = setInterval(() => this.#heartbeat(), this.#options.heartbeat);
    this.#write({ type: 'hello', stream: this.#options.stream });
    this.#emit('connected');
  }

  /** Sends a ping. If the last one had no answer, the connection is lost. */
  #heartbeat() {
    this.#missed += 1;
    if (this.#missed > 1) this.#onLost(1006, 'the server gives no sign of life');
    else this.#write({ type: 'ping' });
  }

  /**
   * @param {number} code
   * @param {string} reason
   */
  #onLost(code, reason) {
    this.#detach();
    const wanted = this.#options.reconnect && code !== UNAUTHORIZED;
    const retryIn = wanted ? this.#delay() : null;
    if (retryIn !== null) {
      this.#retryTimer = setTimeout(() => this.connect(), retryIn);
      globalThis.addEventListener?.('online', this.#online);
    }
    this.#emit('disconnected', { code, reason, retryIn });
  }

  /** The browser's network is back: reconnects at once. */
  #online = () => this.connect();

  /** Returns the wait in milliseconds. Full jitter spreads the clients of a restarted server. */
  #delay() {
    const { reconnectDelay, maxReconnectDelay } = this.#options;
    const longest = Math.min(maxReconnectDelay, reconnectDelay * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, MAX_DOUBLINGS);
    return Math.random() * longest;
  }

  /**
   * Closes the WebSocket and ignores its events from now on.
   * @param {number} [code]
   */
  #detach(code) {
    const socket = this.#socket;
    clearInterval(this.#heartbeatTimer);
    this.#socket = null;
    this.#open = false;
    this.#welcomed = false;
    // The missed messages are requested again after the next connection, and these with them.
    this.#reorderBuffer = null;
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
   * Sends a frame if the WebSocket is open. Browsers log an error for a closing one.
   * @param {string} frame
   */
  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(frame);
  }

  // Sending.

  /** @param {SentMessage} message */
  #writeMessage(message) {
    const { id, content, user, ts } = message;
    const frame = JSON.stringify({ type: 'message', session_id: this.session, id, content, user, ts });
    const length = new TextEncoder().encode(frame).length;
    if (length > this.#maxMessage) {
      this.#unacknowledged.delete(id);
      this.#rejectUnsent(message, `the message has ${length} bytes, and the server takes ${this.#maxMessage}; send less at once`, 'too_large');
    } else {
      this.#send(frame);
    }
  }

  /**
   * Rejects a message that was not sent, and emits the `error`.
   * @param {SentMessage} message
   * @param {string} why
   * @param {ErrorCode} code
   */
  #rejectUnsent(message, why, code) {
    message.reject(why, code);
    this.#emitMessage({ type: 'error', session_id: this.session, message: why, code });
  }

  /** @param {HistoryRequest} request */
  #requestHistory(request) {
    this.#historyRequests.push(request);
    if (this.#welcomed) this.#writeHistoryRequest(request);
  }

  /** @param {HistoryRequest} request */
  #writeHistoryRequest({ limit, since }) {
    this.#write({ type: 'fetch_history', session_id: this.session, limit, since });
  }

  // Receiving.

  /** @param {unknown} data */
  #onMessage(data) {
    this.#missed = 0;
    /** @type {ServerMessage} */
    let message;
    try {
      message = JSON.parse(String(data));
    } catch {
      return console.error('claude-socket: the server has sent a frame that is not JSON');
    }
    switch (message.type) {
      case 'welcome':
        this.#onWelcome(message);
        return this.#emitMessage(message);
      case 'reply':
      case 'user_message':
        if (message.session_id !== this.session) return this.#emitMessage(message);
        this.#newestSeq = Math.max(this.#newestSeq, message.seq);
        return void (this.#reorderBuffer ? this.#reorderBuffer.messages.push(message) : this.#emitInOrder(message));
      case 'history': {
        this.#historyPart.push(...message.messages);
        if (message.more) return;
        message.messages = this.#historyPart;
        this.#historyPart = [];
        const request = this.#historyRequests.shift();
        if (request?.fill) return request.fill(message);
        this.#emitMessage(message);
        return request?.answer?.(message);
      }
      case 'sessions':
        this.#sessionsPart.push(...message.sessions);
        if (message.more) return;
        message.sessions = this.#sessionsPart;
        this.#sessionsPart = [];
        this.#emitMessage(message);
        return this.#sessionRequests.shift()?.(message);
      case 'delivery':
        return this.#onReceipt(message);
      case 'error':
        this.#lastError = message;
        return this.#emitMessage(message);
      default:
        return this.#emitMessage(message);
    }
  }

  /** @param {WelcomeMessage} welcome */
  #onWelcome({ session_id, seq, created, max_message }) {
    this.#session = session_id;
    // Only what waits now: what a listener sends from here on is written at once.
    const messages = [...this.#unacknowledged.values()];
    const historyRequests = this.#historyRequests.filter(({ fill }) => !fill);
    const sessionRequests = this.#sessionRequests.length;
    const verdicts = [...this.#verdicts];
    this.#historyRequests = [];
    this.#verdicts.clear();
    this.#attempts = 0;
    this.#maxMessage = max_message;
    this.#welcomed = true;
    if (this.#created === undefined) this.#seq = seq;
    else if (created !== this.#created) this.#seq = this.#ownSeq = this.#lastReplySeq = this.#newestSeq = 0;
    this.#created = created;
    this.#newestSeq = Math.max(this.#newestSeq, seq);

    this.#seq = Math.max(this.#seq, this.#ownSeq);
    if (seq > this.#seq) this.#requestMissed();
    else this.#releaseBuffer();
    for (const message of messages) this.#writeMessage(message);
    for (const request of historyRequests) this.#requestHistory(request);
    for (let sent = 0; sent < sessionRequests; sent += 1) this.#write({ type: 'list_sessions' });
    for (const [id, allowed] of verdicts) this.respondToPermission(id, allowed);
  }

  /** Requests the messages after the last known one. New ones are held back meanwhile, to keep the order. */
  #requestMissed() {
    this.#requestHistory({ limit: PAGE, since: this.#seq, fill: (history) => this.#onMissed(history) });
  }

  /** @param {HistoryMessage} history */
  #onMissed({ messages }) {
    const before = this.#seq;
    for (const item of messages) this.#emitMissed(item);
    // A server that repeats itself must not be asked for ever.
    if (messages.length >= PAGE && this.#seq > before) this.#requestMissed();
    else this.#releaseBuffer();
  }

  /** Nothing is missing any more: emits what was held back. */
  #releaseBuffer() {
    const { messages, ownSeq } = this.#reorderBuffer ?? { messages: [], ownSeq: 0 };
    this.#reorderBuffer = null;
    for (const message of messages) this.#emitInOrder(message);
    this.#ownSeq = Math.max(this.#ownSeq, ownSeq);
    this.#settleAnswered();
  }

  /** @param {HistoryItem} item */
  #emitMissed({ role, ...item }) {
    const session_id = this.session;
    if (role === 'assistant') this.#emitInOrder({ type: 'reply', session_id, ...item });
    else this.#emitInOrder({ type: 'user_message', session_id, ...item, user: item.user ?? 'user' });
  }

  /**
   * Returns `true` for a message of this client, maybe over an earlier connection. One without a
   * receipt is recognized by its time and content.
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
   * Emits a message of the session, unless it is this client's own or was emitted before.
   * @param {ReplyMessage | UserMessage} message
   */
  #emitInOrder(message) {
    if (message.seq <= this.#seq) return;
    this.#seq = message.seq;
    if (message.type === 'user_message' && this.#isOwn(message)) return;
    this.#emitMessage(message);
    if (message.type !== 'reply') return;
    this.#lastReplySeq = message.seq;
    // The server sends no receipts for messages that an earlier session of this name has accepted.
    this.#settleAnswered(({ created }) => created !== this.#created);
  }

  /** @param {DeliveryMessage} delivery */
  #onReceipt(delivery) {
    const { id, state, message_id, seq = 0 } = delivery;
    // A state that only a newer server knows says nothing about those that are known here.
    if (!DELIVERY_STATES.includes(state)) return this.#emitMessage(delivery);
    const message = this.#unacknowledged.get(id) ?? this.#accepted.get(id)?.message;
    this.#unacknowledged.delete(id);
    this.#accepted.delete(id);
    if (message_id) this.#remember(message_id);
    if (this.#reorderBuffer) this.#reorderBuffer.ownSeq = Math.max(this.#reorderBuffer.ownSeq, seq);
    else this.#ownSeq = Math.max(this.#ownSeq, seq);
    if (message && state !== 'answered' && state !== 'rejected') {
      this.#accepted.set(id, { message, receipt: delivery, created: this.#created, newest: this.#newestSeq });
      this.#forgetOldest();
    }
    const { code, message: why } = this.#lastError ?? {};
    message?.settle(delivery, code === delivery.code ? why : undefined);
    this.#emitMessage(delivery);
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
   * Marks messages as answered that a later reply covers although no receipt arrived.
   * @param {(accepted: Accepted) => boolean} [concerned]
   */
  #settleAnswered(concerned = () => true) {
    for (const accepted of [...this.#accepted.values()].filter(concerned)) {
      const { receipt, created } = accepted;
      // A session that began anew counts from 1 again, and every reply in it is later.
      const newest = created === this.#created ? accepted.newest : 0;
      if (newest < this.#lastReplySeq) this.#onReceipt({ ...receipt, state: 'answered' });
    }
  }

  // Events.

  /** @param {ServerMessage} message */
  #emitMessage(message) {
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
 * A promise whose rejection need not be handled.
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

/**
 * Returns why the server would not take an id, or undefined if it would.
 * @param {string} id
 */
function idFault(id) {
  const length = [...id].length;
  if (length === 0) return '"id" must not be empty';
  if (length > MAX_MESSAGE_ID) return `"id" has ${length} characters; the limit is ${MAX_MESSAGE_ID}`;
  if (ID_BREAKS.test(id)) return '"id" must not contain control characters';
  return undefined;
}

/** Returns a UUID of version 4. Pages without TLS have no `crypto.randomUUID`. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
