// Texts of others on the page: invisible characters are written out, everything else stays.

import { test } from 'node:test';
import assert from 'node:assert/strict';

import { nameOf, visible, visibleLines } from '../../examples/basic/sanitize.js';

/**
 * Ranges of code points that show nothing, or show what follows in another order. The sanitizers in Rust
 * know these too; joiners (U+200C, U+200D) stay in a terminal, and are written out here.
 */
const INVISIBLE = [
  ['C0 control characters but tab and line feed', 0x00, 0x08],
  ['C0 control characters but tab and line feed', 0x0b, 0x1f],
  ['delete and C1 control characters', 0x7f, 0x9f],
  ['soft hyphen', 0xad, 0xad],
  ['combining grapheme joiner', 0x34f, 0x34f],
  ['Arabic letter mark', 0x61c, 0x61c],
  ['Hangul fillers', 0x115f, 0x1160],
  ['Mongolian vowel separator', 0x180e, 0x180e],
  ['zero width space, joiners and marks', 0x200b, 0x200f],
  ['line and paragraph separator, embeddings, overrides', 0x2028, 0x202e],
  ['invisible operators, isolates', 0x2060, 0x206f],
  ['blank Braille pattern', 0x2800, 0x2800],
  ['Hangul filler', 0x3164, 0x3164],
  ['variation selectors but that of emoji', 0xfe00, 0xfe0e],
  ['byte order mark', 0xfeff, 0xfeff],
  ['halfwidth Hangul filler', 0xffa0, 0xffa0],
  ['interlinear annotation', 0xfff9, 0xfffb],
  ['tag characters', 0xe0000, 0xe007f],
  ['variation selectors supplement', 0xe0100, 0xe01ef],
];

for (const [name, first, last] of INVISIBLE) {
  const hex = (code) => `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  test(`written out: ${name}, from ${hex(first)} to ${hex(last)}`, () => {
    for (let code = first; code <= last; code += 1) {
      const text = `a${String.fromCodePoint(code)}b`;
      assert.equal(visible(text), `a⟨${hex(code)}⟩b`);
      assert.equal(visibleLines(text), `a⟨${hex(code)}⟩b`);
    }
  });
}

test('letters, marks, emoji, tabs and line breaks stay', () => {
  for (const text of ['plain – ü', 'e\u0301', 'الْعَرَبِيَّة', 'हिन्दी', '中文', '👩', '☀\ufe0f', '🇨🇭', 'a\n\tb']) {
    assert.equal(visible(text), text);
  }
});

test('a run of empty lines is counted instead of shown', () => {
  assert.equal(visibleLines('a\n\n\nb'), 'a\n\n\nb');
  assert.equal(visibleLines('a\n\n \n\t\nb'), 'a\n⟨3 empty lines⟩\nb');
});

test('nobody passes for Claude', () => {
  const cases = [
    ['ann', 'ann'],
    ['', 'user'],
    ['Claude', 'Claude (a user)'],
    [' CLAUDE ', ' CLAUDE  (a user)'],
    ['Cl\u200baude', 'Cl⟨U+200B⟩aude'],
  ];
  for (const [user, shown] of cases) assert.equal(nameOf(user), shown);
});
