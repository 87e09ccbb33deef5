// Where the page is: its server, its session, the token that lets it in.
//
// The server is always the one the page came from. Nothing in the address, in a
// message or in a reply can name another one.

import { browser, element, part, setText, tab } from './dom.js';
import { visible } from './visible.js';

const MAX_KNOWN = 12;

/** The folder the page came from; a proxy may serve it below the root. */
export const server = new URL('.', location.href);
server.hash = '';

/** The session that the address names, if it names one. */
export const named = new URLSearchParams(location.search).get('session') || undefined;
export const session = named ?? 'default';

/** Goes to the session that the token is for. */
export function goTo(name) {
  location.replace(`?${new URLSearchParams({ session: name })}`);
}

/** The token, if there is one. */
export const token = () => tab.get('token') ?? undefined;

/** Uses another token, from the beginning. */
export function useToken(value) {
  tab.set('token', value);
  location.reload();
}

/**
 * Takes the token out of the address: `#token=…`, or `?token=…`, which programs use. Returns whether
 * there was one.
 */
function takeToken() {
  const query = new URLSearchParams(location.search);
  const given = new URLSearchParams(location.hash.slice(1)).get('token') ?? query.get('token');
  if (given === null) return false;
  tab.set('token', given);
  query.delete('token');
  history.replaceState(null, '', location.pathname + (query.size > 0 ? `?${query}` : ''));
  return true;
}

/** Shows the session, and lets it be changed. */
export function start() {
  takeToken();
  addEventListener('hashchange', () => {
    if (takeToken()) location.reload();
  });

  const known = [session, ...browser.list('sessions').filter((name) => name !== session)].slice(0, MAX_KNOWN);
  browser.set('sessions', JSON.stringify(known));
  setText(part('session-name'), visible(session));
  part('place-button').setAttribute('aria-label', `Session ${session}. Change`);
  part('place-button').addEventListener('click', () => open(known));
  part('place-cancel').addEventListener('click', () => part('place').close());
  part('place').addEventListener('click', (event) => {
    // Beside it.
    if (event.target === part('place')) part('place').close();
  });
  part('place-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const wanted = part('place-session').value.trim();
    part('place').close();
    if (wanted && wanted !== session) location.assign(`?${new URLSearchParams({ session: wanted })}`);
  });
}

function open(known) {
  part('places').replaceChildren(...known.map((name) => element('option', { value: name })));
  part('place-session').value = session;
  part('place').showModal();
  part('place-session').select();
}
