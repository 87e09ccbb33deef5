// The part of a text that a search has found, with its words marked.

import { parse } from './markdown.js';

/** Most characters of an excerpt, and of those before its first marked word. */
const LENGTH = 180;
const LEAD = 50;
/** What accents and the like are once they are taken apart. */
const MARKS = /\p{M}/gu;
const WORDS = /[\p{L}\p{N}\p{M}]+/gu;

/** Most characters of a text whose Markdown is read. */
const MAX_MARKDOWN = 20_000;

/** Returns the words of a text of Claude's, without its Markdown. */
export const plain = (text) => (text.length > MAX_MARKDOWN ? text : parse(text).map(words).join(' '));

/** Returns the words of a node of the tree. */
function words({ type, text, children = [], items = [], head = [], rows = [] }) {
  if (type === 'break') return ' ';
  if (text !== undefined) return text;
  const blocks = [...items, ...head, ...rows.flat()].map((block) => block.map(words).join(''));
  return children.map(words).join('') + blocks.join(' ');
}

/** Returns a text for comparison: without case and accents. */
const fold = (text) => text.normalize('NFD').replace(MARKS, '').toLowerCase();

/**
 * Returns the part of a text around the first word of a query, in pieces. A word is found as a whole, and the last one of
 * the query also as the beginning of one.
 * @param {string} text
 * @param {string} query
 * @returns {{text: string, marked: boolean}[]}
 */
export function excerpt(text, query) {
  const line = text.replace(/\s+/g, ' ').trim();
  const wanted = (query.match(WORDS) ?? []).map(fold);
  const last = wanted.at(-1);
  const isFound = (word) => wanted.includes(word) || (last !== undefined && word.startsWith(last));
  const found = [...line.matchAll(WORDS)].filter(([word]) => isFound(fold(word)));
  const start = startOf(line, found[0]?.index ?? 0);
  const end = endOf(line, start);
  const pieces = [];
  const add = (piece, marked) => piece && pieces.push({ text: piece, marked });
  let at = start;
  if (start > 0) add('… ', false);
  for (const { 0: word, index } of found) {
    if (index + word.length > end) break;
    add(line.slice(at, index), false);
    add(word, true);
    at = index + word.length;
  }
  add(line.slice(at, end), false);
  if (end < line.length) add(' …', false);
  return pieces;
}

/** Returns where an excerpt begins: at a word, not far before the first one that was found. */
function startOf(line, first) {
  if (first <= LEAD) return 0;
  const space = line.indexOf(' ', first - LEAD);
  return space >= 0 && space < first ? space + 1 : first;
}

/** Returns where an excerpt ends: after a word, unless it is a very long one. */
function endOf(line, start) {
  if (line.length <= start + LENGTH) return line.length;
  const space = line.lastIndexOf(' ', start + LENGTH);
  if (space > start + LENGTH / 2) return space;
  // Never between the halves of a character.
  const isHalf = /[\ud800-\udbff]/.test(line[start + LENGTH - 1]);
  return start + LENGTH - (isHalf ? 1 : 0);
}
