// The state of the connection: the server's name, the banner with the next attempt, and
// the form for the token.

import { byId, setText } from './dom.js';
import { token, useToken } from './location.js';

/** Milliseconds of connecting before the banner is shown. */
const BANNER_DELAY = 1200;
/** Status of a refusal for which another token is needed. */
const UNAUTHORIZED = 401;

/** Shows the state of this connection from now on. */
export function start(socket) {
  let countdownTimer;
  let bannerTimer = setTimeout(() => banner('Connecting …'), BANNER_DELAY);
  /** Why the last attempt to connect was refused. */
  let refusal = null;
  /** The client makes no further attempt. */
  let ended = false;

  socket.on('connected', () => stop());
  socket.on('welcome', ({ host, role }) => {
    stop();
    byId('banner').hidden = true;
    byId('app').dataset.connected = role;
    const name = host.name === 'claude-code' ? 'Claude Code' : host.name;
    setText(byId('server'), host.ready ? `Connected to ${name} ${host.version}` : 'Claude Code is not ready yet');
  });
  socket.on('refused', (refused) => (refusal = refused));
  socket.on('disconnected', ({ reason, retryIn }) => {
    stop();
    delete byId('app').dataset.connected;
    setText(byId('server'), 'Not connected');
    const { status, message } = refusal ?? {};
    refusal = null;
    ended = retryIn === null;
    if (status === UNAUTHORIZED) return askForToken();
    if (message) banner(`The server refuses: ${message}.`, retryIn);
    else banner(reason ? `The connection is lost: ${reason}.` : 'The connection is lost.', retryIn);
  });
  byId('retry').addEventListener('click', () => {
    // The next page sends what was kept.
    if (ended) return location.reload();
    stop();
    banner('Connecting …');
    socket.connect();
  });

  function stop() {
    clearTimeout(bannerTimer);
    clearInterval(countdownTimer);
  }

  /** `retryIn` is the milliseconds until the next attempt: null if there is none, undefined during one. */
  function banner(text, retryIn) {
    byId('banner').hidden = false;
    setText(byId('banner-text'), text);
    byId('retry').hidden = retryIn === undefined;
    setText(byId('retry'), retryIn === null ? 'Try again' : 'Now');
    setText(byId('countdown'), '');
    if (typeof retryIn !== 'number') return;
    const due = Date.now() + retryIn;
    const tick = () => {
      const left = Math.ceil((due - Date.now()) / 1000);
      setText(byId('countdown'), left > 0 ? `What you write is kept. Next attempt in ${left} s.` : 'Trying again …');
    };
    tick();
    countdownTimer = setInterval(tick, 250);
  }
}

/** Shows the form for the token. */
function askForToken() {
  if (!byId('token-form').hidden) return;
  byId('banner').hidden = true;
  setText(byId('server'), 'Not connected');
  const hint = token()
    ? 'The one that was given is not valid, or not any more.'
    : 'Whoever started the server has it, or a link that contains it.';
  setText(byId('token-hint'), hint);
  byId('app').dataset.locked = '';
  byId('token-form').hidden = false;
  byId('token').focus();
  byId('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const given = byId('token').value.trim();
    if (given) useToken(given);
  });
}
