// The page's Markdown, without a browser: the trees it makes, and that no input makes it slow or
// its tree deep.

import { test } from 'node:test';
import assert from 'node:assert/strict';

import { parse, safeAddress } from '../../examples/basic/markdown.js';

/** Returns a tree as text: nodes in parentheses, their name first. */
function show(node) {
  if (Array.isArray(node)) return node.map(show).join(' ');
  switch (node.type) {
    case 'text':
      return JSON.stringify(node.text).slice(1, -1);
    case 'break':
      return '(br)';
    case 'rule':
      return '(hr)';
    case 'code-span':
      return `(code ${node.text})`;
    case 'code':
      return `(pre ${node.language}|${JSON.stringify(node.text).slice(1, -1)})`;
    case 'heading':
      return `(h${node.level} ${show(node.children)})`;
    case 'list':
      return `(${node.ordered ? `ol${node.start}` : 'ul'} ${node.items.map((item) => `(li ${show(item)})`).join(' ')})`;
    case 'table': {
      const row = (cells) => `(${cells.map(show).join(' | ')})`;
      return `(table ${node.align.map((align) => align ?? '-').join(' ')} ${[node.head, ...node.rows].map(row).join(' ')})`;
    }
    case 'link':
      return `(a ${node.address ?? 'nowhere'} ${show(node.children)})`;
    default:
      return `(${{ paragraph: 'p', quote: 'quote', emphasis: 'em', strong: 'b', deleted: 'del' }[node.type]} ${show(node.children)})`;
  }
}

const CASES = [
  ['hello', '(p hello)'],
  ['one\ntwo\n\nthree', '(p one (br) two) (p three)'],
  ['# A **b**\n###### c ##\n####### d', '(h1 A  (b b)) (h6 c) (p ####### d)'],
  ['*a* _b_ **c** __d__ ~~e~~ `f`', '(p (em a)   (em b)   (b c)   (b d)   (del e)   (code f))'],
  ['***a*** and **b *c* d**', '(p (b (em a))  and  (b b  (em c)  d))'],
  ['snake_case_name and 2 * 3 * 4', '(p snake_case_name and 2 * 3 * 4)'],
  ['**open and *open', '(p **open and *open)'],
  ['*a [b* c](https://d.example/)', '(p (em a [b)  c]( (a https://d.example/ https://d.example/) ))'],
  ['``a ` b`` `c', '(p (code a ` b)  `c)'],
  ['\\*not\\* \\a', '(p *not* \\\\a)'],
  ['- a\n- b\n  - c\n\n    d\n- e', '(ul (li (p a)) (li (p b) (ul (li (p c) (p d)))) (li (p e)))'],
  ['3. a\n4. b\n  - c', '(ol3 (li (p a)) (li (p b) (ul (li (p c)))))'],
  ['- a\n* b\ntext after\n\nmore', '(ul (li (p a))) (ul (li (p b (br) text after))) (p more)'],
  ['- [ ] to do\n- [x] done', '(ul (li (p ☐ to do)) (li (p ☑ done)))'],
  ['1. a\n\n```sh\nb\n```', '(ol1 (li (p a))) (pre sh|b)'],
  ['1. a\n   ```sh\n   b\n     c\n   ```\n2. d', '(ol1 (li (p a) (pre sh|b\\n  c)) (li (p d)))'],
  ['> a\nb\n> > c\n\nd', '(quote (p a (br) b) (quote (p c))) (p d)'],
  ['---\n* * *\n___\n--', '(hr) (hr) (hr) (p --)'],
  ['```js\nlet a = `b`;\n\n  <c>\n```\nafter', '(pre js|let a = `b`;\\n\\n  <c>) (p after)'],
  ['~~~\nnever closed\n# x', '(pre |never closed\\n# x)'],
  ['````\n```\n````', '(pre |```)'],
  ['| a | b |\n|---|--:|\n| c | `d|e` \\| f |\n| g |\nend', '(table - right (a | b) (c | (code d | e)  | f) (g)) (p end)'],
  ['|a|b|\n|-|-|\n|c||\n|d|', '(table - - (a | b) (c | ) (d))'],
  ['a | b\n:-: | -\n1 | 2', '(table center - (a | b) (1 | 2))'],
  ['a | b\nno table', '(p a | b (br) no table)'],
  ['[a](https://b.example/c_(d) "title") [e](<mailto:f@g.example>)', '(p (a https://b.example/c_(d) a)   (a mailto:f@g.example e))'],
  ['[**a** `b`](http://c.example)', '(p (a http://c.example/ (b a)   (code b)))'],
  ['![a picture](https://b.example/c.png)', '(p (a https://b.example/c.png a picture))'],
  ['see https://a.example/b_(c), or <https://d.example>.', '(p see  (a https://a.example/b_(c) https://a.example/b_(c)) , or  (a https://d.example/ https://d.example) .)'],
  ['**https://a.example/b**', '(p (b (a https://a.example/b https://a.example/b)))'],
  ['[a](javascript:alert(1)) [b](data:text/html,x) [c](//d.example) [e](/f)', '(p (a nowhere a)   (a nowhere b)   (a nowhere c)   (a nowhere e))'],
  ['[a] [b][c] [](https://d.example)', '(p [a] [b][c]  (a https://d.example/ ))'],
  ['<b onclick="x">a</b> <script>alert(1)</script>', '(p <b onclick=\\"x\\">a</b> <script>alert(1)</script>)'],
  ['&amp; &lt;', '(p &amp; &lt;)'],
  ['a  \nb\\\nc', '(p a (br) b (br) c)'],
  ['\r\na\r\n\r\nb\r', '(p a) (p b)'],
  ['', ''],
];

for (const [text, expected] of CASES) {
  test(`markdown: ${JSON.stringify(text)}`, () => assert.equal(show(parse(text)), expected));
}

test('only http, https and mailto addresses are links', () => {
  for (const address of ['https://a.example', 'HTTP://a.example', ' mailto:a@b.example ']) {
    assert.ok(safeAddress(address), address);
  }
  const wrong = ['javascript:1', 'java\nscript:1', '\u0001javascript:1', 'vbscript:1', 'data:,x', 'file:///x', 'blob:x', 'x', '#x', '//x', 'https://', 'ws://x', ''];
  for (const address of wrong) assert.equal(safeAddress(address), undefined, address);
});

/** Returns the depth of a tree. A recursion could overflow the stack. */
function depth(nodes) {
  let deepest = 0;
  const todo = nodes.map((node) => [node, 1]);
  while (todo.length > 0) {
    const [node, level] = todo.pop();
    deepest = Math.max(deepest, level);
    for (const child of [node.children, node.items, node.head, node.rows].flat(3)) if (child) todo.push([child, level + 1]);
  }
  return deepest;
}

const MEGABYTE = 1_000_000;
const HOSTILE = [
  '[', ']', '![', '[a](', '](', '[](', '[]()', '*', '* ', '*a ', '**a', '_a_', '_', '~~', '~~a', '`', '`a', '``a`', '<', '<https://', 'https://',
  'https://a.example/)', '\\', '>', '> ', '- ', '-', '- - ', '1. ', '#', '# #', '|', '|-', 'a|', '```', '```\n', '\n', ' ', '\t', '> \n', '- a\n', '- a\n ',
  '  - a\n', '|a|b|\n|-|-|\n', 'a | b\n', '|-|\n', '***a**', '*_', '_*a', '[*a', '*[a](b', '`` ` ', '(', ')', '[a]((((', ' x\n>', '---x\n', '- ---\n', '> - ',
  '[a](<', '[a](b "', '\\*', '!', '&', 'é', '\u{1f600}', '*a_b', '_a*b', '**a*', '*a**', '~~*a',
];

test('hostile input is parsed quickly, to a tree that is not deep', () => {
  for (const piece of HOSTILE) {
    for (const [before, after] of [['', ''], ['a ', ' b'], ['- ', '\n\n[x](https://y.example)'], ['|a|\n|-|\n|', '|']]) {
      const text = before + piece.repeat(MEGABYTE / 30 / piece.length) + after;
      const start = performance.now();
      const tree = parse(text);
      const taken = performance.now() - start;
      assert.ok(taken < 3000, `${JSON.stringify(piece)} took ${Math.round(taken)} ms`);
      assert.ok(depth(tree) < 64, `${JSON.stringify(piece)} is ${depth(tree)} deep`);
    }
  }
});

test('the time is linear in the length of the text', () => {
  // Ten times the length takes ten times as long. If it were quadratic, a hundred times.
  for (const piece of ['[', '*a ', '**a', '> ', '- ', '`a', '[a](', '- a\n', '  - a\n', 'a|', '|a|b|\n|-|-|\n', '_a*b', '> - ', '*[a](b']) {
    const start = performance.now();
    parse(piece.repeat(MEGABYTE / piece.length));
    const taken = performance.now() - start;
    assert.ok(taken < 10_000, `a megabyte of ${JSON.stringify(piece)} took ${Math.round(taken)} ms`);
  }
});

/** Pseudo-random numbers, always the same (xorshift). */
function noise(seed) {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

test('no mixture of marks throws, or loses a word', () => {
  const random = noise(42);
  const pieces = ['*', '**', '_', '`', '``', '~~', '[', ']', '](https://a.example)', '(', ')', '!', '<', '>', '\n', '\n\n', '> ', '- ', '1. ', '  ', '# ', '|', '\n|-|-|\n', '```\n', '\\', '---\n', ' '];
  for (let round = 0; round < 3000; round += 1) {
    const words = [];
    let text = '';
    for (let length = random(30); length > 0; length -= 1) {
      text += pieces[random(pieces.length)];
      if (random(2)) {
        words.push(`w${words.length}x`);
        text += words.at(-1);
      }
    }
    const shown = JSON.stringify(parse(text));
    // A word after an opening fence is the language.
    for (const word of words) assert.ok(shown.includes(word), `${JSON.stringify(text)} lost ${word}`);
  }
});
