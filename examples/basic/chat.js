// The web chat: connects the client library to the parts of the page, each in its own file.

import { ClaudeSocket, EndedError, LostError } from './client/claude-socket.js';
import { Composer, Outbox, bindName } from './composer.js';
import * as connection from './connection.js';
import { Messages } from './messages.js';
import * as notify from './notify.js';
import { Permissions } from './permissions.js';
import * as pageLocation from './location.js';
import { nameOf } from './sanitize.js';

/** Messages of history read on opening: the most that one answer has. */
const HISTORY = 100;
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
const messages = new Messages();
const outbox = new Outbox();
const composer = new Composer(send);
const permissions = new Permissions(
  (id, allowed) => socket.respondToPermission(id, allowed),
  (text) => messages.note(text),
  notify.setPrompts,
);
/** Timer that shows the last error. */
let errorTimer;

/** Sends a message. `again` is one that an earlier page has sent: under its id Claude gets it once. */
function send(content, again) {
  const message = socket.send(content, again);
  outbox.add(message);
  messages.own(message, (text) => composer.write(text));
  message.accepted
    .catch((error) => {
      // The next page sends it.
      if (error instanceof EndedError) throw error;
      // Its `delivery` says so.
      if (error instanceof LostError) return;
      clearTimeout(errorTimer);
      messages.rejected(message.id, error.message);
    })
    .then(() => outbox.remove(message.id), () => {});
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
  permissions.welcome(messages.began(created));
  composer.setRole(role);
  if (user) setName(user);
});
socket.once('welcome', async () => {
  // There is none if the token is removed meanwhile.
  const history = await socket.fetchHistory(HISTORY).catch(() => null);
  if (history) messages.history(history, socket.user);
});

const isHere = (listener) => (message) => {
  if (message.session_id === pageLocation.session) listener(message);
};
socket.on('reply', isHere((message) => messages.reply(message) && notify.newMessage('Claude', message.content)));
socket.on('user_message', isHere((message) => messages.other(message) && notify.newMessage(nameOf(message.user), message.content)));
socket.on('status', isHere((message) => messages.status(message)));
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
socket.on('error', ({ code, message }) => {
  if (code === 'unknown_request' && permissions.rejected(message)) return;
  errorTimer = setTimeout(() => messages.note(`The server says: ${message}.`), ERROR_DELAY);
});

for (const stored of outbox.takeStored()) send(stored.content, stored);
socket.connect();
