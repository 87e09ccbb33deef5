// Turns the tree of markdown.js into elements.

import { parse } from './markdown.js';
import { element } from './dom.js';

/** Milliseconds for which "Copied" is shown. */
const COPIED = 2000;
/** A reply's headings are this many levels lower in the page's outline. */
const HEADING_OFFSET = 2;

/** Returns a text of Claude's as elements. */
export function render(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...parse(text).map(node));
  return fragment;
}

const children = (list) => list.map(node);

function node(it) {
  switch (it.type) {
    case 'text':
      return it.text;
    case 'break':
      return element('br');
    case 'code-span':
      return element('code', {}, it.text);
    case 'emphasis':
      return element('em', {}, ...children(it.children));
    case 'strong':
      return element('strong', {}, ...children(it.children));
    case 'deleted':
      return element('del', {}, ...children(it.children));
    case 'link':
      return link(it);
    case 'paragraph':
      return element('p', {}, ...children(it.children));
    case 'heading':
      return element(`h${Math.min(it.level + HEADING_OFFSET, 6)}`, {}, ...children(it.children));
    case 'quote':
      return element('blockquote', {}, ...children(it.children));
    case 'rule':
      return element('hr');
    case 'list': {
      const items = it.items.map((item) => element('li', {}, ...children(item)));
      return element(it.ordered ? 'ol' : 'ul', { start: it.ordered && it.start !== 1 && it.start }, ...items);
    }
    case 'table':
      return table(it);
    default:
      return code(it);
  }
}

/** A link, or only its text if the address is not allowed. */
function link({ address, children: content }) {
  if (!address) return element('span', {}, ...children(content));
  const attributes = { href: address, target: '_blank', rel: 'noopener noreferrer' };
  return element('a', attributes, ...(content.length > 0 ? children(content) : [address]));
}

/** A table in a box that scrolls. */
function table({ align, head, rows }) {
  const row = (tag, cells) => {
    const made = cells.map((cell, column) =>
      element(tag, { class: align[column], scope: tag === 'th' && 'col' }, ...children(cell)),
    );
    return element('tr', {}, ...made);
  };
  const body = rows.map((cells) => row('td', cells));
  const made = element('table', {}, element('thead', {}, row('th', head)), element('tbody', {}, ...body));
  return element('div', { class: 'table', role: 'group', 'aria-label': 'Table', tabindex: 0 }, made);
}

function code({ language, text }) {
  const button = element('button', { type: 'button', class: 'copy', 'aria-label': 'Copy the code' }, 'Copy');
  const pre = element('pre', { tabindex: 0, 'aria-label': language || 'Code', role: 'group' }, element('code', {}, text));
  button.addEventListener('click', () => copy(button, pre, text));
  return element('div', { class: 'code' }, element('div', { class: 'code-head' }, element('span', {}, language), button), pre);
}

/** Copies the code. Pages without TLS have no clipboard: there the code is selected, to copy it by hand. */
async function copy(button, pre, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(pre);
    button.textContent = document.execCommand?.('copy') ? 'Copied' : 'Selected';
  }
  setTimeout(() => (button.textContent = 'Copy'), COPIED);
}
