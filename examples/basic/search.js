// The search: a dialog with a field, and what was found, by session. What is chosen is shown in the conversation.

import { element, byId, setText } from './dom.js';
import { excerpt, plain } from './excerpt.js';
import { session } from './location.js';
import { clock } from './messages.js';
import { nameOf, visible } from './sanitize.js';

/** Milliseconds without a key after which the search begins. */
const PAUSE = 250;
/** Most messages that are found: the most that one answer has. */
const LIMIT = 100;
/** Elements in which a "/" is text. */
const TEXTS = 'input, textarea, select, [contenteditable]';

export class Search {
  #dialog = byId('search-dialog');
  #field = byId('search-field');
  #timer;
  /** Ends the search that is under way. @type {AbortController | undefined} */
  #search;
  /** What was searched for last. */
  #text = '';

  /**
   * @param {(text: string, options: object) => Promise<object[]>} find
   * @param {(session: string, seq: number) => void} choose
   */
  constructor(find, choose) {
    this.find = find;
    this.choose = choose;
    byId('search-button').addEventListener('click', () => this.open());
    byId('search-close').addEventListener('click', () => this.#dialog.close());
    this.#dialog.addEventListener('click', ({ target }) => {
      // A click beside the dialog.
      if (target === this.#dialog) this.#dialog.close();
    });
    this.#field.addEventListener('input', () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#start(), PAUSE);
    });
    byId('search-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#start();
    });
    this.#dialog.addEventListener('keydown', (event) => this.#step(event));
    document.addEventListener('keydown', (event) => this.#onKey(event));
  }

  open() {
    if (document.querySelector('dialog[open]') || 'locked' in byId('app').dataset) return;
    this.#dialog.showModal();
    this.#field.focus();
    this.#field.select();
    // Something may have been said since.
    this.#text = '';
    this.#start();
  }

  #onKey(event) {
    const isK = event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey;
    const isSlash = event.key === '/' && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest?.(TEXTS);
    if (!isK && !isSlash) return;
    event.preventDefault();
    this.open();
  }

  /** Moves the focus between the field and the results with the arrow keys. */
  #step(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.isComposing) return;
    const stops = [this.#field, ...byId('search-results').querySelectorAll('button')];
    const next = stops[stops.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  async #start() {
    clearTimeout(this.#timer);
    const text = this.#field.value.trim();
    if (text === this.#text) return;
    this.#text = text;
    this.#search?.abort();
    if (!text) return this.#show([], '');
    const search = new AbortController();
    this.#search = search;
    setText(byId('search-status'), 'Searching …');
    try {
      const found = await this.find(text, { limit: LIMIT, signal: search.signal });
      if (!search.signal.aborted) this.#show(found, told(found), text);
    } catch (error) {
      if (search.signal.aborted) return;
      // The next attempt may succeed.
      this.#text = '';
      this.#show([], `The search has failed: ${error.message}.`);
    }
  }

  #show(found, status, text) {
    setText(byId('search-status'), status);
    const names = [...new Set(found.map(({ session_id }) => session_id))];
    // This session first; the others in the server's order.
    names.sort((one, other) => Number(other === session) - Number(one === session));
    const groups = names.map((name) => this.#group(name, found.filter(({ session_id }) => session_id === name).reverse(), text));
    byId('search-results').replaceChildren(...groups);
    byId('search-results').scrollTop = 0;
  }

  #group(name, found, text) {
    const title = name === session ? 'This session' : `Session ${visible(name)}`;
    const items = found.map((message) => element('li', {}, this.#result(name, message, text)));
    return element('section', { 'aria-label': title }, element('h3', {}, title), element('ol', { role: 'list' }, ...items));
  }

  #result(name, { role, user, ts, seq, content }, text) {
    const when = new Date(ts);
    const time = Number.isNaN(when.getTime()) ? [] : [element('time', { datetime: when.toISOString(), title: when.toLocaleString() }, clock(when))];
    const who = element('strong', { class: 'who' }, role === 'assistant' ? 'Claude' : nameOf(user));
    const said = visible(role === 'assistant' ? plain(content) : content);
    const pieces = excerpt(said, text).map((piece) => (piece.marked ? element('mark', {}, piece.text) : piece.text));
    const choose = () => {
      this.#dialog.close();
      this.choose(name, seq);
    };
    return element(
      'button',
      { type: 'button', class: role === 'assistant' ? 'found claude' : 'found', click: choose },
      element('span', { class: 'head' }, who, ...time),
      element('span', { class: 'excerpt', dir: 'auto' }, ...pieces),
    );
  }
}

/** Returns how much was found, for people. */
function told({ length }) {
  if (length === 0) return 'Nothing found';
  if (length >= LIMIT) return `The newest ${length} messages that were found`;
  return length === 1 ? '1 message found' : `${length} messages found`;
}
