// The conversation: messages in the server's order, the delivery state of one's own, and
// Claude's status below.

import { element, byId, setText } from './dom.js';
import { render } from './render.js';
import { nameOf } from './sanitize.js';

/** Most entries on the page. The oldest are removed. */
const MAX_ENTRIES = 1000;
/** Pixels from the end that still count as the end. */
const NEAR = 48;
/** Pixels above a long reply that is shown from its beginning. */
const MARGIN = 12;
/** Milliseconds between two renderings of the streamed text. */
const STREAM_PACE = 60;
/** Most characters of the streamed text that are shown. */
const MAX_STREAM = 100_000;
/** What marks a gap. */
const MISSING = 'Some messages are missing here: the server does not keep them any more.';

/** Delivery states in their order, with their labels. */
const STATES = {
  waiting: 'waiting',
  accepted: 'accepted',
  unseen: 'not seen yet',
  seen: 'seen',
  answered: 'answered',
  lost: 'maybe lost',
  rejected: 'not taken',
};
const RANKS = Object.keys(STATES);

/** @typedef {{element: HTMLElement, pending?: boolean, epoch?: number, seq?: number}} Entry */

export class Messages {
  /** The entries in order. @type {Entry[]} */
  #entries = [];
  /** The entries by the server's id. @type {Map<string, Entry>} */
  #known = new Map();
  /** Own messages without a final state, by the client's id. */
  #own = new Map();
  /** Counts how often the session began anew. Each time `seq` starts from 1 again. */
  #epoch = 0;
  #created;
  #stream = '';
  #streaming;
  #atEnd = true;
  #scroll = byId('scroll');

  constructor() {
    this.#scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#scroll);
    byId('newer').addEventListener('click', () => this.#toEnd());
  }

  /** Sets when the session began. Returns `true` if it began anew. */
  began(created) {
    const isAnew = this.#created !== undefined && created !== this.#created;
    if (isAnew) this.#epoch += 1;
    this.#created = created;
    return isAnew;
  }

  /** Adds the history. Entries that are there already are not added twice. */
  history({ messages, truncated_before }, name) {
    byId('log').setAttribute('aria-busy', 'true');
    // It belongs right before the first message after the gap.
    if (truncated_before) this.#insert({ element: note(MISSING), epoch: this.#epoch, seq: truncated_before - 0.5 });
    for (const item of messages) {
      const sent = [...this.#own.values()].find((own) => own.ts === item.ts && own.content === item.content);
      if (sent) this.#number(sent, item);
      else if (item.role === 'assistant') this.#add(item, () => reply(item));
      else this.#add(item, () => userMessage(item, item.user === name));
    }
    byId('log').removeAttribute('aria-busy');
    byId('welcome').hidden = this.#entries.length > 0;
    this.#toEnd();
  }

  /** Adds Claude's reply. Returns `true` if it was not there yet. */
  reply(message) {
    const wasStreaming = this.#stream !== '';
    const isNew = this.#change(() => {
      this.#endStream();
      return this.#add(message, () => reply(message));
    });
    const { offsetHeight, offsetTop } = this.#known.get(message.message_id).element;
    if (isNew && this.#atEnd && !wasStreaming && offsetHeight > this.#scroll.clientHeight) {
      // A reply longer than the screen is shown from its beginning.
      this.#scroll.scrollTop = offsetTop - this.#scroll.offsetTop - MARGIN;
    }
    return isNew;
  }

  /** Adds somebody else's message. Returns `true` if it was not there yet. */
  other(message) {
    return this.#change(() => this.#add(message, () => userMessage(message, false)));
  }

  /** Adds an own message. `edit` is called with its text after a rejection. */
  own(sent, edit) {
    const entry = { element: userMessage(sent, true), content: sent.content, ts: sent.ts, pending: true, edit };
    this.#own.set(sent.id, entry);
    this.#change(() => this.#insert(entry));
    this.#toEnd();
    this.#mark(entry, 'waiting');
  }

  /** Shows the delivery state of an own message. */
  delivery({ id, state, hint, ...receipt }) {
    const entry = this.#own.get(id);
    if (!entry || RANKS.indexOf(state) <= RANKS.indexOf(entry.state)) return;
    if (receipt.message_id) this.#number(entry, receipt);
    this.#change(() => this.#mark(entry, state, hint));
    if (state === 'answered') this.#own.delete(id);
  }

  /** Shows that an own message was rejected, or is lost. */
  rejected(id, why, state = 'rejected') {
    const entry = this.#own.get(id);
    if (!entry) return;
    this.#own.delete(id);
    entry.pending = false;
    const edit = () => {
      this.#remove(entry);
      entry.edit(entry.content);
    };
    const button = element('button', { type: 'button', class: 'quiet', click: edit }, 'Write it again');
    this.#change(() => {
      this.#mark(entry, state);
      entry.element.append(element('div', { class: 'hint' }, element('p', {}, why), button));
    });
    setText(byId('alert'), `Your message is ${STATES[state]}: ${why}`);
  }

  /** Adds a line about an event. */
  note(text) {
    this.#change(() => this.#insert({ element: note(text) }));
  }

  /** Marks that messages are missing before those to come. */
  gap() {
    this.note(MISSING);
  }

  /** Shows what Claude is doing. */
  status({ status, detail }) {
    this.#change(() => {
      if (status === 'idle') this.#endStream();
      const doing = status === 'tool_use' ? `Claude is using ${detail || 'a tool'}` : `Claude is thinking${detail ? `: ${detail}` : ''}`;
      setText(byId('status'), status === 'idle' ? '' : doing);
    });
  }

  /** Shows a piece of Claude's text, as it appears. */
  stream(delta) {
    this.#stream = (this.#stream + delta).slice(-MAX_STREAM);
    this.#streaming ??= setTimeout(() => {
      this.#streaming = undefined;
      this.#change(() => {
        byId('stream').hidden = false;
        byId('stream').replaceChildren(head('Claude'), body(this.#stream));
      });
    }, STREAM_PACE);
  }

  /** Clears the status: it is unknown without a connection. */
  disconnected() {
    this.status({ status: 'idle' });
  }

  #endStream() {
    clearTimeout(this.#streaming);
    this.#streaming = undefined;
    this.#stream = '';
    byId('stream').hidden = true;
    byId('stream').replaceChildren();
  }

  // The order.

  /** Adds an entry with a `seq`, unless it is there. */
  #add({ message_id, seq }, make) {
    if (this.#known.has(message_id)) return false;
    const entry = { element: make(), epoch: this.#epoch, seq };
    this.#known.set(message_id, entry);
    this.#insert(entry);
    return true;
  }

  /** Gives an own message its `seq`, and moves it to its place. */
  #number(entry, { message_id, seq }) {
    const known = this.#known.get(message_id);
    this.#known.set(message_id, entry);
    if (known === entry || seq === undefined) return;
    if (known) this.#remove(known);
    Object.assign(entry, { epoch: this.#epoch, seq, pending: false });
    const at = this.#entries.indexOf(entry);
    const neighbors = [this.#entries[at - 1], this.#entries[at + 1]];
    if (comesAfter(neighbors[0], entry) || comesAfter(entry, neighbors[1])) {
      this.#entries.splice(at, 1);
      this.#insert(entry);
    }
  }

  #insert(entry) {
    let at = this.#entries.length;
    while (at > 0 && comesAfter(this.#entries[at - 1], entry)) at -= 1;
    byId('log').insertBefore(entry.element, this.#entries[at]?.element ?? null);
    this.#entries.splice(at, 0, entry);
    byId('welcome').hidden = true;
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

  // Scrolling: at the end the view follows new entries, elsewhere it stays.

  #change(make) {
    const before = byId('log').lastElementChild;
    const made = make();
    if (this.#atEnd) this.#toEnd();
    else if (byId('log').lastElementChild !== before) byId('newer').hidden = false;
    return made;
  }

  #toEnd() {
    this.#atEnd = true;
    byId('newer').hidden = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (this.#atEnd) byId('newer').hidden = true;
  }
}

/** Returns `true` if `one` belongs below `other`. An entry without `seq` is the newest. */
function comesAfter(one, other) {
  if (!one || !other || other.seq === undefined) return false;
  if (one.seq === undefined) return Boolean(one.pending);
  return one.epoch === other.epoch ? one.seq > other.seq : one.epoch > other.epoch;
}

const note = (text) => element('p', { class: 'note' }, text);

function reply({ content, ts, via }) {
  const where = via === 'transcript' ? 'in the terminal' : undefined;
  return element('article', { class: 'message claude' }, head('Claude', ts, where), body(content));
}

const body = (text) => element('div', { class: 'body', dir: 'auto' }, render(text));

/** A person's message: plain text. */
function userMessage({ user, content, ts }, own) {
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
