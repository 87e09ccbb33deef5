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
 * How far a message has come. `queued`: It waits for Claude Code, which can't be given it yet. It is on disk,
 * and stays through a restart and a power cut. `accepted`: It has been written to Claude Code. `seen`: Claude
 * Code has put it into the conversation. Needs the plugin's hooks. `unseen`: Claude Code should have put it into
 * the conversation, and has not. It can still be `seen` later. Needs the plugin's hooks. `answered`: Claude has
 * answered it. With the plugin's hooks, a reply answers what Claude has seen before it. Without them, it answers
 * the message that it names, or else the oldest one that waits. `lost`: Claude Code has ended, or the server has
 * restarted, and whether Claude has seen the message is unknown. It can be sent again. `rejected`: It does not
 * reach Claude, and `code` says why. An `error` precedes it if the frame itself was rejected. A message that
 * waited when Claude Code ended, or when the client's token was revoked, gets only this.
 * @typedef {'queued' | 'accepted' | 'seen' | 'unseen' | 'answered' | 'lost' | 'rejected'} DeliveryState
 */

/**
 * The kind of an error, for programs. `invalid_json`: The frame is not JSON. `unknown_type`: There is no such
 * `type`. `invalid_message`: A field is missing or wrong, and `message` names it. `too_large`: The message is
 * over the limit, or over what the token's rate ever allows. Over four times the limit it closes the connection
 * (1009). `forbidden`: The client's role or token doesn't allow it. `unknown_request`: That permission request
 * is not open. `busy`: A limit is reached: of the server, or the rate of the client's token. `host_closed`:
 * Claude Code has ended. `queue_full`: Too many messages wait for the server. Only client libraries say so.
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
 * @property {DeliveryState} [state] What became of a user's message, as far as the server has got.
 */

/**
 * A permission request that was decided.
 * @typedef {object} VerdictItem
 * @property {string} request_id The request.
 * @property {string} tool_name The tool, such as `Bash`.
 * @property {string} description What the tool was about to do. Untrusted text.
 * @property {boolean} allowed `true` if the tool could run.
 * @property {string} by Who has decided, as in `permission_resolved`.
 * @property {string} ts When, RFC 3339 in UTC.
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
 * Messages of a session, oldest first. The answer to `fetch_history`, and to `search`. Empty for a session that
 * doesn't exist. A long one comes in several such messages, and others may come between them.
 * @typedef {object} HistoryMessage
 * @property {'history'} type
 * @property {string} session_id The session.
 * @property {HistoryItem[]} messages 100 messages at most.
 * @property {number} [truncated_before] Messages that were asked for are not kept any more: some before this
 *   `seq` are missing here.
 * @property {string} [search] The words that were searched for. These are messages in which they are, and not
 *   the history between them.
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
 * Permission requests that were decided, oldest first. The answer to `fetch_verdicts`. A long one comes in
 * several such messages, and others may come between them.
 * @typedef {object} VerdictsMessage
 * @property {'verdicts'} type
 * @property {VerdictItem[]} verdicts 100 verdicts at most.
 * @property {boolean} [more] `true` if the next `verdicts` goes on with this answer.
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
 * @property {string} [reason] Why nobody can answer it any more, one sentence for people. Only if it is
 *   `expired`.
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
 * @property {number} [retry_after] In how many seconds, rounded up, the same message fits into the rate of the
 *   client's token again. Only with `busy`, if that rate is the reason.
 * @property {string} [hint] What can be done about it, for people. Only with `unseen` and `lost`.
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
 * @property {string} [request] The `type` of the request that was not taken, such as `fetch_history`; left out
 *   for a `message`. Requests of one type are answered in their order, so this is the answer to the oldest that
 *   has none.
 * @property {number} [retry_after] In how many seconds, rounded up, the same message fits into the rate of the
 *   client's token again. Only with `busy`, if that rate is the reason.
 */

/**
 * Every message of the server's, told apart by `type`.
 * @typedef {ReplyMessage | StreamMessage | StatusMessage | HistoryMessage | SessionsMessage | VerdictsMessage |
 *   PermissionRequestMessage | PermissionResolvedMessage | UserMessage | DeliveryMessage | WelcomeMessage |
 *   PongMessage | ErrorMessage} ServerMessage
 */

// codegen: end

/**
 * Why and for how long there is no connection.
 * @typedef {object} Disconnection
 * @property {number} code the close code (RFC 6455, section 7.4); 1006 if there was none
 * @property {string} reason for people; that of a refusal is its `message`
 * @property {number | null} retryIn in how many milliseconds the next attempt is; null if there is none
 */

/**
 * What the server answers instead of opening the connection.
 * @typedef {object} Refusal
 * @property {number} status the HTTP status; 0 if the browser hides it from this page
 * @property {string} code the kind, for programs: what the server calls it; `forbidden_origin` also if the browser hides the
 *   answer, as it does from a page that the server doesn't admit; `http_` and the status if there is no word for it
 * @property {string} message one sentence for people
 */

/**
 * Of what was said while there was no connection, the server doesn't keep all messages any more: some between these two are
 * missing.
 * @typedef {object} Gap
 * @property {number} after the `seq` of the last message before the gap
 * @property {number} until the `seq` of the first message of which on all are there
 */

/**
 * The events, and what their listeners get.
 * @typedef {object} ClaudeSocketEvents
 * @property {() => void} connected
 * @property {(refusal: Refusal) => void} refused before the `disconnected`
 * @property {(gap: Gap) => void} gap before the messages that were missed
 * @property {(disconnection: Disconnection) => void} disconnected
 * @property {(message: ReplyMessage) => void} reply
 * @property {(message: StatusMessage) => void} status
 * @property {(message: HistoryMessage) => void} history
 * @property {(message: SessionsMessage) => void} sessions
 * @property {(message: VerdictsMessage) => void} verdicts
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
 * A message in which the words of a search are.
 * @typedef {HistoryItem & {session_id: string}} FoundMessage
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
 * @property {number} [connectTimeout] how long the server may take to open the connection, and as long again to
 *   say why it has refused, in milliseconds; 10000 if left out
 * @property {string} [token] what lets this client in, if the server asks for one
 * @property {boolean} [stream] whether Claude's text is wanted as it appears; false if left out
 * @property {number} [heartbeat] how often a silent server is asked for a sign of life, in
 *   milliseconds; 20000 if left out. After two without one the connection counts as lost.
 * @property {number} [queueLimit] the most messages that wait for a receipt; 1000 if left out
 * @property {WebSocketConstructor} [WebSocket] the class to connect with, where the runtime has none
 *   (Node 20): that of `ws`
 * @property {typeof fetch | null} [fetch] what asks the server why it has refused, if not the runtime's `fetch`;
 *   null asks nothing
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
const OWN_EVENTS = ['connected', 'disconnected', 'refused', 'gap', 'message'];
/** Close code of the server for a token that was removed or changed or has expired, or when one is needed now. */
export const UNAUTHORIZED = 4401;
/** Statuses of refusals that another attempt doesn't change. */
const FINAL_STATUSES = [401, 403];
/** Status that a WebSocket server without pages of its own answers a plain request with (RFC 9110, section 15.5.22). */
const UPGRADE_REQUIRED = 426;
/** Longest time that a timer takes, in milliseconds. A longer one fires at once. */
const MAX_TIMER = 2 ** 31 - 1;
/** Most messages that wait for an answer, and most ids of own messages that are remembered. */
const MAX_UNANSWERED = 1000;
/** Longest id of a message, in characters. */
const MAX_MESSAGE_ID = 64;
/** Characters that an id must not contain: control characters and line separators. */
const ID_BREAKS = /[\p{Cc}\u2028\u2029]/u;
/** Halves of surrogate pairs without their other half, which no text in UTF-8 can hold. */
const LONE_SURROGATES = /[\ud800-\udfff]/gu;
/** Half of a surrogate pair, escaped in JSON. */
const ESCAPED_SURROGATE = /\\u[Dd][89A-Fa-f]/;
/** Characters allowed in a WebSocket subprotocol (RFC 9110, section 5.6.2). */
const TOKEN_CHARACTERS = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/**
 * A promise with its `resolve` and `reject`.
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: Error) => void}} Deferred
 */

/**
 * A message with a receipt, and the last state that the server has told.
 * @typedef {{message: SentMessage, state: DeliveryState}} Accepted
 */

/**
 * What waits for an answer of the server. The answer to an `aborted` one is still to come if it was sent over
 * this connection.
 * @template T
 * @typedef {{answer: Deferred<T>, aborted?: boolean}} Request
 */

/**
 * A request for anything but history, as it is sent.
 * @typedef {Request<any> & {frame: {type: 'list_sessions' | 'search' | 'fetch_verdicts'}}} Query
 */

/**
 * A request for history that was not answered yet: of the app (`answer`), or to fill a gap (`fill`).
 * @typedef {object} HistoryRequest
 * @property {number} limit
 * @property {number} [since]
 * @property {number} [before]
 * @property {Deferred<HistoryMessage>} [answer]
 * @property {boolean} [aborted]
 * @property {(history: HistoryMessage) => void} [fill]
 */

/**
 * What the server has answered after a failed attempt to connect.
 * @typedef {object} Finding
 * @property {string} reason
 * @property {Refusal} [refusal]
 * @property {number} [retryAfter] how long the server wants not to be asked again, in milliseconds
 * @property {boolean} [final] another attempt would not help
 */

/** A message was rejected. */
export class DeliveryError extends Error {
  /**
   * @param {string} message
   * @param {ErrorCode} code
   * @param {number} [retryAfter]
   */
  constructor(message, code, retryAfter) {
    super(message);
    this.name = 'DeliveryError';
    /** Why, for programs. */
    this.code = code;
    /** In how many seconds the server can take the message, if its token's rate is used up. */
    this.retryAfter = retryAfter;
  }
}

/** The server has not taken a request, such as one for history. */
export class RequestError extends Error {
  /** @param {ErrorMessage} error */
  constructor({ message, code }) {
    super(message);
    this.name = 'RequestError';
    /** Why, for programs. */
    this.code = code;
  }
}

/** Nobody knows whether Claude has seen the message: Claude Code has ended, or the server was restarted. */
export class LostError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'LostError';
  }
}

/** The client has ended, and what waited is not waited for any more. `connect` begins anew. */
export class EndedError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'EndedError';
  }
}

/** The client has ended because the server doesn't let it in. */
export class RefusedError extends EndedError {
  /** @param {Refusal} refusal */
  constructor({ status, code, message }) {
    super(message);
    this.name = 'RefusedError';
    /** The HTTP status; 0 if the browser hides it. */
    this.status = status;
    /** Why, for programs. */
    this.code = code;
  }
}

/** @type {DeliveryState[]} */
const DELIVERY_STATES = ['queued', 'accepted', 'seen', 'unseen', 'answered', 'lost', 'rejected'];
/** Those of which a message has a promise. @typedef {'queued' | 'accepted' | 'seen' | 'answered'} AwaitedState */
/** Those after which no other comes. */
const FINAL_STATES = ['answered', 'lost', 'rejected'];

/** A message that was sent, with promises of its delivery states. */
export class SentMessage {
  /** @type {Record<AwaitedState, Deferred<DeliveryMessage>>} */
  #states = { queued: deferred(), accepted: deferred(), seen: deferred(), answered: deferred() };

  /**
   * @param {string} content
   * @param {{user: string, id?: string, ts?: string}} message
   */
  constructor(content, { user, id = uuid(), ts = new Date().toISOString() }) {
    /** Its text. @readonly */
    this.content = wellFormed(content);
    /** Its author. @readonly */
    this.user = wellFormed(user);
    /** Its id. @readonly */
    this.id = wellFormed(id);
    /** When it was sent (RFC 3339). @readonly */
    this.ts = wellFormed(ts);
  }

  /**
   * Resolves when the message is the server's: it waits on disk for Claude Code, or Claude Code has it. From then on it
   * is not sent again. One that Claude Code had and has not seen can wait anew, which its `delivery` tells.
   * @returns {Promise<DeliveryMessage>}
   */
  get queued() {
    return this.#states.queued.promise;
  }

  /**
   * Resolves when Claude Code has the message. Rejects with a {@link DeliveryError} if it was rejected, with an
   * {@link EndedError} if the client has ended, or with the reason of the signal that was given to `send`.
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
   * Returns the promise of a state, which rejects also when the signal aborts. The message goes on.
   * @param {AwaitedState} state
   * @param {{signal?: AbortSignal}} [until]
   * @returns {Promise<DeliveryMessage>}
   */
  when(state, { signal } = {}) {
    const { promise, resolve, reject } = /** @type {Deferred<DeliveryMessage>} */ (deferred());
    this[state].then(resolve, reject);
    onAbort(signal, promise, reject);
    return promise;
  }

  /**
   * Applies a receipt. A later state includes the earlier ones.
   * @param {DeliveryMessage} delivery
   * @param {string} [why] the server's sentence about a rejected message
   * @internal
   */
  settle(delivery, why = `the server has rejected the message (${delivery.code})`) {
    if (delivery.state === 'rejected') return this.reject(why, delivery.code ?? 'invalid_message', delivery.retry_after);
    if (delivery.state === 'lost') return this.fail(new LostError(delivery.hint ?? 'whether Claude has the message is unknown'));
    const { queued, accepted, seen, answered } = this.#states;
    queued.resolve(delivery);
    if (delivery.state === 'queued') return;
    accepted.resolve(delivery);
    if (delivery.state === 'seen' || delivery.state === 'answered') seen.resolve(delivery);
    if (delivery.state === 'answered') answered.resolve(delivery);
  }

  /**
   * @param {string} why
   * @param {ErrorCode} code
   * @param {number} [retryAfter] seconds
   * @internal
   */
  reject(why, code, retryAfter) {
    this.fail(new DeliveryError(why, code, retryAfter));
  }

  /**
   * Rejects what has not been reached.
   * @param {Error} error
   * @internal
   */
  fail(error) {
    for (const state of Object.values(this.#states)) state.reject(error);
  }

  /**
   * Settles as another message with this id.
   * @param {SentMessage} other
   * @internal
   */
  follow(other) {
    for (const [state, { resolve, reject }] of Object.entries(this.#states)) {
      other[/** @type {AwaitedState} */ (state)].then(resolve, reject);
    }
  }
}

/**
 * A connection to a session of a claude-socket server. It reconnects until `disconnect` or `close`, or until the
 * server refuses it for good.
 */
export class ClaudeSocket {
  /** @type {URL} */
  #url;
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
  /** The time limit of what the connection waits for. @type {ReturnType<typeof setTimeout> | undefined} */
  #limitTimer;
  /** An attempt to connect has failed, and the server is asked why. @type {AbortController | null} */
  #asking = null;
  /** Why the client has ended. @type {EndedError | undefined} */
  #ended;
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
  /** All other unanswered requests, in order. @type {Query[]} */
  #queries = [];
  /**
   * What has come of a `history` of several frames.
   * @type {HistoryItem[]}
   */
  #historyPart = [];
  /** Its frames have said that messages before this `seq` are not kept any more; 0 if none has. */
  #truncatedBefore = 0;
  /**
   * What has come of a `sessions` of several frames.
   * @type {SessionItem[]}
   */
  #sessionsPart = [];
  /**
   * What has come of a `verdicts` of several frames.
   * @type {VerdictItem[]}
   */
  #verdictsPart = [];
  /**
   * What has come of the answer to a search: a `history` for each session.
   * @type {HistoryMessage[]}
   */
  #foundPart = [];

  /** The last error. It precedes the receipt of a message whose frame was rejected. @type {ErrorMessage | undefined} */
  #lastError;
  /** When the session began. Another value means that it began anew. @type {string | undefined} */
  #created;
  /** `seq` of the last message that was emitted. Missed messages have a higher one. */
  #seq = 0;
  /** `seq` of the last message of this client. */
  #ownSeq = 0;
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
      connectTimeout = 10000,
      token,
      stream = false,
      heartbeat = 20000,
      queueLimit = 1000,
      WebSocket = globalThis.WebSocket,
      // Not kept: a function of the window must be called on it.
      fetch = globalThis.fetch && ((...request) => globalThis.fetch(...request)),
    } = options;
    if (!WebSocket) {
      throw new TypeError('this runtime has no WebSocket; give one as an option, such as that of the package ws');
    }
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace(/^http/, 'ws');
    this.#url.hash = '';
    if (session !== undefined) this.#url.searchParams.set('session', session);
    this.#WebSocket = /** @type {WebSocketConstructor} */ (WebSocket);
    this.#options = { reconnect, reconnectDelay, maxReconnectDelay, connectTimeout, stream, heartbeat, queueLimit, fetch };
    this.#session = this.#url.searchParams.get('session') || 'default';
    /** The author of the messages to come. May be changed at any time. */
    this.user = user;
    /** The token of the attempts to come. May be changed at any time. @type {string | undefined} */
    this.token = token;
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
    return (this.#socket !== null && !this.#open) || this.#asking !== null;
  }

  /**
   * Opens the connection. Does nothing if it is open or being opened. Between two attempts to
   * reconnect, makes the next one at once. Begins anew if the client has ended.
   */
  connect() {
    if (this.#socket || this.#asking) return;
    this.#cancelRetry();
    this.#ended = undefined;
    const url = new URL(this.#url);
    const isHeader = this.#hasHeaderToken();
    if (this.token !== undefined && !isHeader) url.searchParams.set('token', this.token);
    // Proxies may log URLs.
    const protocols = isHeader ? ['claude-socket', `bearer.${this.token}`] : undefined;
    const socket = new this.#WebSocket(url.href, protocols);
    this.#socket = socket;
    socket.onopen = () => this.#onOpen();
    socket.onmessage = ({ data }) => this.#onMessage(data);
    socket.onclose = ({ code, reason }) => (this.#open ? this.#onLost(code, { reason }) : this.#onFailed());
    socket.onerror = () => this.#onError();
    const { connectTimeout } = this.#options;
    this.#limit(connectTimeout, `${url.host} has not answered within ${connectTimeout / 1000} s`);
  }

  /**
   * Closes the connection and does not reconnect. What waits, waits for the next `connect`; see also
   * {@link ClaudeSocket.close}.
   */
  disconnect() {
    this.#cancelRetry();
    if (!this.#socket && !this.#asking) return;
    this.#asking?.abort();
    this.#asking = null;
    this.#detach(1000);
    this.#emit('disconnected', { code: 1000, reason: '', retryIn: null });
  }

  /**
   * Closes the connection and ends the client: every promise that waits rejects with an {@link EndedError}, and
   * so does what is sent from now on, until the next `connect`. What has no receipt yet may have arrived.
   */
  close() {
    this.#end(new EndedError('this client was closed'));
    this.disconnect();
  }

  /**
   * Sends a message to Claude, now or when the connection is open.
   * @param {string} content
   * @param {{id?: string, ts?: string, user?: string, signal?: AbortSignal}} [options] the `id`, `ts` and `user`
   *   of a message that an earlier client has sent without a receipt: under its old id Claude gets it once. When
   *   `signal` aborts, the message's promises reject, and it is not sent if it was not yet.
   * @returns {SentMessage} the id, and promises of the delivery states. Awaiting them is optional: a
   *   rejected message also causes a `delivery` event, and mostly an `error` event before it.
   * @throws {TypeError} if the content is not a string
   */
  send(content, { signal, ...again } = {}) {
    if (typeof content !== 'string') throw new TypeError(`the content is a ${typeof content}; give a string`);
    const message = new SentMessage(content, { user: this.user, ...again });
    const failure = signal?.aborted ? signal.reason : this.#ended;
    if (failure) {
      message.fail(failure);
      return message;
    }
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
    this.#waiting(message.id)?.follow(message);
    this.#unacknowledged.set(message.id, message);
    onAbort(signal, message.answered, (reason) => this.#abandon(message, reason));
    if (this.#welcomed) this.#writeMessage(message);
    return message;
  }

  /**
   * Requests the session's history. It is also emitted as a `history` event.
   * @param {number} [limit] most messages, from 1 to 100
   * @param {{since?: number, before?: number, signal?: AbortSignal}} [options] with `since`, the first messages after that
   *   `seq`; with `before`, the last ones before that `seq`; without, the last ones. The promise rejects when `signal` aborts.
   * @returns {Promise<HistoryMessage>} rejects with a {@link RequestError} if the server doesn't take the request, and
   *   with an {@link EndedError} if the client ends before
   * @throws {TypeError} if `limit`, `since` or `before` is not a whole number
   */
  fetchHistory(limit = 50, { since, before, signal } = {}) {
    wholeNumbers({ limit, since: since ?? 0, before: before ?? 0 });
    /** @type {HistoryRequest & Request<HistoryMessage>} */
    const request = { limit, since, before, answer: deferred() };
    return this.#await(request, signal, () => this.#requestHistory(request));
  }

  /**
   * Requests the list of sessions, and joins none. It is also emitted as a `sessions` event.
   * @param {{signal?: AbortSignal}} [options] the promise rejects when `signal` aborts
   * @returns {Promise<SessionsMessage>} rejects with a {@link RequestError} if the server doesn't take the request, and
   *   with an {@link EndedError} if the client ends before
   */
  fetchSessions({ signal } = {}) {
    return this.#query({ type: 'list_sessions' }, signal);
  }

  /**
   * Finds the messages in which all these words are, the last one also as the beginning of a word.
   * @param {string} text 200 characters at most
   * @param {{limit?: number, session?: string, signal?: AbortSignal}} [options] most messages, from 1 to 100, 50 if left
   *   out: the newest; in this session, or in all that the client may read. The promise rejects when `signal` aborts.
   * @returns {Promise<FoundMessage[]>} by session, oldest first in each. Rejects as that of `fetchHistory` does.
   * @throws {TypeError} if the text is not a string, or `limit` is not a whole number
   */
  search(text, { limit = 50, session, signal } = {}) {
    if (typeof text !== 'string') throw new TypeError(`the text is a ${typeof text}; give a string`);
    wholeNumbers({ limit });
    return this.#query({ type: 'search', session_id: session, text: wellFormed(text), limit }, signal);
  }

  /**
   * Requests the permission requests that were decided, the last ones. Only an operator may. They are also emitted as a
   * `verdicts` event.
   * @param {{limit?: number, signal?: AbortSignal}} [options] most verdicts, from 1 to 100, 50 if left out. The promise
   *   rejects when `signal` aborts.
   * @returns {Promise<VerdictsMessage>} rejects as that of `fetchHistory` does
   * @throws {TypeError} if `limit` is not a whole number
   */
  fetchVerdicts({ limit = 50, signal } = {}) {
    wholeNumbers({ limit });
    return this.#query({ type: 'fetch_verdicts', limit }, signal);
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
    clearTimeout(this.#limitTimer);
    this.#open = true;
    this.#missed = 0;
    this.#historyPart = [];
    this.#truncatedBefore = 0;
    this.#sessionsPart = [];
    this.#verdictsPart = [];
    this.#foundPart = [];
    if (this.#created !== undefined) this.#reorderBuffer = { messages: [], ownSeq: 0 };
    this.#heartbeatTimer = setInterval(() => this.#heartbeat(), this.#options.heartbeat);
    this.#write({ type: 'hello', stream: this.#options.stream });
    this.#emit('connected');
  }

  /**
   * Loses the connection after this time, unless the limit is cleared.
   * @param {number} time in milliseconds
   * @param {string} reason
   */
  #limit(time, reason) {
    clearTimeout(this.#limitTimer);
    this.#limitTimer = setTimeout(() => this.#onLost(1006, { reason }), Math.min(time, MAX_TIMER));
  }

  /** Sends a ping. If the last one had no answer, the connection is lost. */
  #heartbeat() {
    this.#missed += 1;
    if (this.#missed > 1) this.#onLost(1006, { reason: 'the server gives no sign of life' });
    else this.#write({ type: 'ping' });
  }

  /** Node's first WebSockets have an `error` that no `close` follows. */
  #onError() {
    // The `close` of a connection that was open has a code that counts.
    if (this.#open) this.#limit(this.#options.connectTimeout, 'the connection has failed');
    else void this.#onFailed();
  }

  /** An attempt to connect has failed. Asks the server why over HTTP: a WebSocket is not told. */
  async #onFailed() {
    this.#detach();
    const asking = new AbortController();
    this.#asking = asking;
    const finding = await this.#ask(asking);
    // The app has disconnected meanwhile.
    if (this.#asking !== asking) return;
    this.#asking = null;
    this.#onLost(1006, finding);
  }

  /**
   * Asks the server whether it would let this client in.
   * @param {AbortController} asking
   * @returns {Promise<Finding>}
   */
  async #ask(asking) {
    const { fetch, connectTimeout } = this.#options;
    if (!fetch) return { reason: '' };
    const url = new URL(this.#url);
    url.protocol = url.protocol.replace(/^ws/, 'http');
    const plain = url.href;
    /** @type {Record<string, string>} */
    const headers = { Accept: 'application/json' };
    if (this.#hasHeaderToken()) headers.Authorization = `Bearer ${this.token}`;
    else if (this.token !== undefined) url.searchParams.set('token', this.token);
    /** @type {RequestInit} */
    const request = { cache: 'no-store', redirect: 'manual', signal: asking.signal };
    const timer = setTimeout(() => asking.abort(), Math.min(connectTimeout, MAX_TIMER));
    try {
      return await finding(await fetch(url.href, { ...request, headers }));
    } catch {
      // Only a browser hides answers, and only those to another origin.
      const isHidden =
        globalThis.location && globalThis.location.origin !== url.origin &&
        (await fetch(plain, { ...request, mode: 'no-cors', redirect: 'follow' }).then(() => true, () => false));
      return isHidden ? this.#hiddenFinding(url) : { reason: `${url.host} cannot be reached` };
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Returns what it means that a server answers, and not to this page.
   * @param {URL} url
   * @returns {Finding}
   */
  #hiddenFinding({ host }) {
    // A page that was admitted still is; the answer is that of a proxy whose server is away.
    if (this.#created !== undefined) return { reason: `${host} cannot be reached; something else answers there` };
    // Not that of its location: a page from a file, or sandboxed, has none, and none can be listed.
    const { origin } = globalThis;
    const advice = origin === 'null' ? 'open the page from http://localhost' : `let the server's --allowed-origins list ${origin}`;
    const message = `${host} does not admit this page, or is no claude-socket: ${advice}, or connect with a valid token`;
    return { reason: message, refusal: { status: 0, code: 'forbidden_origin', message }, final: true };
  }

  /** Returns `true` if the token can travel in a header. */
  #hasHeaderToken() {
    return this.token !== undefined && TOKEN_CHARACTERS.test(this.token);
  }

  /**
   * There is no connection any more.
   * @param {number} code
   * @param {Finding} finding
   */
  #onLost(code, { reason, refusal, retryAfter = 0, final = false }) {
    this.#detach();
    if (code === UNAUTHORIZED) {
      const message = reason || 'the token is not valid any more';
      refusal = { status: 401, code: 'unauthorized', message };
      final = true;
    }
    const retryIn = this.#options.reconnect && !final ? Math.min(retryAfter + this.#delay(), MAX_TIMER) : null;
    if (retryIn === null) {
      this.#end(refusal ? new RefusedError(refusal) : new EndedError(reason || 'the connection is lost'));
    } else {
      this.#retryTimer = setTimeout(() => this.connect(), retryIn);
      globalThis.addEventListener?.('online', this.#online);
    }
    if (refusal) this.#emit('refused', refusal);
    this.#emit('disconnected', { code, reason, retryIn });
  }

  #cancelRetry() {
    clearTimeout(this.#retryTimer);
    globalThis.removeEventListener?.('online', this.#online);
  }

  /**
   * Nothing is waited for any more.
   * @param {EndedError} error
   */
  #end(error) {
    this.#ended = error;
    const messages = [...this.#unacknowledged.values(), ...[...this.#accepted.values()].map(({ message }) => message)];
    const requests = [...this.#historyRequests, ...this.#queries];
    this.#unacknowledged.clear();
    this.#accepted.clear();
    this.#verdicts.clear();
    this.#historyRequests = [];
    this.#queries = [];
    for (const message of messages) message.fail(error);
    for (const { answer } of requests) answer?.reject(error);
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
    clearTimeout(this.#limitTimer);
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

  /**
   * Rejects every message that was sent over this connection and has no receipt: the server could not read a frame, and
   * knows not even what it was about. It may have been any of them, which would then never get a receipt.
   * @param {ErrorMessage} error
   */
  #rejectSent({ message: why, code }) {
    if (!this.#welcomed) return;
    const sent = [...this.#unacknowledged.values()];
    this.#unacknowledged.clear();
    for (const message of sent) message.reject(`the server could not read a frame, maybe that of this message (${why})`, code);
  }

  /**
   * Returns the message with this id that has no answer yet.
   * @param {string} id
   */
  #waiting(id) {
    return this.#unacknowledged.get(id) ?? this.#accepted.get(id)?.message;
  }

  /**
   * Waits for a message no more.
   * @param {SentMessage} message
   * @param {Error} reason
   */
  #abandon(message, reason) {
    message.fail(reason);
    // Another one may have its id by now.
    if (this.#waiting(message.id) !== message) return;
    this.#unacknowledged.delete(message.id);
    this.#accepted.delete(message.id);
  }

  /**
   * Makes a request, unless it is too late, and returns the promise of its answer.
   * @template T
   * @param {Request<T>} request
   * @param {AbortSignal | undefined} signal
   * @param {() => void} make
   * @returns {Promise<T>}
   */
  #await(request, signal, make) {
    const { promise, reject } = request.answer;
    if (this.#ended) reject(this.#ended);
    onAbort(signal, promise, (reason) => {
      request.aborted = true;
      reject(reason);
      if (!this.#welcomed) this.#forgetAborted();
    });
    if (!this.#ended && !request.aborted) make();
    return promise;
  }

  /** Removes the requests that nobody waits for. Those that were sent over this connection must stay. */
  #forgetAborted() {
    this.#historyRequests = this.#historyRequests.filter(({ aborted }) => !aborted);
    this.#queries = this.#queries.filter(({ aborted }) => !aborted);
  }

  /** @param {HistoryRequest} request */
  #requestHistory(request) {
    this.#historyRequests.push(request);
    if (this.#welcomed) this.#writeHistoryRequest(request);
  }

  /** @param {HistoryRequest} request */
  #writeHistoryRequest({ limit, since, before }) {
    this.#write({ type: 'fetch_history', session_id: this.session, limit, since, before });
  }

  /**
   * Makes a request for anything but history, and returns the promise of its answer.
   * @param {Query['frame'] & Record<string, unknown>} frame
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<any>}
   */
  #query(frame, signal) {
    /** @type {Query} */
    const query = { frame, answer: deferred() };
    return this.#await(query, signal, () => this.#requestQuery(query));
  }

  /** @param {Query} query */
  #requestQuery(query) {
    this.#queries.push(query);
    if (this.#welcomed) this.#write(query.frame);
  }

  /**
   * Removes and returns the oldest request of this type.
   * @param {string} type
   */
  #takeQuery(type) {
    const index = this.#queries.findIndex(({ frame }) => frame.type === type);
    return index < 0 ? undefined : this.#queries.splice(index, 1)[0];
  }

  // Receiving.

  /** @param {unknown} data */
  #onMessage(data) {
    this.#missed = 0;
    /** @type {ServerMessage} */
    let message;
    try {
      message = parse(String(data));
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
        return void (this.#reorderBuffer ? this.#reorderBuffer.messages.push(message) : this.#emitInOrder(message));
      case 'history': {
        if (message.search !== undefined) return this.#onFound(message);
        this.#historyPart.push(...message.messages);
        this.#truncatedBefore = Math.max(this.#truncatedBefore, message.truncated_before ?? 0);
        if (message.more) return;
        message.messages = this.#historyPart;
        if (this.#truncatedBefore) message.truncated_before = this.#truncatedBefore;
        this.#historyPart = [];
        this.#truncatedBefore = 0;
        const request = this.#historyRequests.shift();
        if (request?.fill) return request.fill(message);
        this.#emitMessage(message);
        return request?.answer?.resolve(message);
      }
      case 'sessions':
        this.#sessionsPart.push(...message.sessions);
        if (message.more) return;
        message.sessions = this.#sessionsPart;
        this.#sessionsPart = [];
        this.#emitMessage(message);
        return this.#takeQuery('list_sessions')?.answer.resolve(message);
      case 'verdicts':
        this.#verdictsPart.push(...message.verdicts);
        if (message.more) return;
        message.verdicts = this.#verdictsPart;
        this.#verdictsPart = [];
        this.#emitMessage(message);
        return this.#takeQuery('fetch_verdicts')?.answer.resolve(message);
      case 'delivery':
        return this.#onReceipt(message);
      case 'error':
        this.#lastError = message;
        if (message.code === 'invalid_json' && !message.session_id && !message.request) this.#rejectSent(message);
        this.#emitMessage(message);
        return this.#failRequest(message);
      default:
        return this.#emitMessage(message);
    }
  }

  /**
   * The server has not taken the oldest request of this type.
   * @param {ErrorMessage} error
   */
  #failRequest(error) {
    const { request: type = '' } = error;
    if (type !== 'fetch_history') return this.#takeQuery(type)?.answer.reject(new RequestError(error));
    const request = this.#historyRequests.shift();
    if (request?.fill) this.#releaseBuffer();
    else request?.answer?.reject(new RequestError(error));
  }

  /**
   * Handles what was found in one session, or a part of that.
   * @param {HistoryMessage} history
   */
  #onFound({ more, ...history }) {
    const last = this.#foundPart.at(-1);
    if (last?.session_id === history.session_id) last.messages.push(...history.messages);
    else this.#foundPart.push(history);
    if (more) return;
    const found = this.#foundPart;
    this.#foundPart = [];
    found.forEach((part, index) => this.#emitMessage(index + 1 < found.length ? { ...part, more: true } : part));
    const messages = found.flatMap(({ session_id, messages }) => messages.map((message) => ({ ...message, session_id })));
    this.#takeQuery('search')?.answer.resolve(messages);
  }

  /** @param {WelcomeMessage} welcome */
  #onWelcome({ session_id, seq, created, max_message }) {
    this.#session = session_id;
    this.#forgetAborted();
    // Only what waits now: what a listener sends from here on is written at once.
    const messages = [...this.#unacknowledged.values()];
    const waiting = [...this.#accepted.keys()];
    const historyRequests = this.#historyRequests.filter(({ fill }) => !fill);
    const queries = this.#queries;
    const verdicts = [...this.#verdicts];
    this.#historyRequests = [];
    this.#queries = [];
    this.#verdicts.clear();
    this.#attempts = 0;
    this.#maxMessage = max_message;
    this.#welcomed = true;
    if (this.#created === undefined) this.#seq = seq;
    else if (created !== this.#created) this.#seq = this.#ownSeq = 0;
    this.#created = created;

    this.#seq = Math.max(this.#seq, this.#ownSeq);
    if (seq > this.#seq) this.#requestMissed();
    else this.#releaseBuffer();
    // Receipts are not sent again, and Claude Code may have ended since.
    for (const id of waiting) this.#write({ type: 'fetch_receipt', session_id, id });
    for (const message of messages) this.#writeMessage(message);
    for (const request of historyRequests) this.#requestHistory(request);
    for (const query of queries) this.#requestQuery(query);
    for (const [id, allowed] of verdicts) this.respondToPermission(id, allowed);
  }

  /** Requests the messages after the last known one. New ones are held back meanwhile, to keep the order. */
  #requestMissed() {
    this.#requestHistory({ limit: PAGE, since: this.#seq, fill: (history) => this.#onMissed(history) });
  }

  /** @param {HistoryMessage} history */
  #onMissed({ messages, truncated_before: until = 0 }) {
    const before = this.#seq;
    if (until > before + 1) this.#emit('gap', { after: before, until });
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
  }

  /** @param {HistoryItem} item */
  #emitMissed({ role, state, ...item }) {
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
  }

  /** @param {DeliveryMessage} delivery */
  #onReceipt(delivery) {
    const { id, state, message_id, seq = 0 } = delivery;
    // A state that only a newer server knows says nothing about those that are known here.
    if (!DELIVERY_STATES.includes(state)) return this.#emitMessage(delivery);
    // Claude Code has ended before it had the message, which is for the next one.
    if (this.#unacknowledged.has(id) && state === 'rejected' && delivery.code === 'host_closed') return;
    const message = this.#waiting(id);
    const wasSeen = this.#accepted.get(id)?.state === 'seen';
    this.#unacknowledged.delete(id);
    this.#accepted.delete(id);
    if (message_id) this.#remember(message_id);
    if (this.#reorderBuffer) this.#reorderBuffer.ownSeq = Math.max(this.#reorderBuffer.ownSeq, seq);
    else this.#ownSeq = Math.max(this.#ownSeq, seq);
    if (message && !FINAL_STATES.includes(state)) {
      this.#accepted.set(id, { message, state });
      this.#forgetOldest();
    }
    const { code, message: why } = this.#lastError ?? {};
    message?.settle(delivery, code === delivery.code ? why : undefined);
    // A message that was seen stays so, although nobody knows any more whether it will be answered.
    if (!(wasSeen && state === 'lost')) this.#emitMessage(delivery);
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
 * @param {Record<string, number>} values
 * @throws {TypeError} if one is not a whole number
 */
function wholeNumbers(values) {
  for (const [name, value] of Object.entries(values)) {
    if (!Number.isSafeInteger(value)) throw new TypeError(`${name} is ${value}; give a whole number`);
  }
}

/**
 * Calls back with the reason when a signal aborts, at once if it has, and never once the promise has settled.
 * @param {AbortSignal | undefined} signal
 * @param {Promise<unknown>} until
 * @param {(reason: any) => void} callback
 */
function onAbort(signal, until, callback) {
  if (!signal) return;
  if (signal.aborted) return callback(signal.reason);
  const listener = () => callback(signal.reason);
  const end = () => signal.removeEventListener('abort', listener);
  signal.addEventListener('abort', listener);
  until.then(end, end);
}

/**
 * Returns what an answer to a plain request says about a connection that has failed.
 * @param {Response} answer
 * @returns {Promise<Finding>}
 */
async function finding(answer) {
  const { ok, status } = answer;
  if (ok || status === UPGRADE_REQUIRED) {
    return { reason: 'the server answers, but the WebSocket has not opened; what is between may not let it through' };
  }
  const { code, message, error } = (await answer.json().catch(() => null)) ?? {};
  const sentences = [message, error, status ? `the server answers with the HTTP status ${status}` : 'the server redirects, which no WebSocket follows'];
  const refusal = {
    status,
    code: typeof code === 'string' ? code : `http_${status}`,
    message: sentences.find((sentence) => typeof sentence === 'string' && sentence !== ''),
  };
  // A date is not understood.
  const seconds = Number(answer.headers.get('Retry-After'));
  const retryAfter = seconds > 0 ? seconds * 1000 : 0;
  return { reason: refusal.message, refusal, retryAfter, final: FINAL_STATUSES.includes(status) };
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

/**
 * Returns a text with U+FFFD for each half of a character, such as `slice` leaves of an emoji. What isn't a string stays.
 * @template T
 * @param {T} text
 * @returns {T}
 */
function wellFormed(text) {
  return typeof text === 'string' ? /** @type {T & string} */ (text.replace(LONE_SURROGATES, '\ufffd')) : text;
}

/**
 * Parses a frame.
 * @param {string} json
 * @returns {ServerMessage}
 */
function parse(json) {
  return JSON.parse(json, ESCAPED_SURROGATE.test(json) ? (_key, value) => wellFormed(value) : undefined);
}

/** Returns a UUID of version 4. Pages without TLS have no `crypto.randomUUID`. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
