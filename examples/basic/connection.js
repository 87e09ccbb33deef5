// The state of the connection: the server's name, the banner with the next attempt, and
// the form for the token.

import { UNAUTHORIZED } from './client/claude-socket.js';
import { byId, setText } from './dom.js';
import { server, session, token, useToken } from './location.js';

/** Milliseconds of connecting before the banner is shown. */
const BANNER_DELAY = 1200;

/** Shows the state of this connection from now on. */
export function start(socket) {
  let countdownTimer;
  let bannerTimer = setTimeout(() => banner('Connecting …'), BANNER_DELAY);

  socket.on('connected', () => stop());
  socket.on('welcome', ({ host, role }) => {
    stop();
    byId('banner').hidden = true;
    byId('app').dataset.connected = role;
    const name = host.name === 'claude-code' ? 'Claude Code' : host.name;
    setText(byId('server'), host.ready ? `Connected to ${name} ${host.version}` : 'Claude Code is not ready yet');
  });
  socket.on('disconnected', async ({ code, reason, retryIn }) => {
    stop();
    delete byId('app').dataset.connected;
    setText(byId('server'), 'Not connected');
    if (code === UNAUTHORIZED) return askForToken(socket);
    banner(reason ? `The connection is lost: ${reason}.` : 'The connection is lost.', retryIn);
    const refusal = await fetchRefusal();
    if (socket.connected) return;
    if (refusal?.unauthorized) return askForToken(socket);
    if (refusal) setText(byId('banner-text'), refusal.sentence);
  });
  byId('retry').addEventListener('click', () => {
    stop();
    banner('Connecting …');
    socket.connect();
  });

  function stop() {
    clearTimeout(bannerTimer);
    clearInterval(countdownTimer);
  }

  function banner(text, retryIn = null) {
    byId('banner').hidden = false;
    setText(byId('banner-text'), text);
    byId('retry').hidden = retryIn === null;
    setText(byId('countdown'), '');
    if (retryIn === null) return;
    const due = Date.now() + retryIn;
    const tick = () => {
      const left = Math.ceil((due - Date.now()) / 1000);
      setText(byId('countdown'), left > 0 ? `What you write is kept. Next attempt in ${left} s.` : 'Trying again …');
    };
    tick();
    countdownTimer = setInterval(tick, 250);
  }
}

/** Asks /healthz why the server refuses: browsers hide the answer to a refused WebSocket. */
async function fetchRefusal() {
  const known = token();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  try {
    const answer = await fetch(new URL('healthz', server), { headers, cache: 'no-store' });
    if (answer.ok) {
      // The server and the token are fine, so the session is the reason.
      return known && { sentence: `The server is there, but the token may not be for the session ${session}.` };
    }
    const { error = answer.status } = await answer.json().catch(() => ({}));
    return { unauthorized: answer.status === 401, sentence: `The server refuses: ${error}.` };
  } catch {
    // No server listens.
    return undefined;
  }
}

/** Disconnects and shows the form for the token. */
function askForToken(socket) {
  if (!byId('token-form').hidden) return;
  socket.disconnect();
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
