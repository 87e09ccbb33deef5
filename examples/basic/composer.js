// The text box, the name beside it, and what is kept so that nothing typed is lost:
// the draft, and what was sent but not taken yet.

import { browser, isTouch, part, setText, tab } from './dom.js';
import { session } from './place.js';

const DRAFT = `draft.${session}`;
const OUTBOX = `outbox.${session}`;
const DEFAULT_NAME = 'user';

export class Composer {
  #box = part('words');
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
      if (!event.repeat) part('composer').requestSubmit();
    });
    part('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      const content = this.#box.value.trim();
      if (!content || this.#box.disabled) return;
      this.#box.value = '';
      this.#edited();
      send(content);
    });
    if (isTouch()) setText(part('keys'), '');
    else this.#box.focus({ preventScroll: true });
  }

  /** Takes a text back, to be changed and sent again. */
  write(content) {
    this.#box.value = [this.#box.value.trim(), content].filter(Boolean).join('\n\n');
    this.#edited();
    this.#box.focus();
  }

  /** What this client may do here. */
  allow(role) {
    const mayWrite = role !== 'viewer';
    this.#box.disabled = part('send').disabled = part('name').disabled = !mayWrite;
    part('role').hidden = mayWrite;
    setText(part('role'), mayWrite ? '' : 'You can read along, but not write: the token you have is for viewers.');
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

/** What was sent and not taken yet, so that it is sent also after the page was loaded again. */
export class Outbox {
  /** What an earlier page left, or this one holds. */
  #waiting = tab.list(OUTBOX);

  add({ id, content, ts, user }) {
    this.#keep([...this.#waiting, { id, content, ts, user }]);
  }

  remove(id) {
    this.#keep(this.#waiting.filter((sent) => sent.id !== id));
  }

  /** Takes what an earlier page left. */
  takeLeft() {
    const left = this.#waiting;
    this.#keep([]);
    return left;
  }

  #keep(waiting) {
    this.#waiting = waiting;
    tab.set(OUTBOX, waiting.length > 0 ? JSON.stringify(waiting) : '');
  }
}

/**
 * Keeps the name, and tells of it.
 * @returns {(name: string) => void} what sets it for good: to a token belongs a name
 */
export function followName(changed) {
  const field = part('name');
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
