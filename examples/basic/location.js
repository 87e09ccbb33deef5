// The page's server, session and token.
//
// The server must be the one the page came from. No address, message or reply may name
// another one.

import { browser, element, byId, setText, tab } from './dom.js';
import { visible } from './sanitize.js';

const MAX_KNOWN = 12;

/** The page's folder, which a proxy may serve below the root. */
export const server = new URL('.', location.href);
server.hash = '';

/** The session in the address, if any. */
export const named = new URLSearchParams(location.search).get('session') || undefined;
export const session = named ?? 'default';

/** Opens another session. */
export function goTo(name) {
  location.replace(`?${new URLSearchParams({ session: name })}`);
}

/** Opens another session at a message. */
export function goToMessage(name, seq) {
  location.assign(`?${new URLSearchParams({ session: name })}#at=${seq}`);
}

/** Removes the message that the page was opened at from the address, and returns its `seq`. */
export function takeMessage() {
  const seq = Number(new URLSearchParams(location.hash.slice(1)).get('at') ?? Number.NaN);
  if (!Number.isSafeInteger(seq)) return undefined;
  history.replaceState(null, '', location.pathname + location.search);
  return seq;
}

export const token = () => tab.get('token') ?? undefined;

/** Stores a token and reloads the page. */
export function useToken(value) {
  tab.set('token', value);
  location.reload();
}

/**
 * Moves the token from the address (`#token=…`, or `?token=…`, which programs use) to the storage.
 * Returns `true` if there was one.
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

/** Shows the session, and its dialog on a click. */
export function start() {
  takeToken();
  addEventListener('hashchange', () => {
    if (takeToken()) location.reload();
  });

  const known = [session, ...browser.list('sessions').filter((name) => name !== session)].slice(0, MAX_KNOWN);
  browser.set('sessions', JSON.stringify(known));
  setText(byId('session-name'), visible(session));
  byId('session-button').setAttribute('aria-label', `Session ${session}. Change`);
  byId('session-button').addEventListener('click', () => open(known));
  byId('session-cancel').addEventListener('click', () => byId('session-dialog').close());
  byId('session-dialog').addEventListener('click', (event) => {
    // A click beside the dialog.
    if (event.target === byId('session-dialog')) byId('session-dialog').close();
  });
  byId('session-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const wanted = byId('session-field').value.trim();
    byId('session-dialog').close();
    if (wanted && wanted !== session) location.assign(`?${new URLSearchParams({ session: wanted })}`);
  });
}

function open(known) {
  byId('known-sessions').replaceChildren(...known.map((name) => element('option', { value: name })));
  byId('session-field').value = session;
  byId('session-dialog').showModal();
  byId('session-field').select();
}
