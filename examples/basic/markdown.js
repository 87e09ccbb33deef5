// Parses Markdown to a tree of plain objects, which render.js turns into elements.
//
// Supports headings, lists, tables, quotes, code, emphasis and links. HTML is plain text.
// The input is not trusted: the time must be linear in its length, and the tree must not be
// deeper than the limits below.

/** Deepest nesting of quotes and lists. Deeper marks are text. */
const MAX_BLOCK_DEPTH = 8;
/** Deepest nesting of emphasis and links. */
const MAX_INLINE_DEPTH = 16;
/** Most open marks. */
const MAX_OPEN = 500;
/** Longest address of a link, in characters. */
const MAX_ADDRESS = 2000;
/** Deepest nesting of parentheses in an address. It keeps the search for a closing one linear. */
const MAX_PARENTHESES = 8;
/** Most columns of a table. */
const MAX_COLUMNS = 64;

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: {1,4}|$)/;
const DELIMITER_CELL = /^:?-+:?$/;

/** Returns the blocks of a text. */
export function parse(text) {
  return blocks(text.replace(/\r\n?/g, '\n').split('\n').map(untab), 0);
}

/** Returns the address of a link if it is http, https or mailto, else undefined. */
export function safeAddress(address) {
  const trimmed = address.trim();
  if (!/^(?:https?:\/\/|mailto:)/i.test(trimmed)) return undefined;
  try {
    return new URL(trimmed).href;
  } catch {
    return undefined;
  }
}

function untab(line) {
  const indent = /^[ \t]*/.exec(line)[0];
  return indent.includes('\t') ? indent.replaceAll('\t', '    ') + line.slice(indent.length) : line;
}

const isBlank = (line) => line.trim() === '';
const indentOf = (line) => line.length - line.trimStart().length;

/** Returns `true` for three or more of the same mark, with or without spaces. */
function isRule(line) {
  const first = line.trimStart()[0];
  if (first !== '-' && first !== '*' && first !== '_') return false;
  const marks = line.replaceAll(' ', '');
  return marks.length >= 3 && isRunOf(first, marks);
}

function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) at += 1;
    else at = block(lines, at, depth, found);
  }
  return found;
}

/** Parses the block at `at`. Returns the line after it. */
function block(lines, at, depth, found) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return code(lines, at, fence, found);
  const heading = HEADING.exec(line);
  if (heading) {
    const content = line.slice(heading[0].length).trimEnd();
    found.push({ type: 'heading', level: heading[1].length, children: inline(withoutClosing(content)) });
    return at + 1;
  }
  if (isRule(line)) {
    found.push({ type: 'rule' });
    return at + 1;
  }
  if (depth < MAX_BLOCK_DEPTH) {
    if (QUOTE.test(line)) return quote(lines, at, depth, found);
    if (ITEM.test(line)) return list(lines, at, depth, found);
  }
  const columns = tableAt(lines, at);
  if (columns) return table(lines, at, columns, found);
  return paragraph(lines, at, depth, found);
}

function withoutClosing(heading) {
  let end = heading.length;
  while (heading[end - 1] === '#') end -= 1;
  return end === 0 || heading[end - 1] === ' ' ? heading.slice(0, end).trimEnd() : heading;
}

function code(lines, at, [opening, mark, info], found) {
  const indent = indentOf(opening);
  const closes = (line) => {
    const trimmed = line.trim();
    return trimmed.length >= mark.length && indentOf(line) < 4 && isRunOf(mark[0], trimmed);
  };
  const text = [];
  let next = at + 1;
  while (next < lines.length && !closes(lines[next])) {
    text.push(lines[next].slice(Math.min(indent, indentOf(lines[next]))));
    next += 1;
  }
  found.push({ type: 'code', language: info.trim(), text: text.join('\n') });
  return next + 1;
}

function isRunOf(character, text) {
  for (const other of text) if (other !== character) return false;
  return true;
}

function quote(lines, at, depth, found) {
  const inside = [];
  let next = at;
  while (next < lines.length) {
    if (QUOTE.test(lines[next])) inside.push(lines[next].replace(QUOTE, ''));
    else if (continues(lines, next, inside.at(-1))) inside.push(lines[next]);
    else break;
    next += 1;
  }
  found.push({ type: 'quote', children: blocks(inside, depth + 1) });
  return next;
}

/** Returns `true` if a line continues the paragraph before it. */
function continues(lines, at, before) {
  return before !== undefined && !isBlank(before) && !isBlank(lines[at]) && !interrupts(lines, at);
}

/** Returns `true` if a block other than a paragraph begins here. */
function interrupts(lines, at) {
  const line = lines[at];
  return (
    FENCE.test(line) || HEADING.test(line) || isRule(line) || QUOTE.test(line) || ITEM.test(line) || tableAt(lines, at) > 0
  );
}

function list(lines, at, depth, found) {
  const [, spaces, first] = ITEM.exec(lines[at]);
  const base = spaces.length;
  const kind = kindOf(first);
  const items = [];
  let next = at;
  while (next < lines.length) {
    const marker = ITEM.exec(lines[next]);
    if (!marker || marker[1].length >= base + 2 || kindOf(marker[2]) !== kind || isRule(lines[next])) break;
    const [inside, end] = item(lines, next, base, marker[0].length);
    items.push(task(blocks(inside, depth + 1)));
    next = end;
  }
  const ordered = kind === '.' || kind === ')';
  found.push({ type: 'list', ordered, start: ordered ? Number.parseInt(first, 10) : 1, items });
  return next;
}

/** The kind of a list: its bullet, or the character after its numbers. */
const kindOf = (marker) => marker.at(-1);

/** Returns an item's lines without their indentation, and the line after it. */
function item(lines, at, base, offset) {
  const inside = [lines[at].slice(offset)];
  let next = at + 1;
  let blank = 0;
  while (next < lines.length) {
    const line = lines[next];
    if (isBlank(line)) {
      blank += 1;
    } else {
      const indent = indentOf(line) - base;
      if (indent < 2 && !(blank === 0 && continues(lines, next, inside.at(-1)))) break;
      while (blank > 0) {
        inside.push('');
        blank -= 1;
      }
      inside.push(line.slice(Math.min(indentOf(line), offset)));
    }
    next += 1;
  }
  return [inside, next];
}

/** Replaces `[ ]` and `[x]` by a box. */
function task(children) {
  const first = children[0]?.type === 'paragraph' ? children[0].children[0] : undefined;
  if (first?.type === 'text') first.text = first.text.replace(/^\[ \] /, '☐ ').replace(/^\[[xX]\] /, '☑ ');
  return children;
}

/** Returns the number of columns of the table that begins here, or 0. */
function tableAt(lines, at) {
  if (at + 1 >= lines.length || !lines[at].includes('|')) return 0;
  const delimiter = lines[at + 1];
  if (!delimiter.includes('-') || delimiter.length > 40 * MAX_COLUMNS) return 0;
  const delimiters = cells(delimiter);
  if (delimiters.length > MAX_COLUMNS || !delimiters.every((cell) => DELIMITER_CELL.test(cell))) return 0;
  return cells(lines[at]).length === delimiters.length ? delimiters.length : 0;
}

function table(lines, at, columns, found) {
  const align = cells(lines[at + 1]).map((cell) => {
    if (!cell.endsWith(':')) return undefined;
    return cell.startsWith(':') ? 'center' : 'right';
  });
  const row = (line) => {
    const found = cells(line);
    // Surplus cells are joined, so that no text is lost.
    const last = found.splice(columns - 1);
    return (last.length > 0 ? [...found, last.join(' | ')] : found).map(inline);
  };
  const rows = [];
  let next = at + 2;
  while (next < lines.length && lines[next].includes('|')) {
    rows.push(row(lines[next]));
    next += 1;
  }
  found.push({ type: 'table', align, head: row(lines[at]), rows });
  return next;
}

/** Returns the cells of a row. A bar after a backslash is part of its cell. */
function cells(line) {
  const found = [];
  const trimmed = line.trim();
  let cell = '';
  for (let at = trimmed.startsWith('|') ? 1 : 0; at < trimmed.length; at += 1) {
    if (trimmed[at] === '\\' && trimmed[at + 1] === '|') {
      cell += '|';
      at += 1;
    } else if (trimmed[at] === '|') {
      found.push(cell.trim());
      cell = '';
    } else {
      cell += trimmed[at];
    }
  }
  if (cell.trim() !== '' || !trimmed.endsWith('|')) found.push(cell.trim());
  return found;
}

function paragraph(lines, at, depth, found) {
  const text = [lines[at].trim()];
  let next = at + 1;
  while (next < lines.length && !isBlank(lines[next])) {
    if (depth < MAX_BLOCK_DEPTH && interrupts(lines, next)) break;
    if (FENCE.test(lines[next])) break;
    text.push(lines[next].trim());
    next += 1;
  }
  found.push({ type: 'paragraph', children: inline(text.join('\n')) });
  return next;
}

// Inside a block, the text becomes a flat list of tokens in which marks are paired, and
// then a tree.

const ESCAPABLE = /[!-/:-@[-`{-~]/;
const SPECIAL = /[\\`*_~[\]!<\n]|https?:\/\//gi;
const WORD = /[\p{L}\p{N}]/u;
const NODES = { '*': 'emphasis', _: 'emphasis', '**': 'strong', __: 'strong', '~~': 'deleted', '[': 'link', '![': 'link' };

function inline(text) {
  return tree(new Tokens(text).tokens);
}

class Tokens {
  tokens = [];
  /** The open marks. */
  #open = [];
  /** The number of open marks of each kind. */
  #counts = {};
  #backticks;

  constructor(text) {
    this.text = text;
    let at = 0;
    while (at < text.length) {
      SPECIAL.lastIndex = at;
      const found = SPECIAL.exec(text);
      const next = found ? found.index : text.length;
      if (next > at) this.#literal(text.slice(at, next));
      at = found ? this.#special(found[0], next) : next;
    }
  }

  /** Parses what begins with a special character. Returns the position after it. */
  #special(character, at) {
    switch (character) {
      case '\\':
        return this.#escape(at);
      case '`':
        return this.#code(at);
      case '*':
      case '_':
      case '~':
        return this.#run(character, at);
      case '[':
        return this.#opening('[', at);
      case '!':
        return this.text[at + 1] === '[' ? this.#opening('![', at) : this.#plain(character, at);
      case ']':
        return this.#closing(at);
      case '\n':
        this.tokens.push({ type: 'break' });
        return at + 1;
      default:
        return this.#address(character, at);
    }
  }

  #literal(text) {
    const last = this.tokens.at(-1);
    if (last?.type === 'text') last.text += text;
    else this.tokens.push({ type: 'text', text });
  }

  #plain(text, at) {
    this.#literal(text);
    return at + text.length;
  }

  #escape(at) {
    const next = this.text[at + 1];
    if (next === '\n') {
      this.tokens.push({ type: 'break' });
      return at + 2;
    }
    if (next === undefined || !ESCAPABLE.test(next)) return this.#plain('\\', at);
    this.#literal(next);
    return at + 2;
  }

  #code(at) {
    const length = this.#runLength('`', at);
    const end = this.#closingBackticks(at + length, length);
    if (end === undefined) return this.#plain('`'.repeat(length), at);
    let content = this.text.slice(at + length, end).replaceAll('\n', ' ');
    if (content.startsWith(' ') && content.endsWith(' ') && content.trim() !== '') content = content.slice(1, -1);
    this.tokens.push({ type: 'code-span', text: content });
    return end + length;
  }

  /** Returns the position of the next run of exactly so many backticks. Each run is visited once. */
  #closingBackticks(from, length) {
    if (!this.#backticks) {
      this.#backticks = new Map();
      for (const { 0: run, index } of this.text.matchAll(/`+/g)) {
        const known = this.#backticks.get(run.length);
        if (known) known.places.push(index);
        else this.#backticks.set(run.length, { places: [index], at: 0 });
      }
    }
    const runs = this.#backticks.get(length);
    while (runs && runs.places[runs.at] < from) runs.at += 1;
    return runs?.places[runs.at];
  }

  #runLength(character, at) {
    let end = at;
    while (this.text[end] === character) end += 1;
    return end - at;
  }

  /** Parses a run of stars, underlines or tildes, which closes open marks or opens new ones. */
  #run(character, at) {
    const length = this.#runLength(character, at);
    const run = character.repeat(length);
    if (length > 3 || (character === '~' && length !== 2)) return this.#plain(run, at);
    const before = this.text[at - 1] ?? ' ';
    const after = this.text[at + length] ?? ' ';
    const inWord = character === '_' && WORD.test(before) && WORD.test(after);
    const closes = !/\s/.test(before) && !inWord;
    const opens = !/\s/.test(after) && !inWord;
    let left = length;
    while (closes && left > 0) {
      const mark = this.#nearest(character, left);
      if (!mark) break;
      this.#pair(mark);
      left -= mark.length;
    }
    for (const mark of opens ? split(character, left) : []) this.#push(mark);
    if (!opens && left > 0) this.#literal(character.repeat(left));
    return at + length;
  }

  /** Returns the last open mark that a run of this length closes. */
  #nearest(character, length) {
    const marks = [character, character.repeat(2)].filter((mark) => mark.length <= length && this.#counts[mark] > 0);
    if (marks.length < 2) return marks[0];
    return this.#open.findLast(({ mark }) => marks.includes(mark)).mark;
  }

  #push(mark) {
    if (this.#open.length >= MAX_OPEN) return this.#literal(mark);
    const token = { type: 'mark', text: mark };
    this.tokens.push(token);
    this.#open.push({ mark, token });
    this.#counts[mark] = (this.#counts[mark] ?? 0) + 1;
  }

  /** Closes the last such mark. Marks that were opened inside it stay text. */
  #pop(wanted) {
    while (this.#open.length > 0) {
      const { mark, token } = this.#open.pop();
      this.#counts[mark] -= 1;
      if (wanted.includes(mark)) return token;
    }
  }

  #pair(mark) {
    const token = this.#pop([mark]);
    token.opens = NODES[mark];
    this.tokens.push({ type: 'mark', text: mark, closes: true });
  }

  #opening(mark, at) {
    this.#push(mark);
    return at + mark.length;
  }

  #closing(at) {
    if (!(this.#counts['['] > 0 || this.#counts['!['] > 0)) return this.#plain(']', at);
    const address = this.text[at + 1] === '(' ? destination(this.text, at + 2) : undefined;
    if (!address) {
      // A bracket without an address is text. Marks that were opened after it stay open.
      const last = this.#open.findLastIndex(({ mark }) => mark.endsWith('['));
      const [{ mark }] = this.#open.splice(last, 1);
      this.#counts[mark] -= 1;
      return this.#plain(']', at);
    }
    const token = this.#pop(['[', '![']);
    token.opens = 'link';
    token.address = safeAddress(address.text);
    this.tokens.push({ type: 'mark', text: ']', closes: true });
    return address.end;
  }

  /** Parses `<https://…>` or a bare address. */
  #address(character, at) {
    const start = character === '<' ? at + 1 : at;
    if (character !== '<' && WORD.test(this.text[at - 1] ?? ' ')) return this.#plain(character, at);
    const piece = this.text.slice(start, start + MAX_ADDRESS);
    const found = /^(?:https?:\/\/|mailto:)[^\s<>"`]+/i.exec(piece)?.[0];
    if (!found || (character === '<' && piece[found.length] !== '>')) return this.#plain(character, at);
    const text = character === '<' ? found : withoutEnd(found);
    const address = safeAddress(text);
    if (!address) return this.#plain(character, at);
    this.tokens.push({ type: 'mark', text: '', opens: 'link', address }, { type: 'text', text });
    this.tokens.push({ type: 'mark', text: '', closes: true });
    return start + text.length + (character === '<' ? 1 : 0);
  }
}

/** Splits a run into marks: `***` is bold around emphasis. */
function split(character, length) {
  if (length === 3) return [character.repeat(2), character];
  return length > 0 ? [character.repeat(length)] : [];
}

/** Parses an address, maybe with a title, up to the closing parenthesis. */
function destination(text, start) {
  const piece = text.slice(start, start + MAX_ADDRESS);
  const pointed = /^\s*<([^<>\n]*)>/.exec(piece);
  let end = pointed ? pointed[0].length : /^\s*/.exec(piece)[0].length;
  const begin = end;
  for (let depth = 0; !pointed && end < piece.length && !/\s/.test(piece[end]); end += 1) {
    if (piece[end] === '(' && (depth += 1) > MAX_PARENTHESES) return undefined;
    if (piece[end] === ')' && depth-- === 0) break;
  }
  const close = /^\s*(?:"[^"]*"|'[^']*')?\s*\)/.exec(piece.slice(end));
  return close ? { text: pointed ? pointed[1] : piece.slice(begin, end), end: start + end + close[0].length } : undefined;
}

/** Returns an address without the punctuation of the sentence around it. */
function withoutEnd(address) {
  let end = address.length;
  let open = 0;
  for (const character of address) open += character === '(' ? 1 : character === ')' ? -1 : 0;
  while (end > 0) {
    const last = address[end - 1];
    if (last === ')' && open < 0) open += 1;
    else if (!".,;:!?'*_~]|".includes(last)) break;
    end -= 1;
  }
  return address.slice(0, end);
}

function tree(tokens) {
  const root = [];
  const path = [root];
  // Marks that are too deep, and links in links, have no effect.
  const applied = [];
  for (const token of tokens) {
    const children = path.at(-1);
    if (token.opens) {
      const nested = token.opens === 'link' && applied.includes('link');
      const node = { type: token.opens, address: token.address, children: [] };
      const applies = !nested && path.length <= MAX_INLINE_DEPTH;
      applied.push(applies ? token.opens : undefined);
      if (!applies) continue;
      children.push(node);
      path.push(node.children);
    } else if (token.closes) {
      if (applied.pop()) path.pop();
    } else if (token.type === 'mark' || token.type === 'text') {
      const last = children.at(-1);
      if (last?.type === 'text') last.text += token.text;
      else if (token.text) children.push({ type: 'text', text: token.text });
    } else {
      children.push(token);
    }
  }
  return root;
}
