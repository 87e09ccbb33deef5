// A screen for the wall: every session of a server, with Claude's status and the last message,
// and the number of open permission prompts. It must join no session but its own: a viewer
// in a session would count as somebody who has received the reply.

import { ClaudeSocket, UNAUTHORIZED } from '../../client/claude-socket.js';

/** Milliseconds between two polls. */
const PAUSE = 1000;
/** Characters of a last message that the server sends. */
const EXCERPT = 200;
const KEY = 'claude-socket.dashboard.token';
const MINUTE = 60_000;

const setting = (name) => document.querySelector(`meta[name="${name}"]`).content;
const byId = (id) => document.getElementById(id);
/** The server must be the one that the page names, never one from its address. */
const server = setting('server');
const session = setting('session');
/** The cards on the screen, by session. */
const cards = new Map();

takeToken();
const socket = new ClaudeSocket(server, { session, token: localStorage.getItem(KEY) ?? undefined });
/** Why the last attempt to connect was refused. */
let refusal = null;
let next;

socket.on('welcome', ({ host }) => {
  delete document.body.dataset.lost;
  byId('trouble').hidden = byId('access').hidden = true;
  setText(byId('host'), host.name ? `${host.name} ${host.version}` : 'no Claude Code yet');
  look();
});
socket.on('refused', (refused) => (refusal = refused));
socket.on('disconnected', ({ code, retryIn }) => {
  clearTimeout(next);
  document.body.dataset.lost = '';
  const why = code === UNAUTHORIZED ? 'The token is not valid any more.'
    : refusal ? `The server refuses: ${refusal.message}.` : `No connection to ${server}.`;
  setText(byId('trouble'), retryIn === null ? why : `${why} Trying again.`);
  byId('trouble').hidden = false;
  // Another token can help where this one does not, or where the browser hides why.
  byId('access').hidden = ![401, 403, 0].includes(refusal?.status);
  refusal = null;
});
socket.connect();

byId('access').addEventListener('submit', (event) => {
  event.preventDefault();
  localStorage.setItem(KEY, byId('token').value.trim());
  location.reload();
});
tick();

/** Moves the token from the address (`#token=…`) to the storage. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token === null) return;
  localStorage.setItem(KEY, token);
  history.replaceState(null, '', location.pathname + location.search);
}

async function look() {
  clearTimeout(next);
  const sessions = await socket.fetchSessions().catch(() => null);
  if (sessions) show(sessions);
  clearTimeout(next);
  if (socket.connected) next = setTimeout(look, PAUSE);
}

function show({ sessions, total, permissions }) {
  const shown = sessions.filter(({ session_id }) => session_id !== session);
  const names = new Set(shown.map(({ session_id }) => session_id));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.remove();
    cards.delete(name);
  }
  shown.forEach((item, place) => {
    const card = cards.get(item.session_id) ?? makeCard(item.session_id);
    fill(card, item);
    const there = byId('sessions').children[place];
    if (there !== card) byId('sessions').insertBefore(card, there ?? null);
  });
  byId('sessions').dataset.few = shown.length <= 2 ? 2 : shown.length <= 4 ? 4 : '';
  byId('waiting').hidden = permissions === 0;
  setText(byId('waiting'), permissions === 1 ? '1 prompt waits for an operator' : `${permissions} prompts wait for an operator`);
  const rest = total - sessions.length;
  byId('rest').hidden = rest === 0 && shown.length > 0;
  setText(byId('rest'), shown.length === 0 ? 'Nobody has talked to Claude yet.' : `and ${rest} more`);
}

function makeCard(name) {
  const card = document.querySelector('template').content.firstElementChild.cloneNode(true);
  setText(card.querySelector('h2'), name);
  cards.set(name, card);
  return card;
}

function fill(card, { clients, status, detail, last }) {
  card.dataset.status = status;
  card.toggleAttribute('data-empty', clients === 0);
  const labels = { thinking: 'thinking', tool_use: 'using a tool', idle: 'idle' };
  setText(card.querySelector('.status'), detail || labels[status]);
  setText(card.querySelector('.who'), last ? `${last.user ?? 'Claude'}:` : '');
  setText(card.querySelector('.text'), excerpt(last?.content ?? ''));
  setText(card.querySelector('.people'), clients === 1 ? '1 client' : `${clients} clients`);
  setText(card.querySelector('.age'), age(last?.ts));
}

/** Marks a text that the server has cut. */
const excerpt = (text) => ([...text].length < EXCERPT ? text : `${text}…`);

/** Returns the age of a time for people, or '' for an invalid one. */
function age(ts) {
  const minutes = Math.floor((Date.now() - Date.parse(ts)) / MINUTE);
  if (!(minutes >= 0)) return '';
  if (minutes === 0) return 'just now';
  return minutes < 60 ? `${minutes} min ago` : `${Math.floor(minutes / 60)} h ago`;
}

/** Sets a text if it differs. Screen readers read out every set, also of the same text. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  const now = new Date();
  setText(byId('clock'), now.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  setTimeout(tick, MINUTE - (now.getTime() % MINUTE));
}
