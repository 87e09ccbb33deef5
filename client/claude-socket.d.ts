/**
 * A promise with its `resolve` and `reject`.
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: Error) => void}} Deferred
 */
/**
 * A message with a receipt, and when the session of that receipt began.
 * @typedef {{message: SentMessage, receipt: DeliveryMessage, created: string | undefined}} Accepted
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
     * @param {ErrorCode | 'queue_full'} code
     */
    constructor(message: string, code: ErrorCode | "queue_full");
    /** Why, for programs. */
    code: ErrorCode | "queue_full";
}
/** A message that was sent, with promises of its delivery states. */
export class SentMessage {
    /**
     * @param {string} content
     * @param {{user: string, id?: string, ts?: string}} message
     */
    constructor(content: string, { user, id, ts }: {
        user: string;
        id?: string;
        ts?: string;
    });
    /** Its text. @readonly */
    readonly content: string;
    /** Its author. @readonly */
    readonly user: string;
    /** Its id. @readonly */
    readonly id: string;
    /** When it was sent (RFC 3339). @readonly */
    readonly ts: string;
    /**
     * Resolves when Claude Code has the message. Rejects with a {@link DeliveryError} if it was rejected.
     * @returns {Promise<DeliveryMessage>}
     */
    get accepted(): Promise<DeliveryMessage>;
    /**
     * Resolves when the message is in Claude's conversation. Only the plugin's hooks can tell; without
     * them it resolves with the answer.
     * @returns {Promise<DeliveryMessage>}
     */
    get seen(): Promise<DeliveryMessage>;
    /**
     * Resolves when Claude has replied to the session after the message.
     * @returns {Promise<DeliveryMessage>}
     */
    get answered(): Promise<DeliveryMessage>;
    /**
     * Applies a receipt. A later state includes the earlier ones.
     * @param {DeliveryMessage} delivery
     * @param {string} [why] the server's sentence about a rejected message
     * @internal
     */
    settle(delivery: DeliveryMessage, why?: string): void;
    /**
     * @param {string} why
     * @param {ErrorCode | 'queue_full'} code
     * @internal
     */
    reject(why: string, code: ErrorCode | "queue_full"): void;
    #private;
}
/** A connection to a session of a claude-socket server. It reconnects until `disconnect`. */
export class ClaudeSocket {
    /**
     * @param {string | URL} url the server's address, such as `ws://127.0.0.1:3100`
     * @param {ClaudeSocketOptions} [options]
     * @throws {SyntaxError | TypeError} if the URL is invalid, or the runtime has no WebSocket
     */
    constructor(url: string | URL, options?: ClaudeSocketOptions);
    /** The author of the messages to come. May be changed at any time. */
    user: string;
    /** The session. If neither an option nor the URL names one, the server does, with `welcome`. */
    get session(): string;
    /** `true` while the connection is open. */
    get connected(): boolean;
    /** `true` while the connection is being opened. */
    get connecting(): boolean;
    /**
     * Opens the connection. Does nothing if it is open or being opened. Between two attempts to
     * reconnect, makes the next one at once.
     */
    connect(): void;
    /** Closes the connection and does not reconnect. Unsent messages wait for the next `connect`. */
    disconnect(): void;
    /**
     * Sends a message to Claude, now or when the connection is open.
     * @param {string} content
     * @param {{id?: string, ts?: string, user?: string}} [again] the `id`, `ts` and `user` of a message
     *   that an earlier client has sent without a receipt: under its old id Claude gets it once
     * @returns {SentMessage} the id, and promises of the delivery states. Awaiting them is optional: a
     *   rejected message also causes an `error` event.
     * @throws {TypeError} if the content is not a string
     */
    send(content: string, again?: {
        id?: string;
        ts?: string;
        user?: string;
    }): SentMessage;
    /**
     * Requests the session's history. It is also emitted as a `history` event.
     * @param {number} [limit] most messages, from 1 to 100
     * @param {{since?: number}} [from] with `since`, the first messages after that `seq`; without, the last ones
     * @returns {Promise<HistoryMessage>}
     * @throws {TypeError} if `limit` or `since` is not a whole number
     */
    fetchHistory(limit?: number, { since }?: {
        since?: number;
    }): Promise<HistoryMessage>;
    /**
     * Requests the list of sessions, and joins none. It is also emitted as a `sessions` event.
     * @returns {Promise<SessionsMessage>}
     */
    fetchSessions(): Promise<SessionsMessage>;
    /**
     * Answers a permission request. Only the first verdict on a request counts.
     * @param {string} requestId
     * @param {boolean} allowed
     */
    respondToPermission(requestId: string, allowed: boolean): void;
    /**
     * Adds a listener. Returns a function that removes it.
     * @template {keyof ClaudeSocketEvents} E
     * @param {E} event
     * @param {ClaudeSocketEvents[E]} callback
     * @returns {() => void}
     */
    on<E extends keyof ClaudeSocketEvents>(event: E, callback: ClaudeSocketEvents[E]): () => void;
    /**
     * Adds a listener for the next event only. Returns a function that removes it.
     * @template {keyof ClaudeSocketEvents} E
     * @param {E} event
     * @param {ClaudeSocketEvents[E]} callback
     * @returns {() => void}
     */
    once<E extends keyof ClaudeSocketEvents>(event: E, callback: ClaudeSocketEvents[E]): () => void;
    /**
     * Removes a listener.
     * @template {keyof ClaudeSocketEvents} E
     * @param {E} event
     * @param {ClaudeSocketEvents[E]} callback
     */
    off<E extends keyof ClaudeSocketEvents>(event: E, callback: ClaudeSocketEvents[E]): void;
    #private;
}
export default ClaudeSocket;
/**
 * What Claude answers.
 */
export type ReplyMessage = {
    type: "reply";
    session_id: string;
    message_id: string;
    /**
     * its place in the session, from 1
     */
    seq: number;
    content: string;
    /**
     * when, as RFC 3339
     */
    ts: string;
    /**
     * Claude wrote it in the terminal and didn't use the reply tool
     */
    via?: "transcript" | undefined;
};
/**
 * What Claude is doing.
 */
export type StatusMessage = {
    type: "status";
    session_id: string;
    status: "thinking" | "tool_use" | "idle";
    /**
     * for people, such as `Bash: make a file`
     */
    detail?: string | undefined;
};
/**
 * Something that was said in a session.
 */
export type HistoryItem = {
    role: "user" | "assistant";
    content: string;
    ts: string;
    message_id: string;
    seq: number;
    /**
     * who said it, if it wasn't Claude
     */
    user?: string | undefined;
    via?: "transcript" | undefined;
};
/**
 * What was said, oldest first.
 */
export type HistoryMessage = {
    type: "history";
    session_id: string;
    messages: HistoryItem[];
};
/**
 * How a session is.
 */
export type SessionItem = {
    session_id: string;
    /**
     * how many are in it
     */
    clients: number;
    /**
     * when it began, as RFC 3339
     */
    created: string;
    /**
     * of what was said last; 0 before
     */
    seq: number;
    status: "thinking" | "tool_use" | "idle";
    detail?: string | undefined;
    /**
     * what was said last; of a long text only the beginning
     */
    last?: HistoryItem | undefined;
};
/**
 * Which sessions there are.
 */
export type SessionsMessage = {
    type: "sessions";
    /**
     * 100 at most, those with somebody in them first
     */
    sessions: SessionItem[];
    /**
     * how many there are
     */
    total: number;
    /**
     * how many permission requests wait for an operator
     */
    permissions: number;
};
/**
 * What somebody else in the session said.
 */
export type UserMessage = {
    type: "user_message";
    session_id: string;
    message_id: string;
    seq: number;
    content: string;
    user: string;
    ts: string;
};
/**
 * Claude Code asks whether a tool may run.
 */
export type PermissionRequestMessage = {
    type: "permission_request";
    session_id: string;
    request_id: string;
    tool_name: string;
    description: string;
    /**
     * what the tool would get, mostly JSON
     */
    input_preview: string;
};
/**
 * It is decided.
 */
export type PermissionResolvedMessage = {
    type: "permission_resolved";
    session_id: string;
    request_id: string;
    allowed: boolean;
    /**
     * a user's name, `terminal` or `expired`
     */
    by: string;
};
/**
 * What became of a message.
 */
export type DeliveryMessage = {
    type: "delivery";
    session_id: string;
    /**
     * the id of the message, as `send` returned it
     */
    id: string;
    /**
     * the server's id of it
     */
    message_id?: string | undefined;
    /**
     * its place in the session
     */
    seq?: number | undefined;
    state: "accepted" | "seen" | "unseen" | "answered" | "rejected";
    /**
     * why it was rejected
     */
    code?: ErrorCode | undefined;
    /**
     * what may be wrong, if it is `unseen`
     */
    hint?: string | undefined;
};
/**
 * A piece of Claude's text, as it appears.
 */
export type StreamMessage = {
    type: "stream";
    session_id: string;
    delta: string;
};
/**
 * Who the server is, and what this client may do there.
 */
export type WelcomeMessage = {
    type: "welcome";
    server: string;
    version: string;
    session_id: string;
    role: "operator" | "sender" | "viewer";
    /**
     * the name of this client's token, which its messages are signed with
     */
    user?: string | undefined;
    /**
     * the last one of the session
     */
    seq: number;
    /**
     * when the session began, as RFC 3339
     */
    created: string;
    /**
     * the longest frame that the server takes, in bytes
     */
    max_message: number;
    /**
     * Claude Code
     */
    host: {
        name: string;
        version: string;
        ready: boolean;
    };
};
/**
 * The answer to a ping.
 */
export type PongMessage = {
    type: "pong";
};
export type ErrorCode = "invalid_json" | "unknown_type" | "invalid_message" | "too_large" | "unknown_request" | "forbidden" | "busy" | "host_closed";
/**
 * The server has not taken a frame, or this client a message.
 */
export type ErrorMessage = {
    type: "error";
    session_id: string;
    /**
     * one sentence for people
     */
    message: string;
    /**
     * for programs
     */
    code?: ErrorCode | "queue_full" | undefined;
};
/**
 * Every message of the server's, told apart by `type`.
 */
export type ServerMessage = ReplyMessage | StatusMessage | HistoryMessage | SessionsMessage | UserMessage | PermissionRequestMessage | PermissionResolvedMessage | DeliveryMessage | StreamMessage | WelcomeMessage | PongMessage | ErrorMessage;
/**
 * Why and for how long there is no connection.
 */
export type Disconnection = {
    /**
     * the close code (RFC 6455, section 7.4); 1006 if there was none
     */
    code: number;
    reason: string;
    /**
     * in how many milliseconds the next attempt is; null if there is none
     */
    retryIn: number | null;
};
/**
 * The events, and what their listeners get.
 */
export type ClaudeSocketEvents = {
    connected: () => void;
    disconnected: (disconnection: Disconnection) => void;
    reply: (message: ReplyMessage) => void;
    status: (message: StatusMessage) => void;
    history: (message: HistoryMessage) => void;
    sessions: (message: SessionsMessage) => void;
    user_message: (message: UserMessage) => void;
    permission_request: (message: PermissionRequestMessage) => void;
    permission_resolved: (message: PermissionResolvedMessage) => void;
    delivery: (message: DeliveryMessage) => void;
    stream: (message: StreamMessage) => void;
    welcome: (message: WelcomeMessage) => void;
    pong: (message: PongMessage) => void;
    error: (message: ErrorMessage) => void;
    /**
     * every message, after its own event
     */
    message: (message: ServerMessage) => void;
};
export type ClaudeSocketOptions = {
    /**
     * the chat to take part in; if left out, the one that the URL names, the
     * one that the token is for, or `default`
     */
    session?: string | undefined;
    /**
     * who speaks; `user` if left out
     */
    user?: string | undefined;
    /**
     * whether a lost connection is opened again; true if left out
     */
    reconnect?: boolean | undefined;
    /**
     * the longest wait before the first attempt, in milliseconds; it
     * doubles with each. 1000 if left out. How long it really is, is random (full jitter).
     */
    reconnectDelay?: number | undefined;
    /**
     * the longest wait of all, in milliseconds; 30000 if left out
     */
    maxReconnectDelay?: number | undefined;
    /**
     * what lets this client in, if the server asks for one
     */
    token?: string | undefined;
    /**
     * whether Claude's text is wanted as it appears; false if left out
     */
    stream?: boolean | undefined;
    /**
     * how often a silent server is asked for a sign of life, in
     * milliseconds; 20000 if left out. After two without one the connection counts as lost.
     */
    heartbeat?: number | undefined;
    /**
     * the most messages that wait for a receipt; 1000 if left out
     */
    queueLimit?: number | undefined;
    /**
     * the class to connect with, where the runtime has none
     * (Node 20): that of `ws`
     */
    WebSocket?: WebSocketConstructor | undefined;
};
/**
 * The part of a WebSocket that is used here.
 */
export type WebSocketLike = {
    readyState: number;
    onopen: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    send: (data: string) => void;
    close: (code?: number, reason?: string) => void;
};
/**
 * The part of a WebSocket that is used here.
 */
export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike;
/**
 * A promise with its `resolve` and `reject`.
 */
export type Deferred<T> = {
    promise: Promise<T>;
    resolve: (value: T) => void;
    reject: (error: Error) => void;
};
/**
 * A message with a receipt, and when the session of that receipt began.
 */
export type Accepted = {
    message: SentMessage;
    receipt: DeliveryMessage;
    created: string | undefined;
};
/**
 * A request for history that was not answered yet: of the app (`answer`), or to fill a gap (`fill`).
 */
export type HistoryRequest = {
    limit: number;
    since?: number | undefined;
    answer?: ((history: HistoryMessage) => void) | undefined;
    fill?: ((history: HistoryMessage) => void) | undefined;
};
