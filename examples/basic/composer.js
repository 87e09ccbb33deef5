// The text box and the name. Stores the draft and the unacknowledged messages, so that
// nothing typed is lost.

import { browser, isTouch, byId, setText, tab } from './dom.js';
import { session } from './location.js';

const DRAFT = `draft.${session}`;
const OUTBOX = `outbox.${session}`;
const DEFAULT_NAME = 'user';

export class Composer {
  #box = byId('message');
  #grows = CSS.supports('field-sizing', 'content');

  /** @param {(content: string) => void} send */
  constructor(send) {
    this.#box.value = tab.get(DRAFT) ?? '';
    this.#resize();
    this.#box.addEventListener('input', () => this.#edited());
    this.#box.addEventListener('keydown', (event) => {
      // While an input method composes a word, Enter belongs to it.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229 || isTouch()) return;
      event.preventDefault();
      if (!event.repeat) byId('composer').requestSubmit();
    });
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      const content = this.#box.value.trim();
      if (!content || this.#box.disabled) return;
      this.#box.value = '';
      this.#edited();
      send(content);
    });
    if (isTouch()) setText(byId('keys'), '');
    else this.#box.focus({ preventScroll: true });
  }

  /** Appends a text to the draft. */
  write(content) {
    this.#box.value = [this.#box.value.trim(), content].filter(Boolean).join('\n\n');
    this.#edited();
    this.#box.focus();
  }

  /** Enables or disables the text box for this role. */
  setRole(role) {
    const mayWrite = role !== 'viewer';
    this.#box.disabled = byId('send').disabled = byId('name').disabled = !mayWrite;
    byId('role').hidden = mayWrite;
    setText(byId('role'), mayWrite ? '' : 'You can read along, but not write: the token you have is for viewers.');
  }

  #edited() {
    tab.set(DRAFT, this.#box.value);
    this.#resize();
  }

  #resize() {
    if (this.#grows) return;
    this.#box.style.height = 'auto';
    this.#box.style.height = `${this.#box.scrollHeight}px`;
  }
}

/** Messages without a receipt, stored so that they survive a reload of the page. */
export class Outbox {
  /** The stored messages, of an earlier page or of this one. */
  #stored = tab.list(OUTBOX);

  add({ id, content, ts, user }) {
    this.#store([...this.#stored, { id, content, ts, user }]);
  }

  remove(id) {
    this.#store(this.#stored.filter((sent) => sent.id !== id));
  }

  /** Removes and returns the messages that an earlier page left. */
  takeStored() {
    const stored = this.#stored;
    this.#store([]);
    return stored;
  }

  #store(messages) {
    this.#stored = messages;
    tab.set(OUTBOX, messages.length > 0 ? JSON.stringify(messages) : '');
  }
}

/**
 * Stores the name, and calls `changed` with it.
 * @returns {(name: string) => void} sets the name and makes it read-only, for the name of a token
 */
export function bindName(changed) {
  const field = byId('name');
  field.value = browser.get('name') ?? '';
  field.addEventListener('input', () => {
    browser.set('name', field.value.trim());
    changed(field.value.trim() || DEFAULT_NAME);
  });
  changed(field.value.trim() || DEFAULT_NAME);
  return (name) => {
    field.value = name;
    field.readOnly = true;
    changed(name);
  };
}
