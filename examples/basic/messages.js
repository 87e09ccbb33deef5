// The conversation: messages in the server's order, what became of those of people, verdicts between them, and Claude's
// status below. Older messages are loaded when the reader comes to them.

import { element, byId, setText } from './dom.js';
import { Loaders } from './loader.js';
import { outcome } from './permissions.js';
import { render } from './render.js';
import { nameOf } from './sanitize.js';

/** Messages that are loaded at once: the most that one answer has. */
export const PAGE = 100;
/** Most entries on the page while its end is in view. The oldest are removed, and are loaded again on the way up. */
const MAX_ENTRIES = 1000;
/** Messages above one that is gone to. */
const CONTEXT = 25;
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
  queued: 'waits for Claude Code',
  accepted: 'accepted',
  unseen: 'not seen yet',
  seen: 'seen',
  answered: 'answered',
  lost: 'maybe lost',
  rejected: 'not taken',
};
const RANKS = Object.keys(STATES);
/** States that others can follow. */
const UNSETTLED = ['queued', 'accepted', 'unseen', 'seen'];

/**
 * Its `seq` is that of a message; other entries have one between those of two messages, or none at the end.
 * @typedef {object} Entry
 * @property {HTMLElement} element
 * @property {boolean} [pending]
 * @property {number} [epoch]
 * @property {number} [seq]
 * @property {object} [item] the message, as the server has it
 * @property {string} [state] its state, as the page shows it
 * @property {import('./loader.js').Loader} [loader]
 * @property {object} [verdict]
 */

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
  /** Asks the server for messages: `(limit, {since | before}) => Promise`. */
  #fetch;
  #loaders = new Loaders((loader, side) => this.#inTurn(() => this.#load(loader, side)));
  /** The last load. Each waits for the one before. */
  #loading = Promise.resolve();
  /** The history is there. */
  #isOpen = false;
  /** The name that own messages have in the history. */
  #name;
  /** Verdicts whose place is not loaded, oldest first. */
  #verdicts = [];
  /** Ids of the permission requests whose verdict is known. */
  #decided = new Set();

  constructor(fetch) {
    this.#fetch = fetch;
    this.#scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#atEnd && this.#toEnd()).observe(this.#scroll);
    byId('newer').addEventListener('click', () => this.#toEnd());
  }

  /** Sets when the session began. Returns `true` if it began anew. */
  began(created) {
    const isAnew = this.#created !== undefined && created !== this.#created;
    if (isAnew) {
      this.#epoch += 1;
      // What they would load is not there any more.
      for (const entry of this.#entries.filter(({ loader }) => loader)) this.#remove(entry);
    }
    this.#created = created;
    return isAnew;
  }

  /** Shows the end of the history. Entries that are there already are not added twice. */
  history({ messages, truncated_before }, name) {
    this.#name = name;
    this.#isOpen = true;
    this.#insertPage(messages, truncated_before);
    if (messages.length >= PAGE && !truncated_before) this.#insertLoader(0, messages[0].seq);
    this.#placeVerdicts();
    byId('welcome').hidden = this.#entries.length > 0;
    this.#toEnd();
  }

  /** Returns the `seq` of the oldest message that the server may know more about by now, if there is one. */
  get unsettled() {
    const last = this.#entries.findLast(({ item }) => item);
    const isUnsettled = ({ epoch, seq, item, state }) => epoch === this.#epoch && item && UNSETTLED.includes(state) && seq > last.seq - PAGE;
    return this.#entries.find((entry) => isUnsettled(entry) && ![...this.#own.values()].includes(entry))?.seq;
  }

  /** Shows what has become of messages, as their history says. */
  settle({ messages }) {
    this.#change(() => {
      for (const item of messages) this.#settle(item);
    });
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
    if (!entry || isReached(entry, state)) return;
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

  /** Adds a line about a permission request that is decided. */
  decided(id, text) {
    this.#decided.add(id);
    this.note(text);
  }

  /** Adds the verdicts that are not there yet, each where it belongs by its time. */
  verdicts(verdicts) {
    for (const verdict of verdicts) {
      if (this.#decided.has(verdict.request_id)) continue;
      this.#decided.add(verdict.request_id);
      this.#verdicts.push(verdict);
    }
    this.#change(() => this.#placeVerdicts());
  }

  /** Returns `true` if the verdict on this permission request is known. */
  isDecided(id) {
    return this.#decided.has(id);
  }

  /**
   * Goes to a message, and loads what is around it if need be. Resolves with `false` if it isn't kept any more.
   * @param {number} seq
   */
  goTo(seq) {
    return this.#inTurn(async () => {
      this.#atEnd = false;
      if (!this.#withSeq(seq)) await this.#loadAround(seq);
      const entry = this.#withSeq(seq);
      if (!entry) return false;
      entry.element.tabIndex = -1;
      entry.element.focus({ preventScroll: true });
      entry.element.scrollIntoView({ block: entry.element.offsetHeight > this.#scroll.clientHeight ? 'start' : 'center' });
      this.#scrolled();
      return true;
    });
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

  // Loading.

  /** Runs a load after those before it. What fails fails for its caller only. */
  #inTurn(load) {
    const result = this.#loading.then(load);
    this.#loading = result.catch(() => {});
    return result;
  }

  /** Loads the messages above or below a place. */
  async #load(loader, side) {
    const { after, before } = loader;
    const { messages, truncated_before } = await this.#fetch(PAGE, side === 'below' ? { before } : { since: after });
    const entry = this.#entries.find((one) => one.loader === loader);
    if (!entry) return;
    const missing = messages.filter(({ seq }) => seq > after && seq < before);
    const isAll = messages.length < PAGE || missing.length < messages.length || Boolean(truncated_before && side === 'below');
    this.#keepPlace(() => {
      if (isAll) this.#remove(entry);
      else if (side === 'below') this.#setBefore(entry, missing[0].seq);
      else loader.after = missing.at(-1).seq;
      this.#insertPage(missing, truncated_before > after + 1 && truncated_before);
      if (isAll && after === 0) byId('beginning').hidden = Boolean(truncated_before);
      this.#placeVerdicts();
    });
  }

  /** Loads the messages around one that isn't on the page. */
  async #loadAround(seq) {
    const entry = this.#entries.find(({ loader }) => loader && loader.after < seq && seq < loader.before);
    if (!entry) return;
    const { after, before } = entry.loader;
    const since = Math.max(after, seq - CONTEXT - 1);
    const { messages, truncated_before } = await this.#fetch(PAGE, { since });
    const missing = messages.filter((item) => item.seq < before);
    if (missing.length === 0 || !this.#entries.includes(entry)) return;
    this.#keepPlace(() => {
      this.#remove(entry);
      this.#insertPage(missing, since === after && truncated_before);
      if (since > after) this.#insertLoader(after, missing[0].seq);
      else if (after === 0) byId('beginning').hidden = Boolean(truncated_before);
      if (messages.length >= PAGE && missing.length === messages.length) this.#insertLoader(missing.at(-1).seq, before);
      this.#placeVerdicts();
    });
  }

  /** Whether it is shown already that messages before this `seq` are missing: the connection has told it. */
  #isMarked(seq) {
    const first = this.#entries.find((entry) => entry.seq >= seq);
    return first?.element.previousElementSibling?.textContent === MISSING;
  }

  /** Inserts messages that the server has kept. Some before `truncatedBefore` are not kept any more. */
  #insertPage(messages, truncatedBefore) {
    byId('log').setAttribute('aria-busy', 'true');
    // It belongs right before the first message after the gap.
    if (truncatedBefore && !this.#isMarked(truncatedBefore)) {
      this.#insert({ element: note(MISSING), epoch: this.#epoch, seq: truncatedBefore - 0.5 });
    }
    for (const item of messages) {
      const sent = [...this.#own.values()].find((own) => own.ts === item.ts && own.content === item.content);
      if (sent) this.#number(sent, item);
      else if (item.role === 'assistant') this.#add(item, () => reply(item));
      else this.#add(item, () => userMessage(item, item.user === this.#name));
      this.#settle(item);
    }
    byId('log').removeAttribute('aria-busy');
  }

  /** Inserts a place for the messages between two `seq`s. */
  #insertLoader(after, before) {
    const loader = this.#loaders.make(after, before);
    this.#insert(this.#setBefore({ element: loader.element, epoch: this.#epoch, loader }, before));
    if (after === 0) byId('beginning').hidden = true;
  }

  /** Sets which message is right below a place. */
  #setBefore(entry, before) {
    entry.loader.before = before;
    entry.seq = before - 0.4;
    return entry;
  }

  /** Inserts each verdict whose place is loaded: after the last message before it. */
  #placeVerdicts() {
    if (!this.#isOpen || this.#verdicts.length === 0) return;
    const times = serverTimes(this.#entries);
    const kept = [];
    for (const verdict of this.#verdicts) {
      const when = Date.parse(verdict.ts);
      const last = this.#entries.findLast((entry) => times.get(entry) <= when);
      const next = this.#entries.find((entry) => (times.has(entry) || entry.loader) && (!last || comesAfter(entry, last)));
      if (next?.loader) kept.push(verdict);
      else this.#insert({ element: verdictNote(verdict), epoch: (last ?? next)?.epoch, seq: last ? last.seq + 0.25 : next && next.seq - 0.25, verdict });
    }
    this.#verdicts = kept;
  }

  // The order.

  #withSeq(seq) {
    return this.#entries.find((entry) => entry.item && entry.seq === seq && entry.epoch === this.#epoch);
  }

  /** Adds an entry with a `seq`, unless it is there. */
  #add(item, make) {
    if (this.#known.has(item.message_id)) return false;
    const entry = { element: make(), epoch: this.#epoch, seq: item.seq, item };
    this.#known.set(item.message_id, entry);
    this.#insert(entry);
    return true;
  }

  /** Gives an own message its `seq`, and moves it to its place. */
  #number(entry, { message_id, seq }) {
    const known = this.#known.get(message_id);
    this.#known.set(message_id, entry);
    if (known === entry || seq === undefined) return;
    if (known) this.#remove(known);
    Object.assign(entry, { epoch: this.#epoch, seq, pending: false, item: { message_id, seq, ts: entry.ts } });
    const at = this.#entries.indexOf(entry);
    const neighbors = [this.#entries[at - 1], this.#entries[at + 1]];
    if (comesAfter(neighbors[0], entry) || comesAfter(entry, neighbors[1])) {
      this.#entries.splice(at, 1);
      this.#insert(entry);
    }
  }

  #insert(entry) {
    let at = this.#entries.length;
    // Lines without a `seq` stay below what they were below.
    for (let above = at; above > 0; above -= 1) {
      const other = this.#entries[above - 1];
      if (comesAfter(other, entry)) at = above - 1;
      else if (other.seq !== undefined || entry.seq === undefined) break;
    }
    byId('log').insertBefore(entry.element, this.#entries[at]?.element ?? null);
    this.#entries.splice(at, 0, entry);
    byId('welcome').hidden = true;
  }

  #remove(entry) {
    entry.element.remove();
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    if (entry.item && this.#known.get(entry.item.message_id) === entry) this.#known.delete(entry.item.message_id);
    if (entry.loader) this.#loaders.end(entry.loader);
    if (entry.verdict) this.#verdicts.push(entry.verdict);
  }

  /** Removes the oldest entries while the end is in view. */
  #trim() {
    if (this.#entries.length <= MAX_ENTRIES + PAGE) return;
    while (this.#entries.length > MAX_ENTRIES || !this.#entries[0].item) this.#remove(this.#entries[0]);
    this.#verdicts.sort((one, other) => Date.parse(one.ts) - Date.parse(other.ts));
    const [{ epoch, seq }] = this.#entries;
    if (epoch === this.#epoch) this.#insertLoader(0, seq);
  }

  /** Shows what the history says of a message. */
  #settle({ message_id, state }) {
    const entry = this.#known.get(message_id);
    if (entry && STATES[state] && entry.state !== state) this.#mark(entry, state);
  }

  #mark(entry, state, hint) {
    entry.state = state;
    const head = entry.element.querySelector('.head');
    const mark = head.querySelector('.state') ?? head.appendChild(element('span', { class: 'state', 'aria-live': 'off' }));
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

  /** Makes a change above or below the reader, whose view stays. */
  #keepPlace(make) {
    const top = this.#scroll.getBoundingClientRect().top;
    // A place for messages is no place to stay at.
    const seen = this.#entries.find((entry) => !entry.loader && entry.element.getBoundingClientRect().bottom > top);
    const before = seen?.element.getBoundingClientRect().top;
    make();
    if (this.#atEnd) this.#toEnd();
    else if (seen?.element.isConnected) this.#scroll.scrollTop += seen.element.getBoundingClientRect().top - before;
  }

  #toEnd() {
    this.#trim();
    this.#atEnd = true;
    byId('newer').hidden = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    if (!this.#atEnd) return;
    byId('newer').hidden = true;
    this.#trim();
  }
}

/**
 * Returns `true` if a message has got as far as this state, or further. One that Claude Code has not seen waits anew when
 * it ends.
 */
function isReached(entry, state) {
  if (state === 'queued' && ['accepted', 'unseen'].includes(entry.state)) return false;
  return RANKS.indexOf(state) <= RANKS.indexOf(entry.state);
}

/**
 * Returns when the server got each message, by its entry. The clock of a user's client may be wrong, so what it says is
 * brought between the replies around it, which have the server's time.
 */
function serverTimes(entries) {
  const said = entries.filter(({ item }) => item);
  const times = new Map();
  let latest = -Infinity;
  for (const entry of said) {
    const when = Date.parse(entry.item.ts);
    if (entry.item.role === 'assistant') latest = Math.max(latest, when);
    times.set(entry, Math.max(latest, Number.isNaN(when) ? latest : when));
  }
  let next = Infinity;
  for (const entry of said.reverse()) {
    if (entry.item.role === 'assistant') next = times.get(entry);
    times.set(entry, Math.min(next, times.get(entry)));
  }
  return times;
}

/** Returns `true` if `one` belongs below `other`. An entry without `seq` is the newest. */
function comesAfter(one, other) {
  if (!one || !other || other.seq === undefined) return false;
  if (one.seq === undefined) return Boolean(one.pending);
  return one.epoch === other.epoch ? one.seq > other.seq : one.epoch > other.epoch;
}

const note = (text) => element('p', { class: 'note' }, text);

function verdictNote(verdict) {
  const when = new Date(verdict.ts);
  const title = Number.isNaN(when.getTime()) ? undefined : when.toLocaleString();
  return element('p', { class: 'note', title }, outcome(verdict));
}

function reply({ content, ts, via }) {
  const where = via === 'transcript' ? 'in the terminal' : undefined;
  return element('article', { class: 'message claude' }, head('Claude', ts, where), body(content));
}

const body = (text) => element('div', { class: 'body', dir: 'auto' }, render(text));

/** A person's message: plain text. */
function userMessage({ user, content, ts }, own) {
  const said = element('div', { class: 'body', dir: 'auto' }, content);
  return element('article', { class: `message ${own ? 'own' : 'other'}` }, head(own ? 'You' : nameOf(user), ts), said);
}

function head(who, ts, ...more) {
  const when = new Date(ts ?? Number.NaN);
  const parts = [element('strong', { class: 'who' }, who)];
  if (!Number.isNaN(when.getTime())) {
    parts.push(element('time', { datetime: when.toISOString(), title: when.toLocaleString() }, clock(when)));
  }
  return element('p', { class: 'head' }, ...parts, ...more.filter(Boolean));
}

/** Returns a time for display: today without the day. */
export function clock(when) {
  const isToday = when.toDateString() === new Date().toDateString();
  const time = { hour: '2-digit', minute: '2-digit' };
  return isToday ? when.toLocaleTimeString([], time) : when.toLocaleString([], { ...time, day: 'numeric', month: 'short' });
}
