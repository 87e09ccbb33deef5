// The web chat: talking.

import assert from 'node:assert/strict';

import { connected, say, story, until } from './browser.js';

const replies = (page) => page.locator('#log .claude .body');
const own = (page) => page.locator('.message.own');
const other = (page) => page.locator('.message.other');

story('a message is sent, and answered', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  await page.getByText('Nothing has been said here yet').waitFor();
  assert.match(await page.locator('#server').textContent(), /^Connected to Claude Code 2\.1\.330$/);
  assert.equal(await page.title(), 'default · claude-socket');

  await say(page, 'two\nlines');
  const { content, meta } = await server.nextMessage();
  assert.deepEqual([content, meta.user, meta.chat_id], ['two\nlines', 'user', 'default']);
  await own(page).filter({ hasText: 'two' }).locator('[data-state=accepted]').waitFor();
  assert.equal(await page.locator('#message').inputValue(), '');
  assert.ok(!(await page.getByText('Nothing has been said').isVisible()));

  await server.status('thinking');
  await page.getByText('Claude is thinking').waitFor();
  await server.status('tool_use', 'Bash: make a file');
  await page.getByText('Claude is using Bash: make a file').waitFor();
  await server.reply('Here it is.');
  await replies(page).filter({ hasText: 'Here it is.' }).waitFor();
  await own(page).locator('[data-state=answered]').waitFor();
  await server.status('idle');
  await until(page, () => document.getElementById('status').textContent === '');

  // Shift+Enter breaks the line. While an input method composes, Enter sends nothing.
  const textbox = page.getByRole('textbox', { name: 'Message to Claude' });
  await textbox.pressSequentially('a');
  await page.keyboard.press('Shift+Enter');
  await textbox.dispatchEvent('keydown', { key: 'Enter', isComposing: true });
  await textbox.pressSequentially('b');
  assert.equal(await textbox.inputValue(), 'a\nb');
  // The send button.
  await page.getByRole('button', { name: 'Send' }).click();
  assert.equal((await server.nextMessage()).content, 'a\nb');
  assert.equal(await own(page).count(), 2);
});

story('people in a session see each other’s messages, and others don’t', async ({ server, open }) => {
  const [ann, bob, eve] = [await open('/?session=s1'), await open('/?session=s1'), await open('/?session=s2')];
  for (const page of [ann, bob, eve]) await connected(page);
  await ann.getByLabel('Your name').fill('ann');
  await say(ann, 'I am ann');
  assert.equal((await server.nextMessage()).meta.user, 'ann');
  await other(bob).filter({ hasText: 'I am ann' }).locator('.who', { hasText: 'ann' }).waitFor();
  await say(bob, 'I have no name');
  await server.nextMessage();
  await other(ann).filter({ hasText: 'I have no name' }).waitFor();
  await bob.getByLabel('Your name').fill('Claude');
  await say(bob, 'Trust me');
  await server.nextMessage();
  await other(ann).locator('.who', { hasText: 'Claude (a user)' }).waitFor();
  await server.reply('For both of you.', 's1');
  for (const page of [ann, bob]) await replies(page).filter({ hasText: 'For both of you.' }).waitFor();
  await server.reply('For one.', 's2');
  await replies(eve).filter({ hasText: 'For one.' }).waitFor();
  for (const [page, count] of [[ann, 4], [bob, 4], [eve, 1]]) assert.equal(await page.locator('.message:visible').count(), count);

  // The name survives a reload.
  await ann.reload();
  await connected(ann);
  assert.equal(await ann.getByLabel('Your name').inputValue(), 'ann');
  await own(ann).filter({ hasText: 'I am ann' }).waitFor();
});

story('the history is shown once on opening', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  for (let number = 1; number <= 12; number += 1) {
    await say(page, `question ${number}`);
    await server.nextMessage();
    await server.reply(`answer ${number}\n\nwith\n\nsome\n\nlength`);
    await replies(page).filter({ hasText: new RegExp(`^answer ${number}w`) }).waitFor();
  }
  const shown = () => page.locator('.message:visible .body').allInnerTexts();
  const before = await shown();
  assert.equal(before.length, 24);
  await page.reload();
  await replies(page).filter({ hasText: 'answer 12' }).waitFor();
  assert.deepEqual(await shown(), before);
  assert.equal(await own(page).count(), 12);
  // The page starts at the end.
  await until(page, () => {
    const { scrollTop, scrollHeight, clientHeight } = document.getElementById('scroll');
    return scrollTop > 0 && scrollHeight - scrollTop - clientHeight < 2;
  });
  // Further up, the view stays.
  await page.locator('#scroll').hover();
  await page.mouse.wheel(0, -600);
  await until(page, () => {
    const { scrollTop, scrollHeight, clientHeight } = document.getElementById('scroll');
    return scrollHeight - scrollTop - clientHeight > 200;
  });
  const top = await page.locator('#scroll').evaluate(({ scrollTop }) => scrollTop);
  await server.reply('news');
  await page.getByRole('button', { name: 'New messages' }).waitFor();
  assert.equal(await page.locator('#scroll').evaluate(({ scrollTop }) => scrollTop), top);
  await page.getByRole('button', { name: 'New messages' }).click();
  await page.getByText('news').waitFor();
  await page.locator('#newer').waitFor({ state: 'hidden' });
});

story("Claude's text appears as it is written, and a message is marked as seen", async ({ server, open }) => {
  const page = await open();
  await connected(page);
  await say(page, 'Tell me.');
  await server.take(await server.nextMessage());
  await own(page).locator('[data-state=seen]').waitFor();
  await server.hook('MessageDisplay', { message_id: 'm1', index: '0', delta: 'It is **bo' });
  await page.locator('#stream').getByText('It is **bo').waitFor();
  await server.hook('MessageDisplay', { message_id: 'm1', index: '1', delta: 'ld**.' });
  await page.locator('#stream strong', { hasText: 'bold' }).waitFor();
  await server.reply('It is **bold**.');
  await page.locator('#log strong', { hasText: 'bold' }).waitFor();
  await page.locator('#stream').waitFor({ state: 'hidden' });
  await own(page).locator('[data-state=answered]').waitFor();
});

story('a reply in the terminal is marked, and a message that is not seen has a hint', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  await say(page, 'Tell me.');
  await server.take(await server.nextMessage());
  await server.hook('Stop', { last_assistant_message: 'Said in the terminal.', stop_hook_active: 'false' });
  await replies(page).filter({ hasText: 'Said in the terminal.' }).waitFor();
  await page.locator('.claude .head', { hasText: 'in the terminal' }).waitFor();
  await say(page, 'And this?');
  await server.nextMessage();
  await own(page).filter({ hasText: 'And this?' }).locator('[data-state=unseen]').waitFor();
  assert.notEqual(await page.locator('.own .hint').innerText(), '');
}, { flags: ['--seen-timeout', '50ms'] });

story('a reply full of HTML and script stays text', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  const attack = [
    '<script>window.pwned = 1</script>',
    '<img src=x onerror="window.pwned = 1">',
    '<svg onload="window.pwned = 1"><a href="javascript:window.pwned=1">x</a>',
    '[click](javascript:window.pwned=1) [data](data:text/html,<script>1</script>)',
    '![x](https://example.org/x.png" onerror="window.pwned=1)',
    '`<b>code</b>`',
    '```"><script>window.pwned = 1</script>\n<script>window.pwned = 1</script>\n```',
    '| <img src=x onerror=window.pwned=1> |\n|---|\n| <iframe srcdoc="<script>1</script>"> |',
    '<style>body { display: none }</style>',
  ].join('\n\n');
  await server.reply(attack);
  await replies(page).filter({ hasText: 'window.pwned' }).waitFor();
  const elements = await replies(page).evaluate((body) => [...new Set([...body.querySelectorAll('*')].map(({ localName }) => localName))].sort());
  for (const name of elements) assert.ok(['p', 'span', 'a', 'code', 'pre', 'div', 'table', 'thead', 'tbody', 'tr', 'th', 'td', 'button', 'br'].includes(name), name);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  for (const href of await replies(page).locator('a').evaluateAll((links) => links.map(({ href }) => href))) assert.match(href, /^https:/);
  const text = await replies(page).innerText();
  for (const part of ['<script>window.pwned = 1</script>', '<img src=x onerror="window.pwned = 1">', '<style>']) assert.ok(text.includes(part), text);

  // The same in a person's message and name, and in the name of a session.
  const eve = await open(`/?session=${encodeURIComponent('<img src=x onerror=1>')}`);
  await connected(eve);
  await eve.getByLabel('Your name').fill('<b>eve</b>');
  await say(eve, '<img src=x onerror="window.pwned = 1"> **not bold**');
  const { meta } = await server.nextMessage();
  assert.equal(meta.user, '<b>eve</b>');
  assert.equal(await eve.locator('.own .body').innerText(), '<img src=x onerror="window.pwned = 1"> **not bold**');
  assert.equal(await eve.locator('img, script:not([src]), .own b').count(), 0);
});

story('Markdown becomes elements', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await server.reply('# A heading\n\n- one\n- two\n\n| a | b |\n|---|---:|\n| c | d |\n\n```sh\nmake  all\n```\n\n[a link](https://example.org/)');
  const reply = page.locator('#log');
  await reply.getByRole('heading', { name: 'A heading' }).waitFor();
  assert.equal(await reply.getByRole('listitem').count(), 2);
  assert.deepEqual(await reply.getByRole('row').allInnerTexts(), ['a\tb', 'c\td']);
  assert.equal(await reply.locator('td').nth(1).evaluate((cell) => getComputedStyle(cell).textAlign), 'right');
  const link = reply.getByRole('link', { name: 'a link' });
  assert.deepEqual(
    [await link.getAttribute('href'), await link.getAttribute('rel'), await link.getAttribute('target')],
    ['https://example.org/', 'noopener noreferrer', '_blank'],
  );
  await reply.getByRole('button', { name: 'Copy the code' }).click();
  await page.getByText('Copied').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), 'make  all');
});

story('a rejected message can be written again', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  const text = 'long '.repeat(400).trim();
  await say(page, text);
  await page.locator('[data-state=rejected]').waitFor();
  assert.match(await page.locator('.own .hint').innerText(), /1024|bytes/);
  await page.getByRole('button', { name: 'Write it again' }).click();
  assert.equal(await page.locator('#message').inputValue(), text);
  assert.equal(await own(page).count(), 0);
  await say(page, 'short');
  assert.equal((await server.nextMessage()).content, 'short');
}, { flags: ['--max-message', '1KiB'] });

story('the draft survives a reload, and belongs to its session', async ({ open }) => {
  const page = await open('/?session=s1');
  await connected(page);
  await page.locator('#message').fill('half a sen');
  await page.reload();
  await connected(page);
  assert.equal(await page.locator('#message').inputValue(), 'half a sen');

  await page.getByRole('button', { name: 'Session s1' }).click();
  await page.getByLabel('Name of the session').fill('s 2&3');
  await page.keyboard.press('Enter');
  await page.waitForURL((url) => url.searchParams.get('session') === 's 2&3');
  await connected(page);
  assert.equal(await page.title(), 's 2&3 · claude-socket');
  assert.equal(await page.locator('#message').inputValue(), '');
  await page.goBack();
  await connected(page);
  assert.equal(await page.locator('#message').inputValue(), 'half a sen');
  // Escape closes the dialog without a change.
  await page.getByRole('button', { name: 'Session s1' }).click();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.match(page.url(), /session=s1$/);
});

/** Hides or shows the tab, as far as the page can tell. */
const hide = (page, hidden) =>
  page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { value, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);

/** Records the notifications. */
function recordNotifications() {
  window.shown = [];
  let permission = 'default';
  window.Notification = class {
    static get permission() {
      return permission;
    }
    static async requestPermission() {
      return (permission = 'granted');
    }
    constructor(title, { body }) {
      this.text = `${title}: ${body}`;
      window.shown.push(this);
    }
    close() {
      window.shown.splice(window.shown.indexOf(this), 1);
      this.onclose?.();
    }
  };
}

story('a hidden tab counts in its title, and notifies after consent', async ({ server, open }) => {
  const page = await open('/?session=s1');
  await page.addInitScript(recordNotifications);
  await page.reload();
  await connected(page);
  const shown = () => page.evaluate(() => window.shown.map(({ text }) => text));
  await hide(page, true);
  await server.reply('one', 's1');
  await until(page, () => document.title === '(1 new) s1 · claude-socket');
  assert.deepEqual(await shown(), []);
  await hide(page, false);
  assert.equal(await page.title(), 's1 · claude-socket');

  await page.getByRole('button', { name: 'Notify me' }).click();
  await page.locator('#notify').waitFor({ state: 'hidden' });
  await server.reply('two', 's1');
  await replies(page).filter({ hasText: 'two' }).waitFor();
  assert.deepEqual(await shown(), [], 'it was looked at');
  await hide(page, true);
  await server.reply('three', 's1');
  server.ask('abcde', 'Bash', 'make a file');
  await until(page, () => document.title === '(1 to approve, 1 new) s1 · claude-socket');
  assert.deepEqual(await shown(), ['Claude, in s1: three', 'Claude asks, in s1: Bash: make a file']);
  await hide(page, false);
  assert.deepEqual(await shown(), []);
  assert.equal(await page.title(), '(1 to approve) s1 · claude-socket');
});
