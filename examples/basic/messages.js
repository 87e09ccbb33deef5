// The conversation: what was said, in the server's order, what became of one's own
// words, and below it what Claude is doing right now.

import { element, part, setText } from './dom.js';
import { render } from './render.js';
import { nameOf } from './visible.js';

/** The most entries on the page. */
const MAX_ENTRIES = 1000;
/** How near to the end counts as there, in pixels. */
const NEAR = 48;
/** What is left free above a reply that is shown from its beginning, in pixels. */
const MARGIN = 12;
/** How often the text that is just appearing is laid out anew, in milliseconds. */
const STREAM_PACE = 60;
/** The most of it that is shown, in characters. */
const MAX_STREAM = 100_000;

/** What becomes of one's own words, in order, and in words. */
const STATES = {
  waiting: 'waiting',
  accepted: 'accepted',
  unseen: 'not seen yet',
  seen: 'seen',
  answered: 'answered',
  rejected: 'not taken',
};
const RANKS = Object.keys(STATES);

/** @typedef {{element: HTMLElement, pending?: boolean, epoch?: number, seq?: number}} Entry */

export class Messages {
  /** What is shown, in order. @type {Entry[]} */
  #entries = [];
  /** The same by the server's id. @type {Map<string, Entry>} */
  #known = new Map();
  /** One's own words by the client's id. */
  #own = new Map();
  /** Counts the server's sessions of this name: their numbers begin anew. */
  #epoch = 0;
  #created;
  #stream = '';
  #streaming;
  #atEnd = true;
  #scroll = part('scroll');

  constructor() {
    this.#scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#scroll);
    part('newer').addEventListener('click', () => this.#toEnd());
  }

  /** The session began then. */
  began(created) {
    if (created !== this.#created) this.#epoch += 1;
    this.#created = created;
  }

  /** What was said before, which may be known in part. */
  history(items, name) {
    part('log').setAttribute('aria-busy', 'true');
    for (const item of items) {
      const sent = [...this.#own.values()].find((own) => own.ts === item.ts && own.content === item.content);
      if (sent) this.#number(sent, item);
      else if (item.role === 'assistant') this.#add(item, () => reply(item));
      else this.#add(item, () => words(item, item.user === name));
    }
    part('log').removeAttribute('aria-busy');
    part('welcome').hidden = this.#entries.length > 0;
    this.#toEnd();
  }

  /** Claude has answered. Returns whether that is news. */
  reply(message) {
    const wasStreaming = this.#stream !== '';
    const isNew = this.#change(() => {
      this.#endStream();
      return this.#add(message, () => reply(message));
    });
    const { offsetHeight, offsetTop } = this.#known.get(message.message_id).element;
    if (isNew && this.#atEnd && !wasStreaming && offsetHeight > this.#scroll.clientHeight) {
      // What is longer than the screen is read from its beginning.
      this.#scroll.scrollTop = offsetTop - this.#scroll.offsetTop - MARGIN;
    }
    return isNew;
  }

  /** Somebody else has said something. Returns whether that is news. */
  said(message) {
    return this.#change(() => this.#add(message, () => words(message, false)));
  }

  /** One has said something oneself. `again` takes the text back, if it isn't taken. */
  own(sent, again) {
    const entry = { element: words(sent, true), content: sent.content, ts: sent.ts, pending: true, again };
    this.#own.set(sent.id, entry);
    this.#change(() => this.#insert(entry));
    this.#toEnd();
    this.#mark(entry, 'waiting');
  }

  /** Something has become of one's own words. */
  delivery({ id, state, hint, ...receipt }) {
    const entry = this.#own.get(id);
    if (!entry || RANKS.indexOf(state) <= RANKS.indexOf(entry.state)) return;
    if (receipt.message_id) this.#number(entry, receipt);
    this.#change(() => this.#mark(entry, state, hint));
    if (state === 'answered') this.#own.delete(id);
  }

  /** One's own words were not taken. */
  rejected(id, why) {
    const entry = this.#own.get(id);
    if (!entry) return;
    this.#own.delete(id);
    entry.pending = false;
    const edit = () => {
      this.#remove(entry);
      entry.again(entry.content);
    };
    const button = element('button', { type: 'button', class: 'quiet', click: edit }, 'Write it again');
    this.#change(() => {
      this.#mark(entry, 'rejected');
      entry.element.append(element('div', { class: 'hint' }, element('p', {}, why), button));
    });
    setText(part('alert'), `Your message was not taken: ${why}`);
  }

  /** A line about something that happened. */
  note(text) {
    this.#change(() => this.#insert({ element: element('p', { class: 'note' }, text) }));
  }

  /** What Claude is doing. */
  status({ status, detail }) {
    this.#change(() => {
      if (status === 'idle') this.#endStream();
      const doing = status === 'tool_use' ? `Claude is using ${detail || 'a tool'}` : `Claude is thinking${detail ? `: ${detail}` : ''}`;
      setText(part('status'), status === 'idle' ? '' : doing);
    });
  }

  /** Claude's text, as it appears. */
  stream(delta) {
    this.#stream = (this.#stream + delta).slice(-MAX_STREAM);
    this.#streaming ??= setTimeout(() => {
      this.#streaming = undefined;
      this.#change(() => {
        part('stream').hidden = false;
        part('stream').replaceChildren(head('Claude'), body(this.#stream));
      });
    }, STREAM_PACE);
  }

  /** Nobody knows what Claude is doing. */
  disconnected() {
    this.status({ status: 'idle' });
  }

  #endStream() {
    clearTimeout(this.#streaming);
    this.#streaming = undefined;
    this.#stream = '';
    part('stream').hidden = true;
    part('stream').replaceChildren();
  }

  // The order.

  /** Adds what the server has numbered, unless it is there. */
  #add({ message_id, seq }, make) {
    if (this.#known.has(message_id)) return false;
    const entry = { element: make(), epoch: this.#epoch, seq };
    this.#known.set(message_id, entry);
    this.#insert(entry);
    return true;
  }

  /** One's own words have got their number. */
  #number(entry, { message_id, seq }) {
    const known = this.#known.get(message_id);
    this.#known.set(message_id, entry);
    if (known === entry || seq === undefined) return;
    if (known) this.#remove(known);
    Object.assign(entry, { epoch: this.#epoch, seq, pending: false });
    const at = this.#entries.indexOf(entry);
    const neighbours = [this.#entries[at - 1], this.#entries[at + 1]];
    if (comesAfter(neighbours[0], entry) || comesAfter(entry, neighbours[1])) {
      this.#entries.splice(at, 1);
      this.#insert(entry);
    }
  }

  #insert(entry) {
    let at = this.#entries.length;
    while (at > 0 && comesAfter(this.#entries[at - 1], entry)) at -= 1;
    part('log').insertBefore(entry.element, this.#entries[at]?.element ?? null);
    this.#entries.splice(at, 0, entry);
    part('welcome').hidden = true;
    if (this.#entries.length > MAX_ENTRIES) this.#remove(this.#entries[0]);
  }

  #remove(entry) {
    entry.element.remove();
    this.#entries.splice(this.#entries.indexOf(entry), 1);
  }

  #mark(entry, state, hint) {
    entry.state = state;
    const mark = entry.element.querySelector('.state');
    mark.dataset.state = state;
    setText(mark, STATES[state]);
    entry.element.querySelector('.hint')?.remove();
    if (hint) entry.element.append(element('div', { class: 'hint' }, element('p', {}, hint)));
  }

  // Scrolling: who is at the end stays there, who reads elsewhere is not disturbed.

  #change(make) {
    const before = part('log').lastElementChild;
    const made = make();
    if (this.#atEnd) this.#toEnd();
    else if (part('log').lastElementChild !== before) part('newer').hidden = false;
    return made;
  }

  #toEnd() {
    this.#atEnd = true;
    part('newer').hidden = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd) part('newer').hidden = true;
  }
}

/** Whether one entry belongs below another. What has no number yet is the newest. */
function comesAfter(one, other) {
  if (!one || !other || other.seq === undefined) return false;
  if (one.seq === undefined) return Boolean(one.pending);
  return one.epoch === other.epoch ? one.seq > other.seq : one.epoch > other.epoch;
}

function reply({ content, ts, via }) {
  const where = via === 'transcript' ? 'in the terminal' : undefined;
  return element('article', { class: 'message claude' }, head('Claude', ts, where), body(content));
}

const body = (text) => element('div', { class: 'body', dir: 'auto' }, render(text));

/** What a person said: text, as it is. */
function words({ user, content, ts }, own) {
  const said = element('div', { class: 'body', dir: 'auto' }, content);
  const state = own ? [element('span', { class: 'state', 'aria-live': 'off' })] : [];
  return element('article', { class: `message ${own ? 'own' : 'other'}` }, head(own ? 'You' : nameOf(user), ts, ...state), said);
}

function head(who, ts, ...more) {
  const when = new Date(ts ?? Number.NaN);
  const parts = [element('strong', { class: 'who' }, who)];
  if (!Number.isNaN(when.getTime())) {
    parts.push(element('time', { datetime: when.toISOString(), title: when.toLocaleString() }, clock(when)));
  }
  return element('p', { class: 'head' }, ...parts, ...more.filter(Boolean));
}

function clock(when) {
  const isToday = when.toDateString() === new Date().toDateString();
  const time = { hour: '2-digit', minute: '2-digit' };
  return isToday ? when.toLocaleTimeString([], time) : when.toLocaleString([], { ...time, day: 'numeric', month: 'short' });
}
