// Permission prompts, a card each. A click that was meant for something else must not
// become a verdict. So the page never focuses a button, no button works for DISARMED
// milliseconds after the cards have changed, and new cards grow away from the text box.

import { element, byId, setText } from './dom.js';
import { visible, visibleLines } from './sanitize.js';

/** Milliseconds for which no button works after a card came, went or moved. */
const DISARMED = 700;
/** Pixels from the end of an input that still count as the end. */
const NEAR = 4;
/** Most characters of a value, times its depth, for which it is shown in indented lines. */
const MAX_INDENTED = 100_000;

export class Permissions {
  /** The open prompts by id. */
  #cards = new Map();
  /** Ids of the prompts that the server has sent over this connection. */
  #current = new Set();
  #arming;
  #online = false;

  /**
   * @param {(id: string, allowed: boolean) => void} answer
   * @param {(id: string, text: string) => void} note shows the outcome of a prompt
   * @param {(count: number, asked?: string) => void} changed
   */
  constructor(answer, note, changed) {
    this.answer = answer;
    this.note = note;
    this.changed = changed;
    // A click may only have brought this window to the front, or closed another one above it.
    for (const event of ['focus', 'pageshow']) addEventListener(event, () => this.#disarm());
    document.addEventListener('visibilitychange', () => this.#disarm());
  }

  /** After connecting, the server sends the open prompts again. */
  connected() {
    this.#current.clear();
    this.#online = true;
  }

  /**
   * The server has sent all open prompts: the other cards were decided meanwhile, or Claude Code has ended. Closes them,
   * and returns the title of each by its id.
   */
  welcome() {
    const closed = new Map();
    for (const [id, card] of [...this.#cards]) {
      if (this.#current.has(id)) continue;
      this.#close(id, card);
      closed.set(id, card.title);
    }
    this.#disarm();
    return closed;
  }

  disconnected() {
    this.#online = false;
    for (const card of this.#cards.values()) card.verdict = undefined;
    this.#disarm();
  }

  request({ request_id, tool_name, description, input_preview }) {
    this.#current.add(request_id);
    if (this.#cards.has(request_id)) return;
    const tool = visible(tool_name);
    const purpose = visible(description);
    const title = titleOf(tool_name, description);
    const card = this.#card(request_id, tool, purpose, input_preview);
    this.#cards.set(request_id, { ...card, title });
    // Above the others, which keep their place above the text box.
    const cards = byId('cards');
    const below = cards.scrollHeight - cards.scrollTop;
    cards.prepend(card.element);
    setText(byId('alert'), `Claude asks for permission. ${title}`);
    this.#show(title);
    cards.scrollTop = cards.scrollHeight - Math.max(below, cards.clientHeight);
  }

  resolved({ request_id, allowed, by, reason }) {
    const card = this.#cards.get(request_id);
    if (!card) return;
    let text = sentence(card.verdict === allowed ? 'You' : by, allowed, card.title);
    if (by === 'expired') text = `Not decided: ${card.title} (${visible(reason ?? 'nobody has answered in time')}).`;
    this.#close(request_id, card, text);
  }

  /** Closes the card whose verdict came too late. Returns `false` if the error is about none. */
  rejected(message) {
    for (const [id, card] of this.#cards) {
      if (card.verdict === undefined || !message.includes(`"${id}"`)) continue;
      this.#close(id, card, `Already answered, or expired: ${card.title}.`);
      return true;
    }
    return false;
  }

  #card(id, tool, purpose, input) {
    const name = `permission-${id}`;
    const button = (allowed, label) =>
      element(
        'button',
        {
          type: 'button',
          class: allowed ? 'allow primary' : 'deny',
          'aria-label': `${label} ${tool}`,
          click: () => this.#decide(id, allowed),
        },
        label,
      );
    const buttons = [button(false, 'Deny'), button(true, 'Allow')];
    const state = element('p', { class: 'small', role: 'status' });
    const more = element('p', { class: 'small more', hidden: true }, 'There is more: scroll to the end.');
    const box = element('div', { class: 'input', tabindex: 0, role: 'group', 'aria-label': 'Input' }, ...fields(input));
    const look = () => (more.hidden = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR);
    box.addEventListener('scroll', look, { passive: true });
    new ResizeObserver(look).observe(box);
    const made = element(
      'article',
      { class: 'card permission', 'aria-labelledby': name },
      element('div', { class: 'title' }, element('h3', { id: name }, tool), state),
      element('p', { class: 'purpose' }, purpose),
      box,
      more,
      element('div', { class: 'buttons' }, ...buttons),
    );
    return { element: made, buttons, state };
  }

  #decide(id, allowed) {
    const card = this.#cards.get(id);
    if (!card || card.buttons[0].getAttribute('aria-disabled') === 'true') return;
    card.verdict = allowed;
    setText(card.state, allowed ? 'Allowing …' : 'Denying …');
    this.#arm();
    this.answer(id, allowed);
  }

  #close(id, card, text) {
    this.#cards.delete(id);
    const hadFocus = card.element.contains(document.activeElement);
    card.element.remove();
    this.#show();
    // The focus moves to the prompts, or to the conversation, never to a button.
    if (hadFocus) (this.#cards.size > 0 ? byId('permissions') : byId('scroll')).focus({ preventScroll: true });
    if (text) this.note(id, text);
  }

  #show(asked) {
    const count = this.#cards.size;
    byId('permissions').hidden = count === 0;
    setText(byId('permissions-title'), count === 1 ? 'Claude asks for permission' : `Claude asks for ${count} permissions`);
    this.#disarm();
    this.changed(count, asked);
  }

  #disarm() {
    clearTimeout(this.#arming);
    this.#arming = setTimeout(() => {
      this.#arming = undefined;
      this.#arm();
    }, DISARMED);
    this.#arm();
  }

  /** Enables or disables all buttons. */
  #arm() {
    for (const { buttons, verdict, state } of this.#cards.values()) {
      const works = this.#arming === undefined && this.#online && verdict === undefined;
      // `disabled` would lose the keyboard's focus.
      for (const button of buttons) button.setAttribute('aria-disabled', String(!works));
      if (verdict === undefined) setText(state, this.#online ? '' : 'Not connected');
    }
  }
}

const titleOf = (tool, description) => [tool, description].map(visible).filter(Boolean).join(': ');

/** Returns what a verdict of an earlier time says, in one sentence. */
export const outcome = ({ tool_name, description, allowed, by }) => sentence(by, allowed, titleOf(tool_name, description));

function sentence(by, allowed, title) {
  if (by === 'terminal') return `${allowed ? 'Allowed' : 'Denied'} in the terminal: ${title}.`;
  return `${visible(by)} ${allowed ? 'allowed' : 'denied'} ${title}.`;
}

/** The input of a tool. An object is shown field by field, so that a command reads as it will run. */
function fields(input) {
  const texts = fieldTexts(input);
  if (!texts) return [element('pre', {}, visibleLines(input))];
  return texts.map(([name, text]) =>
    element('div', { class: 'field' }, element('h4', {}, visible(name)), element('pre', {}, visibleLines(text))),
  );
}

/**
 * Returns the fields of an object with their values as text, if parsing the input loses nothing, as it would of a
 * repeated field, and if it is not too deep for that.
 */
function fieldTexts(input) {
  try {
    const parsed = JSON.parse(input);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return undefined;
    const compact = input.replace(/("(?:[^"\\]|\\.)*")|\s+/g, '$1');
    if (JSON.stringify(parsed) !== compact || compact === '{}') return undefined;
    return Object.entries(parsed).map(([name, value]) => [name, typeof value === 'string' ? value : indented(value)]);
  } catch {
    return undefined;
  }
}

/** Returns a value in indented lines, or in one if it is so deep that the blanks alone would freeze the page. */
function indented(value) {
  const text = JSON.stringify(value);
  let [depth, deepest] = [0, 0];
  for (const [part] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (part === '[' || part === '{') deepest = Math.max(deepest, ++depth);
    else if (part === ']' || part === '}') depth -= 1;
  }
  return text.length * deepest > MAX_INDENTED ? text : JSON.stringify(value, null, 2);
}
