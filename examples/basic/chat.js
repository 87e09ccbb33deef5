// The web chat: connects the client library to the parts of the page, each in its own file.

import { ClaudeSocket, EndedError, LostError } from './client/claude-socket.js';
import { Composer, Outbox, bindName } from './composer.js';
import * as connection from './connection.js';
import { Messages, PAGE } from './messages.js';
import * as notify from './notify.js';
import { Permissions } from './permissions.js';
import * as pageLocation from './location.js';
import { nameOf } from './sanitize.js';
import { Search } from './search.js';

/** Verdicts that are read on opening: the most that one answer has. */
const VERDICTS = 100;
/** Milliseconds after which what became of messages of earlier pages is asked for, once something has happened. */
const SETTLE_DELAY = 1000;
/** Milliseconds before an error is shown. One about a message is shown at the message instead. */
const ERROR_DELAY = 300;

pageLocation.start();
notify.start();

const socket = new ClaudeSocket(pageLocation.server, {
  session: pageLocation.named,
  token: pageLocation.token(),
  stream: true,
  maxReconnectDelay: 15000,
});
const messages = new Messages((limit, range) => socket.fetchHistory(limit, range));
const outbox = new Outbox();
const composer = new Composer(send);
const permissions = new Permissions(
  (id, allowed) => socket.respondToPermission(id, allowed),
  (id, text) => messages.decided(id, text),
  notify.setPrompts,
);
new Search((text, options) => socket.search(text, options), goTo);
/** Timer that shows the last error. */
let errorTimer;
/** Timer that asks what became of messages. */
let settleTimer;

/** Sends a message. `again` is one that an earlier page has sent: under its id Claude gets it once. */
function send(content, again) {
  const message = socket.send(content, again);
  outbox.add(message);
  messages.own(message, (text) => composer.write(text));
  // What has no receipt when the client ends is sent by the next page.
  const keep = (error) => error instanceof EndedError || outbox.remove(message.id);
  message.queued.then(() => outbox.remove(message.id), keep);
  message.accepted.catch((error) => {
    // A lost one's `delivery` says so.
    if (error instanceof EndedError || error instanceof LostError) return;
    clearTimeout(errorTimer);
    messages.rejected(message.id, error.message);
  });
}

/** Goes to a message that was found. */
async function goTo(session, seq) {
  if (session !== pageLocation.session) return pageLocation.goToMessage(session, seq);
  const isThere = await messages.goTo(seq).catch(() => true);
  if (!isThere) messages.note('That message is not kept any more.');
}

/** Asks what became of messages that an earlier page, or somebody else, has sent. */
function settle() {
  settleTimer ??= setTimeout(async () => {
    settleTimer = undefined;
    const seq = messages.unsettled;
    const history = seq !== undefined && (await socket.fetchHistory(PAGE, { since: seq - 1 }).catch(() => null));
    if (history) messages.settle(history);
  }, SETTLE_DELAY);
}

const setName = bindName((name) => (socket.user = name));
connection.start(socket);

socket.on('connected', () => permissions.connected());
socket.on('disconnected', () => {
  permissions.disconnected();
  messages.disconnected();
});
socket.on('welcome', ({ role, user, created, session_id }) => {
  if (session_id !== pageLocation.session) return pageLocation.goTo(session_id);
  messages.began(created);
  void showVerdicts(role, permissions.welcome());
  composer.setRole(role);
  if (user) setName(user);
  settle();
});
socket.once('welcome', async () => {
  // There is none if the token is removed meanwhile.
  const history = await socket.fetchHistory(PAGE).catch(() => null);
  if (!history) return;
  messages.history(history, socket.user);
  const seq = pageLocation.takeMessage();
  if (seq !== undefined) void goTo(pageLocation.session, seq);
});

/** Shows what was decided, also of the prompts that were closed meanwhile. */
async function showVerdicts(role, closed) {
  if (role !== 'operator') return;
  const answer = await socket.fetchVerdicts({ limit: VERDICTS }).catch(() => null);
  if (answer) messages.verdicts(answer.verdicts);
  for (const [id, title] of closed) {
    if (!messages.isDecided(id)) messages.note(`Not decided: ${title} (Claude Code has ended, or nobody has answered in time).`);
  }
}

const isHere = (listener) => (message) => {
  if (message.session_id === pageLocation.session) listener(message);
};
socket.on('reply', isHere((message) => {
  settle();
  if (messages.reply(message)) notify.newMessage('Claude', message.content);
}));
socket.on('user_message', isHere((message) => messages.other(message) && notify.newMessage(nameOf(message.user), message.content)));
socket.on('status', isHere((message) => {
  settle();
  messages.status(message);
}));
socket.on('stream', isHere(({ delta }) => messages.stream(delta)));
socket.on('delivery', (delivery) => {
  // The promise `accepted` handles a rejection, with its reason.
  if (delivery.state === 'lost') messages.rejected(delivery.id, delivery.hint, 'lost');
  // One that was accepted before is rejected only here.
  else if (delivery.state === 'rejected') queueMicrotask(() => messages.rejected(delivery.id, 'Claude Code has ended and has not seen it'));
  else messages.delivery(delivery);
});
socket.on('gap', () => messages.gap());
socket.on('permission_request', (request) => permissions.request(request));
socket.on('permission_resolved', (resolution) => permissions.resolved(resolution));
socket.on('error', ({ code, message, request }) => {
  // Each says so where it was asked.
  if (request === 'search' || request === 'fetch_verdicts') return;
  if (code === 'unknown_request' && permissions.rejected(message)) return;
  errorTimer = setTimeout(() => messages.note(`The server says: ${message}.`), ERROR_DELAY);
});

for (const stored of outbox.takeStored()) send(stored.content, stored);
socket.connect();
