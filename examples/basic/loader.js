// The places of the conversation whose messages are not on the page: above its oldest message, and around a message
// that was gone to. Each has a button, and loads by itself when it comes into view.

import { element, byId, setText } from './dom.js';

/** Pixels from the view at which loading begins. */
const AHEAD = 400;

/**
 * @typedef {object} Loader
 * @property {HTMLElement} element
 * @property {number} after the `seq` of the last message above; 0 if there is none
 * @property {number} before the `seq` of the first message below
 */

export class Loaders {
  #load;
  #seen = new IntersectionObserver((changes) => this.#onSeen(changes), { root: byId('scroll'), rootMargin: `${AHEAD}px 0px` });
  /** @type {Map<Element, Loader>} */
  #loaders = new Map();

  /** @param {(loader: Loader, side: 'above' | 'below') => Promise<void>} load loads what is next to that side of it */
  constructor(load) {
    this.#load = load;
  }

  /** Returns a place for the messages between two `seq`s. */
  make(after, before) {
    const button = element('button', { type: 'button', class: 'quiet' }, after === 0 ? 'Load older messages' : 'Load more messages');
    const loader = { element: element('div', { class: 'loader' }, button), after, before, button };
    button.addEventListener('click', () => this.#begin(loader));
    this.#loaders.set(loader.element, loader);
    this.#seen.observe(loader.element);
    return loader;
  }

  /** Does not load this one any more. */
  end(loader) {
    this.#loaders.delete(loader.element);
    this.#seen.unobserve(loader.element);
    // The button that the focus was on is gone.
    if (document.activeElement === document.body) byId('scroll').focus({ preventScroll: true });
  }

  #onSeen(changes) {
    for (const { target, isIntersecting } of changes) {
      const loader = this.#loaders.get(target);
      // After a failure the button is left.
      if (loader && isIntersecting && !loader.failed) void this.#begin(loader);
    }
  }

  async #begin(loader) {
    if (loader.loading) return;
    loader.loading = true;
    const label = loader.button.textContent;
    setText(loader.button, 'Loading …');
    // `disabled` would lose the keyboard's focus.
    loader.button.setAttribute('aria-disabled', 'true');
    // What is nearer to the middle of the view is what the reader comes from.
    const view = byId('scroll').getBoundingClientRect();
    const isHigh = loader.element.getBoundingClientRect().top < view.top + view.height / 2;
    loader.failed = await this.#load(loader, isHigh || loader.after === 0 ? 'below' : 'above').then(() => false, () => true);
    loader.loading = false;
    setText(loader.button, loader.failed ? 'Not loaded. Try again' : label);
    loader.button.removeAttribute('aria-disabled');
    if (!this.#loaders.has(loader.element)) return;
    // It is told again if it is still in view.
    this.#seen.unobserve(loader.element);
    this.#seen.observe(loader.element);
  }
}
