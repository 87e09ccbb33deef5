// How things stand between the page and the server: who is there, what is offline and
// until when, and what the server wants before it lets anyone in.

import { part, setText } from './dom.js';
import { server, session, token, useToken } from './place.js';

/** How long a connection may be made before anyone is told that it isn't there, in milliseconds. */
const QUIET = 1200;
/** The close code for a token that isn't valid any more. */
const UNAUTHORIZED = 4401;

/** Follows the connection. */
export function start(socket) {
  let ticking;
  let loud = setTimeout(() => banner('Connecting …'), QUIET);

  socket.on('connected', () => stop());
  socket.on('welcome', ({ host, role }) => {
    stop();
    part('banner').hidden = true;
    part('app').dataset.connected = role;
    const name = host.name === 'claude-code' ? 'Claude Code' : host.name;
    setText(part('server'), host.ready ? `Connected to ${name} ${host.version}` : 'Claude Code is not ready yet');
  });
  socket.on('disconnected', async ({ code, reason, retryIn }) => {
    stop();
    delete part('app').dataset.connected;
    setText(part('server'), 'Not connected');
    if (code === UNAUTHORIZED) return askForToken(socket);
    banner(reason ? `The connection is lost: ${reason}.` : 'The connection is lost.', retryIn);
    const refusal = await whyNot();
    if (socket.connected) return;
    if (refusal?.unauthorized) return askForToken(socket);
    if (refusal) setText(part('banner-text'), refusal.sentence);
  });
  part('retry').addEventListener('click', () => {
    stop();
    banner('Connecting …');
    socket.connect();
  });

  function stop() {
    clearTimeout(loud);
    clearInterval(ticking);
  }

  function banner(text, retryIn = null) {
    part('banner').hidden = false;
    setText(part('banner-text'), text);
    part('retry').hidden = retryIn === null;
    setText(part('countdown'), '');
    if (retryIn === null) return;
    const due = Date.now() + retryIn;
    const tick = () => {
      const left = Math.ceil((due - Date.now()) / 1000);
      setText(part('countdown'), left > 0 ? `What you write is kept. Next attempt in ${left} s.` : 'Trying again …');
    };
    tick();
    ticking = setInterval(tick, 250);
  }
}

/** What the server says to a plain request: a WebSocket that was refused isn't told why. */
async function whyNot() {
  const known = token();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  try {
    const answer = await fetch(new URL('healthz', server), { headers, cache: 'no-store' });
    if (answer.ok) {
      // So it is something about the session.
      return known && { sentence: `The server is there, but the token may not be for the session ${session}.` };
    }
    const { error = answer.status } = await answer.json().catch(() => ({}));
    return { unauthorized: answer.status === 401, sentence: `The server refuses: ${error}.` };
  } catch {
    // It isn't there.
    return undefined;
  }
}

/** Shows the field for the token. The connection waits for it. */
function askForToken(socket) {
  if (!part('token-form').hidden) return;
  socket.disconnect();
  part('banner').hidden = true;
  setText(part('server'), 'Not connected');
  const hint = token()
    ? 'The one that was given is not valid, or not any more.'
    : 'Whoever started the server has it, or a link that contains it.';
  setText(part('token-hint'), hint);
  part('app').dataset.locked = '';
  part('token-form').hidden = false;
  part('token').focus();
  part('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const given = part('token').value.trim();
    if (given) useToken(given);
  });
}
