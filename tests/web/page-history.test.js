// The web chat: a history that is longer than the page, what became of its messages, verdicts in it, and the search.

import { test } from 'node:test';
import assert from 'node:assert/strict';

import { connected, say, story, until } from './browser.js';
import { Kept, at, talk } from './kept.js';
import { NO_STORE } from './server.js';
import { excerpt, plain } from '../../examples/basic/excerpt.js';

const texts = (page) => page.locator('#log .message .body').evaluateAll((bodies) => bodies.map(({ textContent }) => textContent.split(/of|\n/)[0]));
const lines = (page) => page.locator('#log .body, #log .note').evaluateAll((all) => all.map(({ textContent }) => textContent));
const expected = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => ((from + index) % 2 ? `question ${from + index}` : `answer ${from + index}`));
const scrollTo = (page, top) => page.locator('#scroll').evaluate((scroll, value) => (scroll.scrollTop = value), top);
/** Returns where an article is in the window. */
const placeOf = (page, text) => page.locator('.message', { hasText: text }).first().evaluate((article) => article.getBoundingClientRect().top);
const isInView = (page, text) => until(page, (wanted) => {
  const article = [...document.querySelectorAll('.message')].find(({ textContent }) => textContent.includes(wanted));
  const [one, view] = [article?.getBoundingClientRect(), document.getElementById('scroll').getBoundingClientRect()];
  return one && one.top >= view.top && one.bottom <= view.bottom;
}, text);
const asked = (kept) => kept.asked.filter(({ type }) => type === 'fetch_history').map(({ limit, since, before }) => ({ limit, since, before }));

story('scrolling up loads older messages to the beginning, and the view stays', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(250) });
  await kept.show(page);
  assert.deepEqual(await texts(page), expected(151, 250));
  await isInView(page, 'answer 250');
  assert.ok(await page.locator('#beginning').isHidden());
  assert.deepEqual(asked(kept), [{ limit: 100, since: undefined, before: undefined }]);

  // What is read stays where it is while the messages above it come.
  let release;
  kept.gate = new Promise((resolve) => (release = resolve));
  await scrollTo(page, 200);
  await page.getByRole('button', { name: 'Loading …' }).waitFor();
  const before = await placeOf(page, 'question 155');
  release();
  await page.locator('.message', { hasText: 'question 151' }).first().waitFor();
  await until(page, () => document.querySelectorAll('#log .message').length === 200);
  assert.ok(Math.abs((await placeOf(page, 'question 155')) - before) < 1.5, 'the view stays');
  assert.deepEqual(await texts(page), expected(51, 250));
  assert.deepEqual(asked(kept).at(-1), { limit: 100, since: undefined, before: 151 });

  await scrollTo(page, 0);
  await until(page, () => document.querySelectorAll('#log .message').length === 250);
  await page.locator('.loader').waitFor({ state: 'detached' });
  assert.ok((await page.locator('#scroll').evaluate(({ scrollTop }) => scrollTop)) > 200, 'the view stays at the top, too');
  await page.getByText('The beginning of this session').waitFor();
  assert.deepEqual(await texts(page), expected(1, 250));

  // What is new does not move the reader.
  const top = await page.locator('#scroll').evaluate(({ scrollTop }) => scrollTop);
  kept.say({ role: 'assistant', seq: 251, content: 'news' });
  await page.getByRole('button', { name: 'New messages' }).click();
  await isInView(page, 'news');
  assert.ok(top > 0);
});

story('older messages are loaded by a button, too, and again after a failure', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(120) });
  await kept.show(page);
  const button = page.getByRole('button', { name: 'Load older messages' });
  kept.refuses = true;
  await button.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Not loaded. Try again' }).waitFor();
  kept.refuses = false;
  await page.keyboard.press('Enter');
  await until(page, () => document.querySelectorAll('#log .message').length === 120);
  await page.getByText('The beginning of this session').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'scroll', 'the focus is not lost');
});

story('a short history has neither a button nor a beginning, and skipped numbers are nothing', async ({ open }) => {
  const page = await open();
  const messages = talk(6).filter(({ seq }) => seq !== 3 && seq !== 4);
  await new Kept({ default: messages }).show(page);
  assert.deepEqual(await lines(page), ['question 1', 'answer 2of two lines', 'question 5', 'answer 6of two lines']);
  assert.ok(await page.locator('#beginning').isHidden());
  assert.equal(await page.locator('.loader').count(), 0);
});

story('what is not kept any more is marked at the top', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(150).slice(20) }, { truncated: { default: 21 } });
  await kept.show(page);
  await scrollTo(page, 0);
  await until(page, () => document.querySelectorAll('#log .message').length === 130);
  assert.match((await lines(page))[0], /^Some messages are missing here/);
  assert.ok(await page.locator('#beginning').isHidden());
  assert.equal(await page.locator('.loader').count(), 0);
});

story('a long conversation stays bounded, and its older part is loaded again', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(150) });
  await kept.show(page);
  for (let seq = 151; seq <= 1260; seq += 1) kept.say({ role: 'assistant', seq, content: `answer ${seq}` });
  await page.locator('.message', { hasText: 'answer 1260' }).waitFor();
  const count = await page.locator('#log .message').count();
  assert.ok(count <= 1100, `${count} messages`);
  const [first] = await texts(page);
  assert.notEqual(first, 'question 51');
  await scrollTo(page, 0);
  await until(page, (before) => document.querySelectorAll('#log .message').length > before, count);
  const shown = await texts(page);
  assert.equal(new Set(shown).size, shown.length, 'nothing twice');
});

story('a message shows after a reload what became of it', async ({ open }) => {
  const page = await open();
  await page.evaluate(() => localStorage.setItem('claude-socket.name', 'ann'));
  const states = ['answered', 'lost', 'seen', 'queued'];
  const messages = states.map((state, index) => ({ seq: index + 1, ts: at(index), role: 'user', user: index === 2 ? 'bob' : 'ann', content: `said ${state}`, state }));
  messages.push({ seq: 5, ts: at(5), role: 'user', user: 'ann', content: 'said without id' });
  const kept = new Kept({ default: messages });
  await kept.show(page);
  const labels = () => page.locator('#log .message').evaluateAll((all) => all.map((message) => message.querySelector('.state')?.textContent ?? ''));
  assert.deepEqual(await labels(), ['answered', 'maybe lost', 'seen', 'waits for Claude Code', '']);
  // The rest of it is asked for once something happens.
  messages[3].state = 'answered';
  messages[2].state = 'answered';
  kept.say({ role: 'assistant', seq: 6, content: 'Here I am.' });
  await until(page, () => document.querySelectorAll('[data-state=answered]').length === 3);
  assert.deepEqual(await labels(), ['answered', 'maybe lost', 'answered', 'answered', '', '']);
});

story('a message that waits for Claude Code says so, and goes on', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: [] });
  await kept.show(page);
  await say(page, 'Are you there?');
  await until(page, () => document.querySelector('[data-state=waiting]'));
  const { id } = kept.asked.find(({ type }) => type === 'message');
  const receipt = (state) => kept.send({ type: 'delivery', session_id: 'default', id, message_id: '00000000-0000-7000-8000-000000000001', seq: 1, state });
  receipt('queued');
  await page.locator('[data-state=queued]', { hasText: 'waits for Claude Code' }).waitFor();
  // It is the server's: no later page sends it again.
  assert.equal(await page.evaluate(() => sessionStorage.getItem('claude-socket.outbox.default')), null);
  receipt('accepted');
  await page.locator('[data-state=accepted]').waitFor();
});

const VERDICT = { request_id: 'abcde', tool_name: 'Bash', description: 'open the <b>window</b>', allowed: true, by: 'ann' };

story('verdicts are shown after a reload, where they belong', async ({ open }) => {
  const page = await open();
  // The clock of ann's device is wrong. Nobody knows on which side of her message the verdict was.
  const messages = talk(150, (seq) => (seq === 147 ? { ts: '1990-01-01T00:00:00Z' } : {}));
  const later = (seq) => new Date(Date.parse(at(seq)) + 30_000).toISOString();
  const verdicts = [
    { ...VERDICT, request_id: 'aaaaa', ts: later(20), description: 'long ago' },
    { ...VERDICT, ts: later(146) },
    { ...VERDICT, request_id: 'abcdf', allowed: false, by: 'terminal', description: 'close it', ts: later(150) },
  ];
  const kept = new Kept({ default: messages }, { verdicts });
  await kept.show(page);
  await page.getByText('ann allowed Bash').waitFor();
  assert.deepEqual((await lines(page)).slice(-6), [
    'question 147', 'ann allowed Bash: open the <b>window</b>.', 'answer 148of two lines', 'question 149', 'answer 150of two lines', 'Denied in the terminal: Bash: close it.',
  ]);
  assert.ok(!(await lines(page)).some((line) => line.includes('long ago')));
  await scrollTo(page, 0);
  await page.getByText('long ago').waitFor({ state: 'attached' });
  const shown = await lines(page);
  assert.deepEqual(shown.slice(19, 22), ['answer 20of two lines', 'ann allowed Bash: long ago.', 'question 21']);
  // Another connection tells them again.
  await kept.close();
  await page.locator('#app:not([data-connected])').waitFor();
  await connected(page);
  kept.say({ role: 'assistant', seq: 151, content: 'again' });
  await page.locator('.message', { hasText: 'again' }).waitFor();
  assert.equal((await lines(page)).filter((line) => line.includes('allowed')).length, 2);
});

story('verdicts are for operators', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(2) }, { verdicts: [{ ...VERDICT, ts: at(1) }], role: 'sender' });
  await kept.show(page);
  assert.ok(!kept.asked.some(({ type }) => type === 'fetch_verdicts'));
});

const search = (page) => page.getByRole('textbox', { name: 'Words to find' });
const results = (page) => page.locator('#search-results button');

story('the search is opened by keys, and finds words in all sessions', async ({ open }) => {
  const page = await open();
  const content = (seq) => (seq === 30 ? { content: 'The **Window** is <img src=x onerror=pwned=1> open, windows too.' } : {});
  const sessions = { default: talk(200, content), 'the shed': [{ seq: 7, ts: at(7), role: 'user', user: 'bob', content: 'Open the window!' }] };
  const kept = new Kept(sessions);
  await kept.show(page);
  // Where one writes, a slash is a slash.
  await page.locator('#message').focus();
  await page.keyboard.press('/');
  assert.equal(await page.locator('#message').inputValue(), '/');
  await page.keyboard.press('Control+k');
  await page.keyboard.press('Escape');
  await page.locator('#search-dialog').waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement.id), 'message');
  await page.locator('#scroll').focus();
  await page.keyboard.press('/');
  assert.equal(await search(page).inputValue(), '');
  await page.keyboard.insertText('window open');
  await page.getByText('2 messages found').waitFor();
  assert.deepEqual(await page.locator('#search-results h3').allInnerTexts(), ['This session', 'Session the shed']);
  assert.deepEqual(await page.locator('#search-results .who').allInnerTexts(), ['Claude', 'bob']);
  assert.deepEqual(await page.locator('#search-results mark').allInnerTexts(), ['Window', 'open', 'Open', 'window']);
  assert.equal(await page.locator('#search-results img').count(), 0);
  assert.equal(await page.locator('#search-results time').count(), 2);
  assert.equal(await page.evaluate(() => window.pwned), undefined);

  await search(page).fill('nothing like it');
  await page.getByText('Nothing found').waitFor();
  assert.equal(await results(page).count(), 0);
  await search(page).fill('');
  await until(page, () => document.getElementById('search-status').textContent === '');
});

story('a result leads to its place, and what is around it is loaded', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(1000) });
  await kept.show(page);
  await page.getByRole('button', { name: 'Search' }).click();
  await search(page).fill('question 301');
  await results(page).first().waitFor();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await isInView(page, 'question 301');
  assert.ok(await page.evaluate(() => document.activeElement.textContent.includes('question 301')));
  // What is between is loaded from whichever side one comes.
  const two = async () => (await page.locator('.loader').count()) === 2;
  assert.ok(await two());
  const shown = () => texts(page);
  assert.ok((await shown()).includes('question 277') && !(await shown()).includes('question 851'));
  const height = () => page.locator('#log .message').count();
  let before = await height();
  await page.locator('.loader').nth(1).evaluate((loader) => loader.scrollIntoView({ block: 'end' }));
  await until(page, (count) => document.querySelectorAll('#log .message').length > count, before);
  assert.deepEqual(asked(kept).at(-1).before, undefined, 'from above');
  before = await height();
  await page.locator('.loader').nth(1).evaluate((loader) => loader.scrollIntoView({ block: 'start' }));
  await until(page, (count) => document.querySelectorAll('#log .message').length > count, before);
  // All that lies between comes in its order, once.
  for (let turn = 0; turn < 20 && (await page.locator('.loader').count()) > 1; turn += 1) {
    before = await height();
    await page.locator('.loader').nth(1).evaluate((loader) => loader.querySelector('button').click());
    await until(page, (count) => document.querySelectorAll('#log .message').length > count || document.querySelectorAll('.loader').length < 2, before);
  }
  const all = (await shown()).map((text) => Number(/\d+/.exec(text)[0]));
  assert.deepEqual(all, Array.from({ length: all.length }, (_, index) => all[0] + index));
  assert.equal(all.at(-1), 1000);

  // One that is here already.
  await page.keyboard.press('Control+k');
  await search(page).fill('answer 1000');
  await results(page).filter({ hasText: 'answer 1000' }).click();
  await isInView(page, 'answer 1000');
});

story('a result of another session opens it there', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(4), 's 2&3': talk(400, (seq) => (seq === 99 ? { content: 'a needle' } : {})) });
  await kept.show(page);
  await page.keyboard.press('Control+k');
  await search(page).fill('needle');
  await results(page).click();
  await page.waitForURL((url) => url.searchParams.get('session') === 's 2&3');
  await isInView(page, 'a needle');
  assert.equal(new URL(page.url()).hash, '');
  assert.equal(await page.title(), 's 2&3 · claude-socket');
});

story('a message that is not kept any more is not gone to', async ({ open }) => {
  const page = await open();
  const kept = new Kept({ default: talk(200) });
  await kept.show(page);
  await page.keyboard.press('Control+k');
  await search(page).fill('question 5');
  await results(page).first().waitFor();
  kept.sessions.default.splice(0, 80);
  await results(page).last().click();
  await page.getByText('That message is not kept any more.').waitFor();
});

story('without a store, what is in memory is loaded and found', async ({ server, open }) => {
  const first = await open();
  await connected(first);
  await say(first, 'Where is the watering can?');
  await server.nextMessage();
  for (let number = 1; number <= 130; number += 1) await server.reply(`line ${number}`);
  await first.getByText('line 130').waitFor();
  const page = await open();
  await page.getByText('line 130').waitFor();
  assert.equal(await page.locator('#log .message').count(), 100);
  await page.keyboard.press('Control+k');
  await search(page).fill('watering can');
  await results(page).click();
  await isInView(page, 'Where is the watering can?');
  await page.getByText('The beginning of this session').waitFor();
  assert.deepEqual((await texts(page)).slice(0, 2), ['Where is the watering can?', 'line 1']);
  assert.equal(await page.locator('#log .message').count(), 131);
  await page.locator('[data-state=answered]').waitFor();
}, { flags: ['--history-messages', '300'], env: NO_STORE });

test('an excerpt shows the words that were found', () => {
  const shown = (text, query) => excerpt(text, query).map(({ text: piece, marked }) => (marked ? `[${piece}]` : piece)).join('');
  assert.equal(shown('Open the window.', 'WINDOW open'), '[Open] the [window].');
  assert.equal(shown('windows and window', 'window'), '[windows] and [window]');
  // Only the last word may be the beginning of one.
  assert.equal(shown('openly, the window opens', 'open win'), 'openly, the [window] opens');
  assert.equal(shown('Das Café\n\nist  zu', 'cafe'), 'Das [Café] ist zu');
  assert.equal(shown('nothing of it', 'else'), 'nothing of it');
  assert.equal(shown('', 'else'), '');
  const markdown = '# A title\n\nIt is **bold**, `code`\nand [a link](https://example.org/).\n\n- one\n- two\n\n| a | b |\n|---|---|\n| c | d |\n\n```sh\nmake all\n```';
  assert.equal(shown(plain(markdown), 'bold make'), 'A title It is [bold], code and a link. one two a b c d [make] all');
  assert.equal(shown('a.b', '...'), 'a.b');
  const long = shown(`${'before '.repeat(40)}needle ${'after '.repeat(60)}`, 'needle');
  assert.match(long, /^… (before )+\[needle\] (after )+after …$/);
  assert.ok(long.length < 200, long);
  const emoji = shown('😀'.repeat(200), 'x');
  assert.ok(emoji.isWellFormed?.() ?? true);
});
