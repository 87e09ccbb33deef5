// Unread messages and open prompts, in the title and, after consent, as notifications.

import { byId } from './dom.js';
import { session as named } from './location.js';
import { visible } from './sanitize.js';

const MAX_BODY = 140;
const session = visible(named);

let unread = 0;
let prompts = 0;
/** The notifications on the screen. */
const shown = new Set();

/** Offers notifications where the browser has them, and closes them when the page is visible again. */
export function start() {
  title();
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    unread = 0;
    title();
    for (const notification of shown) notification.close();
    shown.clear();
  });
  const button = byId('notify');
  // Without TLS, browsers allow them for 127.0.0.1 and localhost only.
  const possible = window.isSecureContext && 'Notification' in window;
  button.hidden = !possible || Notification.permission !== 'default';
  button.addEventListener('click', async () => {
    button.hidden = (await Notification.requestPermission()) !== 'default';
  });
}

/** Counts and shows a new message, if the page is hidden. */
export function newMessage(who, content) {
  if (!document.hidden) return;
  unread += 1;
  title();
  show(`${who}, in ${session}`, content, 'said');
}

/** Sets the number of open prompts. `asked` describes a new one. */
export function setPrompts(count, asked) {
  prompts = count;
  title();
  if (asked && document.hidden) show(`Claude asks, in ${session}`, asked, 'asked');
}

function title() {
  const parts = [prompts > 0 && `${prompts} to approve`, unread > 0 && `${unread} new`].filter(Boolean);
  document.title = `${parts.length > 0 ? `(${parts.join(', ')}) ` : ''}${session} · claude-socket`;
}

function show(heading, content, kind) {
  if (!window.isSecureContext || !('Notification' in window) || Notification.permission !== 'granted') return;
  const body = content.length > MAX_BODY ? `${content.slice(0, MAX_BODY)}…` : content;
  try {
    const notification = new Notification(heading, { body, icon: 'icon.svg', tag: `${session} ${kind}`, renotify: true });
    shown.add(notification);
    notification.onclose = () => shown.delete(notification);
    notification.onclick = () => {
      window.focus();
      notification.close();
    };
  } catch {
    // Chrome on Android has them only for installed pages. The title is what remains.
  }
}
