// The web chat: its look on a phone and in the dark, and its accessibility, by the rules of axe-core.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';

import { connected, say, story, until } from './browser.js';
import { Kept, talk } from './kept.js';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SMALL = { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true };
const REPLY = '# A heading\n\n- one [link](https://example.org/)\n\n> a quote\n\n| a | b |\n|---|---|\n| c | ' + 'wide'.repeat(60) + '|\n\n```sh\nmake ' + 'x'.repeat(300) + '\n```\n\n`code` ' + 'y'.repeat(200);

/** Returns the accessibility violations of the page. */
async function violations(page) {
  // Injected by the debugger, because the page's policy forbids other scripts.
  await page.evaluate(AXE);
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.effect.getComputedTiming().iterations === Infinity || animation.finished)));
  const { violations } = await page.evaluate(() => window.axe.run());
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' ')}`);
}

for (const colorScheme of ['light', 'dark']) {
  story(`every state is accessible (${colorScheme})`, async ({ server, open }) => {
    const page = await open('/', { colorScheme, expected: /status of 401/ });
    await connected(page);
    await page.locator('#welcome').waitFor();
    assert.deepEqual(await violations(page), []);
    await say(page, 'hello');
    await server.nextMessage();
    await server.status('thinking');
    await server.reply(REPLY);
    await page.locator('[data-state=answered]').waitFor();
    const other = await open('/');
    await connected(other);
    await say(other, 'and I');
    await page.locator('.other').waitFor();
    assert.deepEqual(await violations(page), []);
    server.ask('abcde', 'Bash', 'make a file');
    server.ask('abcdf', 'Write', 'write a file');
    await page.locator('.permission').nth(1).waitFor();
    assert.deepEqual(await violations(page), [], 'not armed yet');
    await page.locator('.permission .allow[aria-disabled=false]').nth(1).waitFor();
    assert.deepEqual(await violations(page), []);
    await page.getByRole('button', { name: 'Allow Bash' }).click();
    await page.getByRole('button', { name: /^Session/ }).click();
    assert.deepEqual(await violations(page), []);
    await page.keyboard.press('Escape');
    await server.kill();
    await page.getByText('The connection is lost').waitFor();
    await say(page, 'still there?');
    await page.locator('[data-state=waiting]').waitFor();
    assert.deepEqual(await violations(page), []);
  });

  story(`the colors follow the system (${colorScheme})`, async ({ open }) => {
    const page = await open('/', { colorScheme });
    await connected(page);
    const [paper, ink] = await page.evaluate(() => {
      const { backgroundColor, color } = getComputedStyle(document.body);
      return [backgroundColor, color];
    });
    const expected = { light: ['rgb(250, 248, 244)', 'rgb(35, 33, 29)'], dark: ['rgb(27, 26, 24)', 'rgb(235, 231, 223)'] };
    assert.deepEqual([paper, ink], expected[colorScheme]);
  });

  story(`the token's form is accessible (${colorScheme})`, async ({ open }) => {
    const page = await open('/', { colorScheme, expected: /status of 401/ });
    await page.locator('#token-form').waitFor();
    assert.deepEqual(await violations(page), []);
  }, { env: { CLAUDE_SOCKET_TOKEN: 'a-token-that-is-long-enough-to-be-one' } });
}

const FOUND = (seq) => (seq === 110 ? { content: `The window is open. ${'long'.repeat(100)}` } : seq === 9 ? { content: 'The window of the shed' } : {});

for (const [name, settings] of Object.entries({ light: { colorScheme: 'light' }, dark: { colorScheme: 'dark' }, phone: { ...SMALL, viewport: { width: 360, height: 640 } } })) {
  story(`the search is accessible, and fits (${name})`, async ({ open }) => {
    const page = await open('/', settings);
    await new Kept({ default: talk(150, FOUND), ['a-long-name-'.repeat(8)]: talk(10, FOUND) }).show(page);
    await page.getByRole('button', { name: 'Search' }).click();
    assert.deepEqual(await violations(page), [], 'empty');
    await page.getByRole('textbox', { name: 'Words to find' }).fill('window');
    await page.locator('#search-results button').nth(2).waitFor();
    assert.deepEqual(await violations(page), []);
    const { width, wide, small } = await page.evaluate(() => ({
      width: document.documentElement.scrollWidth - innerWidth,
      wide: [...document.querySelectorAll('#search-dialog, #search-dialog *')].filter((element) => element.getBoundingClientRect().right > innerWidth).map(({ id, className }) => id || className),
      small: [...document.querySelectorAll('#search-dialog :is(button, input)')].filter((element) => element.getBoundingClientRect().height < 44).map(({ id, className }) => id || className),
    }));
    assert.deepEqual({ width, wide, small }, { width: 0, wide: [], small: [] });
    await page.locator('#search-results button').last().scrollIntoViewIfNeeded();
    await page.getByRole('button', { name: 'Close' }).click();
    await page.locator('#scroll').evaluate((scroll) => (scroll.scrollTop = 0));
    await page.getByText('The beginning of this session').waitFor();
    assert.deepEqual(await violations(page), []);
  });
}

story('the page fits a small phone', async ({ server, open }) => {
  const page = await open('/?session=a-session-with-a-rather-long-name', SMALL);
  await connected(page);
  // On a phone, Enter breaks the line.
  await page.locator('#message').fill('one');
  await page.keyboard.press('Enter');
  await page.keyboard.type('two');
  assert.equal(await page.locator('#message').inputValue(), 'one\ntwo');
  await page.getByRole('button', { name: 'Send' }).tap();
  assert.equal((await server.nextMessage()).content, 'one\ntwo');
  await server.reply(REPLY, 'a-session-with-a-rather-long-name');
  await page.locator('.code').waitFor();
  server.ask('abcde', 'Bash', 'make a file ' + 'z'.repeat(200), { command: 'touch ' + 'q'.repeat(3000) });
  server.ask('abcdf', 'Write', 'write a file', { file_path: 'a' });
  await page.locator('.permission .allow[aria-disabled=false]').nth(1).waitFor();

  const { width, wide, small } = await page.evaluate(() => {
    const visible = (element) => element.checkVisibility() && !element.closest('.visually-hidden, .skip') && getComputedStyle(element).clipPath === 'none';
    const name = ({ localName, id, className }) => `${localName} ${id} ${className}`;
    const scrolls = (element) => element.closest('.table, pre, .input, #session-name, #server');
    const all = [...document.body.querySelectorAll('*')].filter(visible);
    return {
      width: document.documentElement.scrollWidth,
      wide: all.filter((element) => !scrolls(element) && element.getBoundingClientRect().right > 320.5).map(name),
      small: all
        .filter((element) => element.matches('button, input, textarea'))
        .filter((element) => element.getBoundingClientRect().height < 44 || element.getBoundingClientRect().width < 44)
        .map(name),
    };
  });
  assert.deepEqual({ width, wide, small }, { width: 320, wide: [], small: [] });
  // Tables and code scroll in their boxes.
  for (const scroller of ['.table', '.code pre']) {
    assert.ok(await page.locator(scroller).evaluate(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth), scroller);
  }
  // The first prompt keeps its place, and all of its input can be scrolled to.
  const bash = page.locator('.permission').filter({ hasText: 'Bash' });
  const whole = await bash.locator('.input').evaluate((input) => {
    input.scrollTop = input.scrollHeight;
    return input.scrollTop > 0 && input.textContent.includes('q'.repeat(3000));
  });
  assert.ok(whole);
  await page.getByRole('button', { name: 'Allow Bash' }).tap();
  assert.equal(await server.verdict('abcde'), 'allow');

  // The same with a banner.
  server.ask('abcdg', 'Edit', 'change a file', { file_path: 'a' });
  await page.locator('.permission').nth(1).waitFor();
  await server.kill();
  await page.getByText('The connection is lost').waitFor();
  const { y, height } = await page.locator('#name').boundingBox();
  assert.ok(y + height <= 568, `the name ends at ${y + height}`);
});

story('the text box grows, and no prompt covers it', async ({ server, open }) => {
  const page = await open('/', { viewport: { width: 700, height: 320 } });
  await connected(page);
  const height = () => page.locator('#message').evaluate(({ clientHeight }) => clientHeight);
  const before = await height();
  await page.locator('#message').fill('a\n'.repeat(30));
  assert.ok((await height()) > before * 1.5);
  assert.ok((await height()) <= 320 * 0.4);
  await page.locator('#message').fill('');
  server.ask('abcde', 'Bash', 'make a file', { command: 'x\n'.repeat(100) });
  await page.locator('.permission').waitFor();
  const box = await page.locator('#message').boundingBox();
  assert.ok(box.y + box.height <= 320, 'it is on the screen');
  await page.getByRole('button', { name: 'Deny Bash' }).click();
  assert.equal(await server.verdict('abcde'), 'deny');
});

story('reduced motion is respected', async ({ server, open }) => {
  const page = await open('/', { reducedMotion: 'reduce' });
  await connected(page);
  await server.status('thinking');
  await page.getByText('Claude is thinking').waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
});

story('the keyboard reaches everything, and the focus is visible', async ({ open }) => {
  const page = await open('/');
  await connected(page);
  await until(page, () => document.activeElement.id === 'message');
  const reached = new Set();
  for (let tab = 0; tab < 14; tab += 1) {
    await page.keyboard.press('Tab');
    const [id, outline] = await page.evaluate(() => {
      const { id, parentElement } = document.activeElement;
      const seen = [document.activeElement, parentElement].some((element) => {
        const { outlineStyle, borderColor } = getComputedStyle(element);
        return outlineStyle !== 'none' || (id === 'message' && borderColor === 'rgb(168, 73, 42)');
      });
      return [id, seen];
    });
    if (id) reached.add(id);
    assert.ok(outline || !id, `${id} has the focus, and nobody can see it`);
  }
  for (const id of ['message', 'send', 'name', 'session-button', 'search-button', 'scroll']) assert.ok(reached.has(id), id);
});

test('no file of the page parses HTML or evaluates text', async () => {
  const folder = new URL('../../examples/basic/', import.meta.url);
  for (const name of await readdir(folder)) {
    const text = await readFile(new URL(name, folder), 'utf8');
    const found = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|\beval\b|new Function|\son\w+=|style="/.exec(text);
    assert.equal(found, null, `${name} has ${found}`);
    if (name.endsWith('.html')) assert.ok(!/<script>|<style|(?:src|href)="(?:\w+:)?\/\/(?!127\.0\.0\.1:3100\/)/.test(text), name);
  }
});
