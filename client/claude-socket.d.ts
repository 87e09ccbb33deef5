/** Close code of the server for a token that was removed or changed or has expired, or when one is needed now. */
export const UNAUTHORIZED: 4401;
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
    constructor(message: string, code: ErrorCode, retryAfter?: number);
    /** Why, for programs. */
    code: ErrorCode;
    /** In how many seconds the server can take the message, if its token's rate is used up. */
    retryAfter: number | undefined;
}
/** The server has not taken a request, such as one for history. */
export class RequestError extends Error {
    /** @param {ErrorMessage} error */
    constructor({ message, code }: ErrorMessage);
    /** Why, for programs. */
    code: ErrorCode;
}
/** Nobody knows whether Claude has seen the message: Claude Code has ended, or the server was restarted. */
export class LostError extends Error {
    /** @param {string} message */
    constructor(message: string);
}
/** The client has ended, and what waited is not waited for any more. `connect` begins anew. */
export class EndedError extends Error {
    /** @param {string} message */
    constructor(message: string);
}
/** The client has ended because the server doesn't let it in. */
export class RefusedError extends EndedError {
    /** @param {Refusal} refusal */
    constructor({ status, code, message }: Refusal);
    /** The HTTP status; 0 if the browser hides it. */
    status: number;
    /** Why, for programs. */
    code: string;
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
     * Resolves when the message is the server's: it waits on disk for Claude Code, or Claude Code has it. From then on it
     * is not sent again. One that Claude Code had and has not seen can wait anew, which its `delivery` tells.
     * @returns {Promise<DeliveryMessage>}
     */
    get queued(): Promise<DeliveryMessage>;
    /**
     * Resolves when Claude Code has the message. Rejects with a {@link DeliveryError} if it was rejected, with an
     * {@link EndedError} if the client has ended, or with the reason of the signal that was given to `send`.
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
     * Returns the promise of a state, which rejects also when the signal aborts. The message goes on.
     * @param {AwaitedState} state
     * @param {{signal?: AbortSignal}} [until]
     * @returns {Promise<DeliveryMessage>}
     */
    when(state: AwaitedState, { signal }?: {
        signal?: AbortSignal;
    }): Promise<DeliveryMessage>;
    /**
     * Applies a receipt. A later state includes the earlier ones.
     * @param {DeliveryMessage} delivery
     * @param {string} [why] the server's sentence about a rejected message
     * @internal
     */
    settle(delivery: DeliveryMessage, why?: string): void;
    /**
     * @param {string} why
     * @param {ErrorCode} code
     * @param {number} [retryAfter] seconds
     * @internal
     */
    reject(why: string, code: ErrorCode, retryAfter?: number): void;
    /**
     * Rejects what has not been reached.
     * @param {Error} error
     * @internal
     */
    fail(error: Error): void;
    /**
     * Settles as another message with this id.
     * @param {SentMessage} other
     * @internal
     */
    follow(other: SentMessage): void;
    #private;
}
/**
 * A connection to a session of a claude-socket server. It reconnects until `disconnect` or `close`, or until the
 * server refuses it for good.
 */
export class ClaudeSocket {
    /**
     * @param {string | URL} url the server's address, such as `ws://127.0.0.1:3100`
     * @param {ClaudeSocketOptions} [options]
     * @throws {SyntaxError | TypeError} if the URL is invalid, or the runtime has no WebSocket
     */
    constructor(url: string | URL, options?: ClaudeSocketOptions);
    /** The author of the messages to come. May be changed at any time. */
    user: string;
    /** The token of the attempts to come. May be changed at any time. @type {string | undefined} */
    token: string | undefined;
    /** The session. If neither an option nor the URL names one, the server does, with `welcome`. */
    get session(): string;
    /** `true` while the connection is open. */
    get connected(): boolean;
    /** `true` while the connection is being opened. */
    get connecting(): boolean;
    /**
     * Opens the connection. Does nothing if it is open or being opened. Between two attempts to
     * reconnect, makes the next one at once. Begins anew if the client has ended.
     */
    connect(): void;
    /**
     * Closes the connection and does not reconnect. What waits, waits for the next `connect`; see also
     * {@link ClaudeSocket.close}.
     */
    disconnect(): void;
    /**
     * Closes the connection and ends the client: every promise that waits rejects with an {@link EndedError}, and
     * so does what is sent from now on, until the next `connect`. What has no receipt yet may have arrived.
     */
    close(): void;
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
    send(content: string, { signal, ...again }?: {
        id?: string;
        ts?: string;
        user?: string;
        signal?: AbortSignal;
    }): SentMessage;
    /**
     * Requests the session's history. It is also emitted as a `history` event.
     * @param {number} [limit] most messages, from 1 to 100
     * @param {{since?: number, before?: number, signal?: AbortSignal}} [options] with `since`, the first messages after that
     *   `seq`; with `before`, the last ones before that `seq`; without, the last ones. The promise rejects when `signal` aborts.
     * @returns {Promise<HistoryMessage>} rejects with a {@link RequestError} if the server doesn't take the request, and
     *   with an {@link EndedError} if the client ends before
     * @throws {TypeError} if `limit`, `since` or `before` is not a whole number
     */
    fetchHistory(limit?: number, { since, before, signal }?: {
        since?: number;
        before?: number;
        signal?: AbortSignal;
    }): Promise<HistoryMessage>;
    /**
     * Requests the list of sessions, and joins none. It is also emitted as a `sessions` event.
     * @param {{signal?: AbortSignal}} [options] the promise rejects when `signal` aborts
     * @returns {Promise<SessionsMessage>} rejects with a {@link RequestError} if the server doesn't take the request, and
     *   with an {@link EndedError} if the client ends before
     */
    fetchSessions({ signal }?: {
        signal?: AbortSignal;
    }): Promise<SessionsMessage>;
    /**
     * Finds the messages in which all these words are, the last one also as the beginning of a word.
     * @param {string} text 200 characters at most
     * @param {{limit?: number, session?: string, signal?: AbortSignal}} [options] most messages, from 1 to 100, 50 if left
     *   out: the newest; in this session, or in all that the client may read. The promise rejects when `signal` aborts.
     * @returns {Promise<FoundMessage[]>} by session, oldest first in each. Rejects as that of `fetchHistory` does.
     * @throws {TypeError} if the text is not a string, or `limit` is not a whole number
     */
    search(text: string, { limit, session, signal }?: {
        limit?: number;
        session?: string;
        signal?: AbortSignal;
    }): Promise<FoundMessage[]>;
    /**
     * Requests the permission requests that were decided, the last ones. Only an operator may. They are also emitted as a
     * `verdicts` event.
     * @param {{limit?: number, signal?: AbortSignal}} [options] most verdicts, from 1 to 100, 50 if left out. The promise
     *   rejects when `signal` aborts.
     * @returns {Promise<VerdictsMessage>} rejects as that of `fetchHistory` does
     * @throws {TypeError} if `limit` is not a whole number
     */
    fetchVerdicts({ limit, signal }?: {
        limit?: number;
        signal?: AbortSignal;
    }): Promise<VerdictsMessage>;
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
 * How a reply came, if Claude didn't use the reply tool. `transcript`: Claude has only said it in the terminal.
 */
export type ReplySource = "transcript";
/**
 * Who has written a message. `user`: Somebody at a client. `assistant`: Claude.
 */
export type Author = "user" | "assistant";
/**
 * What Claude is doing. `thinking`: It thinks. `tool_use`: It uses a tool. `idle`: It waits for somebody.
 */
export type Status = "thinking" | "tool_use" | "idle";
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
 */
export type DeliveryState = "queued" | "accepted" | "seen" | "unseen" | "answered" | "lost" | "rejected";
/**
 * The kind of an error, for programs. `invalid_json`: The frame is not JSON. `unknown_type`: There is no such
 * `type`. `invalid_message`: A field is missing or wrong, and `message` names it. `too_large`: The message is
 * over the limit, or over what the token's rate ever allows. Over four times the limit it closes the connection
 * (1009). `forbidden`: The client's role or token doesn't allow it. `unknown_request`: That permission request
 * is not open. `busy`: A limit is reached: of the server, or the rate of the client's token. `host_closed`:
 * Claude Code has ended. `queue_full`: Too many messages wait for the server. Only client libraries say so.
 */
export type ErrorCode = "invalid_json" | "unknown_type" | "invalid_message" | "too_large" | "forbidden" | "unknown_request" | "busy" | "host_closed" | "queue_full";
/**
 * What a client may do. `operator`: Everything. `sender`: Send and read. Neither sees nor answers permission
 * requests. `viewer`: Read.
 */
export type Role = "operator" | "sender" | "viewer";
/**
 * A message of a session.
 */
export type HistoryItem = {
    /**
     * Who has written it.
     */
    role: Author;
    /**
     * The text.
     */
    content: string;
    /**
     * When it was written, as the client says; else the server's time, RFC 3339 in UTC.
     */
    ts: string;
    /**
     * The server's id of it.
     */
    message_id: string;
    /**
     * Its place in the session, from 1.
     */
    seq: number;
    /**
     * The author's name. Not for Claude.
     */
    user?: string | undefined;
    /**
     * How a reply came, if not by the reply tool.
     */
    via?: "transcript" | undefined;
    /**
     * What became of a user's message, as far as the server has got.
     */
    state?: DeliveryState | undefined;
};
/**
 * A permission request that was decided.
 */
export type VerdictItem = {
    /**
     * The request.
     */
    request_id: string;
    /**
     * The tool, such as `Bash`.
     */
    tool_name: string;
    /**
     * What the tool was about to do. Untrusted text.
     */
    description: string;
    /**
     * `true` if the tool could run.
     */
    allowed: boolean;
    /**
     * Who has decided, as in `permission_resolved`.
     */
    by: string;
    /**
     * When, RFC 3339 in UTC.
     */
    ts: string;
};
/**
 * The state of a session.
 */
export type SessionItem = {
    /**
     * Its name.
     */
    session_id: string;
    /**
     * The number of clients in it.
     */
    clients: number;
    /**
     * When it began, RFC 3339 in UTC.
     */
    created: string;
    /**
     * The last `seq`; 0 before the first message.
     */
    seq: number;
    /**
     * What Claude is doing there.
     */
    status: Status;
    /**
     * More, for people, such as the tool and what it does. Untrusted text.
     */
    detail?: string | undefined;
    /**
     * The last message, with 200 characters of its `content` at most.
     */
    last?: HistoryItem | undefined;
};
/**
 * What Claude Code has said about itself.
 */
export type HostInfo = {
    /**
     * Its name, `claude-code`; `""` before it has introduced itself.
     */
    name: string;
    /**
     * Its version, or `""`.
     */
    version: string;
    /**
     * `true` if it takes messages.
     */
    ready: boolean;
};
/**
 * Claude's answer. To everyone in the session.
 */
export type ReplyMessage = {
    type: "reply";
    /**
     * The session.
     */
    session_id: string;
    /**
     * The server's id of the reply.
     */
    message_id: string;
    /**
     * Its place in the session, from 1.
     */
    seq: number;
    /**
     * The text. Often Markdown.
     */
    content: string;
    /**
     * The server's time, RFC 3339 in UTC.
     */
    ts: string;
    /**
     * How the reply came, if not by the reply tool. Only such a one can be cut off,
     * and then says so at its end.
     */
    via?: "transcript" | undefined;
};
/**
 * A piece of Claude's text, as it appears. To those who asked for it with `hello`. The `reply` counts. Needs the
 * plugin's hooks.
 */
export type StreamMessage = {
    type: "stream";
    /**
     * The session that Claude answers.
     */
    session_id: string;
    /**
     * The next piece.
     */
    delta: string;
};
/**
 * What Claude is doing. To everyone in the session, and to a client that joins while it isn't `idle`.
 */
export type StatusMessage = {
    type: "status";
    /**
     * The session.
     */
    session_id: string;
    /**
     * What Claude is doing.
     */
    status: Status;
    /**
     * More, for people, such as the tool and what it does, in 500 characters at most.
     * Untrusted text.
     */
    detail?: string | undefined;
};
/**
 * Messages of a session, oldest first. The answer to `fetch_history`, and to `search`. Empty for a session that
 * doesn't exist. A long one comes in several such messages, and others may come between them.
 */
export type HistoryMessage = {
    type: "history";
    /**
     * The session.
     */
    session_id: string;
    /**
     * 100 messages at most.
     */
    messages: HistoryItem[];
    /**
     * Messages that were asked for are not kept any more: some before this
     * `seq` are missing here.
     */
    truncated_before?: number | undefined;
    /**
     * The words that were searched for. These are messages in which they are, and not
     * the history between them.
     */
    search?: string | undefined;
    /**
     * `true` if the next `history` goes on with this answer.
     */
    more?: boolean | undefined;
};
/**
 * The sessions. The answer to `list_sessions`. Only those that the client may read. A long one comes in several
 * such messages, and others may come between them.
 */
export type SessionsMessage = {
    type: "sessions";
    /**
     * 100 sessions at most: those with a client in them first, then by name.
     */
    sessions: SessionItem[];
    /**
     * The number of sessions, listed or not.
     */
    total: number;
    /**
     * The number of permission requests that wait for an operator. They belong to no
     * session.
     */
    permissions: number;
    /**
     * `true` if the next `sessions` goes on with this answer.
     */
    more?: boolean | undefined;
};
/**
 * Permission requests that were decided, oldest first. The answer to `fetch_verdicts`. A long one comes in
 * several such messages, and others may come between them.
 */
export type VerdictsMessage = {
    type: "verdicts";
    /**
     * 100 verdicts at most.
     */
    verdicts: VerdictItem[];
    /**
     * `true` if the next `verdicts` goes on with this answer.
     */
    more?: boolean | undefined;
};
/**
 * Claude Code asks whether a tool may run. Claude Code doesn't say for which session it asks, so every operator
 * is asked once, with the session of its own address, also who connects later. The texts come from Claude Code
 * and from what Claude has read: show them as text.
 */
export type PermissionRequestMessage = {
    type: "permission_request";
    /**
     * The client's own session.
     */
    session_id: string;
    /**
     * What to answer with.
     */
    request_id: string;
    /**
     * The tool, such as `Bash`.
     */
    tool_name: string;
    /**
     * What the tool is about to do. Untrusted text.
     */
    description: string;
    /**
     * The tool's input, as display text, mostly JSON. A long one is cut off, and
     * says so at its end. Untrusted text.
     */
    input_preview: string;
};
/**
 * A permission request is closed. To everyone who was asked.
 */
export type PermissionResolvedMessage = {
    type: "permission_resolved";
    /**
     * The client's own session.
     */
    session_id: string;
    /**
     * The request.
     */
    request_id: string;
    /**
     * `true` if the tool may run.
     */
    allowed: boolean;
    /**
     * Who has answered: the name of a token, or the `user` of that client's last message
     * (`user` without one). `terminal` if the prompt was answered there, `expired` if nobody has answered it.
     */
    by: string;
    /**
     * Why nobody can answer it any more, one sentence for people. Only if it is
     * `expired`.
     */
    reason?: string | undefined;
};
/**
 * A message of somebody else. To the other clients of its session.
 */
export type UserMessage = {
    type: "user_message";
    /**
     * The session.
     */
    session_id: string;
    /**
     * The server's id of the message.
     */
    message_id: string;
    /**
     * Its place in the session, from 1.
     */
    seq: number;
    /**
     * The text.
     */
    content: string;
    /**
     * The author's name.
     */
    user: string;
    /**
     * When it was written, as the client says; else the server's time, RFC 3339 in UTC.
     */
    ts: string;
};
/**
 * The receipt of a message that had an `id`. To who has sent it.
 */
export type DeliveryMessage = {
    type: "delivery";
    /**
     * The session.
     */
    session_id: string;
    /**
     * The client's own id of the message.
     */
    id: string;
    /**
     * The server's id of the message. Left out if the frame itself was rejected.
     */
    message_id?: string | undefined;
    /**
     * Its place in the session, from 1. Left out as `message_id` is.
     */
    seq?: number | undefined;
    /**
     * How far the message has come.
     */
    state: DeliveryState;
    /**
     * Why it was rejected.
     */
    code?: ErrorCode | undefined;
    /**
     * In how many seconds, rounded up, the same message fits into the rate of the
     * client's token again. Only with `busy`, if that rate is the reason.
     */
    retry_after?: number | undefined;
    /**
     * What can be done about it, for people. Only with `unseen` and `lost`.
     */
    hint?: string | undefined;
};
/**
 * Who the server is, and what this client may do there. The answer to `hello`.
 */
export type WelcomeMessage = {
    type: "welcome";
    /**
     * Always `claude-socket`.
     */
    server: string;
    /**
     * The server's version.
     */
    version: string;
    /**
     * The connection's own session.
     */
    session_id: string;
    /**
     * What this client may do.
     */
    role: Role;
    /**
     * The name of this client's token, which its messages are signed with.
     */
    user?: string | undefined;
    /**
     * The last `seq` of the session; 0 before the first message.
     */
    seq: number;
    /**
     * When the session began, RFC 3339 in UTC. One that began anew counts from 1 again.
     */
    created: string;
    /**
     * The longest frame that the server takes, in bytes.
     */
    max_message: number;
    /**
     * Claude Code.
     */
    host: HostInfo;
};
/**
 * A sign of life. The answer to `ping`.
 */
export type PongMessage = {
    type: "pong";
};
/**
 * A frame was not taken. The connection goes on.
 */
export type ErrorMessage = {
    type: "error";
    /**
     * The session that the frame named, or `""`.
     */
    session_id: string;
    /**
     * One sentence for people. It is `invalid JSON` for what isn't JSON, and `unknown
     * message type: X` for an unknown type.
     */
    message: string;
    /**
     * The same for programs.
     */
    code: ErrorCode;
    /**
     * The `type` of the request that was not taken, such as `fetch_history`; left out
     * for a `message`. Requests of one type are answered in their order, so this is the answer to the oldest that
     * has none.
     */
    request?: string | undefined;
    /**
     * In how many seconds, rounded up, the same message fits into the rate of the
     * client's token again. Only with `busy`, if that rate is the reason.
     */
    retry_after?: number | undefined;
};
/**
 * Every message of the server's, told apart by `type`.
 */
export type ServerMessage = ReplyMessage | StreamMessage | StatusMessage | HistoryMessage | SessionsMessage | VerdictsMessage | PermissionRequestMessage | PermissionResolvedMessage | UserMessage | DeliveryMessage | WelcomeMessage | PongMessage | ErrorMessage;
/**
 * Why and for how long there is no connection.
 */
export type Disconnection = {
    /**
     * the close code (RFC 6455, section 7.4); 1006 if there was none
     */
    code: number;
    /**
     * for people; that of a refusal is its `message`
     */
    reason: string;
    /**
     * in how many milliseconds the next attempt is; null if there is none
     */
    retryIn: number | null;
};
/**
 * What the server answers instead of opening the connection.
 */
export type Refusal = {
    /**
     * the HTTP status; 0 if the browser hides it from this page
     */
    status: number;
    /**
     * the kind, for programs: what the server calls it; `forbidden_origin` also if the browser hides the
     * answer, as it does from a page that the server doesn't admit; `http_` and the status if there is no word for it
     */
    code: string;
    /**
     * one sentence for people
     */
    message: string;
};
/**
 * Of what was said while there was no connection, the server doesn't keep all messages any more: some between these two are
 * missing.
 */
export type Gap = {
    /**
     * the `seq` of the last message before the gap
     */
    after: number;
    /**
     * the `seq` of the first message of which on all are there
     */
    until: number;
};
/**
 * The events, and what their listeners get.
 */
export type ClaudeSocketEvents = {
    connected: () => void;
    /**
     * before the `disconnected`
     */
    refused: (refusal: Refusal) => void;
    /**
     * before the messages that were missed
     */
    gap: (gap: Gap) => void;
    disconnected: (disconnection: Disconnection) => void;
    reply: (message: ReplyMessage) => void;
    status: (message: StatusMessage) => void;
    history: (message: HistoryMessage) => void;
    sessions: (message: SessionsMessage) => void;
    verdicts: (message: VerdictsMessage) => void;
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
/**
 * A message in which the words of a search are.
 */
export type FoundMessage = HistoryItem & {
    session_id: string;
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
     * how long the server may take to open the connection, and as long again to
     * say why it has refused, in milliseconds; 10000 if left out
     */
    connectTimeout?: number | undefined;
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
    /**
     * what asks the server why it has refused, if not the runtime's `fetch`;
     * null asks nothing
     */
    fetch?: typeof fetch | null | undefined;
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
 * A message with a receipt, and the last state that the server has told.
 */
export type Accepted = {
    message: SentMessage;
    state: DeliveryState;
};
/**
 * What waits for an answer of the server. The answer to an `aborted` one is still to come if it was sent over
 * this connection.
 */
export type Request<T> = {
    answer: Deferred<T>;
    aborted?: boolean;
};
/**
 * A request for anything but history, as it is sent.
 */
export type Query = Request<any> & {
    frame: {
        type: "list_sessions" | "search" | "fetch_verdicts";
    };
};
/**
 * A request for history that was not answered yet: of the app (`answer`), or to fill a gap (`fill`).
 */
export type HistoryRequest = {
    limit: number;
    since?: number | undefined;
    before?: number | undefined;
    answer?: Deferred<HistoryMessage> | undefined;
    aborted?: boolean | undefined;
    fill?: ((history: HistoryMessage) => void) | undefined;
};
/**
 * What the server has answered after a failed attempt to connect.
 */
export type Finding = {
    reason: string;
    refusal?: Refusal | undefined;
    /**
     * how long the server wants not to be asked again, in milliseconds
     */
    retryAfter?: number | undefined;
    /**
     * another attempt would not help
     */
    final?: boolean | undefined;
};
/**
 * Those of which a message has a promise.
 */
export type AwaitedState = "queued" | "accepted" | "seen" | "answered";
