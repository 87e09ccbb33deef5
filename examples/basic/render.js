// Elements for the tree that markdown.js makes.

import { parse } from './markdown.js';
import { element } from './dom.js';

/** How long "Copied" is shown, in milliseconds. */
const COPIED = 2000;
/** In the page's outline a reply is below its own headings. */
const HEADING_OFFSET = 2;

/** A text of Claude's, as elements. */
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

/** A link, if it may lead there; else its words. */
function link({ address, children: words }) {
  if (!address) return element('span', {}, ...children(words));
  const attributes = { href: address, target: '_blank', rel: 'noopener noreferrer' };
  return element('a', attributes, ...(words.length > 0 ? children(words) : [address]));
}

/** A table that scrolls in itself. */
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

/** Pages that came without TLS have no clipboard: there the code is selected, to be copied by hand. */
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
