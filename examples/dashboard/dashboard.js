// A screen for the wall: every session of a server, what Claude does in it, what was said
// last, and how many permission prompts wait. It only looks: it joins no session but its
// own, so it takes no answer away from somebody who is still to receive it.

import { ClaudeSocket } from '../../client/claude-socket.js';

/** How long after one look the next one is, in milliseconds. */
const PAUSE = 1000;
/** How much of a text the server sends, in characters. */
const EXCERPT = 200;
const KEY = 'claude-socket.dashboard.token';
const MINUTE = 60_000;

const setting = (name) => document.querySelector(`meta[name="${name}"]`).content;
const byId = (id) => document.getElementById(id);
/** The server is the one that the page names. Nothing in its address can name another. */
const server = setting('server');
const session = setting('session');
/** The sessions that are shown, by name. */
const cards = new Map();

takeToken();
const socket = new ClaudeSocket(server, { session, token: localStorage.getItem(KEY) ?? undefined });
let welcomed = false;
let next;

socket.on('welcome', ({ host }) => {
  welcomed = true;
  delete document.body.dataset.lost;
  byId('trouble').hidden = byId('access').hidden = true;
  setText(byId('host'), host.name ? `${host.name} ${host.version}` : 'no Claude Code yet');
  look();
});
socket.on('disconnected', ({ code, retryIn }) => {
  clearTimeout(next);
  document.body.dataset.lost = '';
  const why = code === 4401 ? 'The token is not valid any more.' : `No connection to ${server}.`;
  setText(byId('trouble'), retryIn === null ? why : `${why} Trying again.`);
  byId('trouble').hidden = false;
  // A page isn't told why: the server may not be there, or want a token.
  byId('access').hidden = welcomed && code !== 4401;
});
socket.connect();

byId('access').addEventListener('submit', (event) => {
  event.preventDefault();
  localStorage.setItem(KEY, byId('token').value.trim());
  location.reload();
});
tick();

/** Takes the token out of the address, `#token=…`, and keeps it. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token === null) return;
  localStorage.setItem(KEY, token);
  history.replaceState(null, '', location.pathname + location.search);
}

async function look() {
  clearTimeout(next);
  show(await socket.fetchSessions());
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
  const words = { thinking: 'thinking', tool_use: 'using a tool', idle: 'idle' };
  setText(card.querySelector('.status'), detail || words[status]);
  setText(card.querySelector('.who'), last ? `${last.user ?? 'Claude'}:` : '');
  setText(card.querySelector('.text'), excerpt(last?.content ?? ''));
  setText(card.querySelector('.people'), clients === 1 ? '1 client' : `${clients} clients`);
  setText(card.querySelector('.age'), age(last?.ts));
}

/** The server sends the beginning of a long text only. */
const excerpt = (text) => ([...text].length < EXCERPT ? text : `${text}…`);

/** How long ago, for people; nothing if that cannot be told. */
function age(ts) {
  const minutes = Math.floor((Date.now() - Date.parse(ts)) / MINUTE);
  if (!(minutes >= 0)) return '';
  if (minutes === 0) return 'just now';
  return minutes < 60 ? `${minutes} min ago` : `${Math.floor(minutes / 60)} h ago`;
}

/** Changes a text only if it is another one, so that screen readers say only what is new. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function tick() {
  const now = new Date();
  setText(byId('clock'), now.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  setTimeout(tick, MINUTE - (now.getTime() % MINUTE));
}
