// The web chat: permission prompts.

import assert from 'node:assert/strict';

import { connected, overALine, say, story, until } from './browser.js';

const card = (page, tool) => page.locator('.permission').filter({ hasText: tool });
const button = (page, name) => page.getByRole('button', { name, exact: true });
/** Waits until a button works. */
const armed = (page, name) => page.locator(`[aria-label="${name}"][aria-disabled=false]`).waitFor();
const gone = (page) => page.locator('#permissions').waitFor({ state: 'hidden' });
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);

story('prompts are allowed and denied', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  server.ask('abcde', 'Bash', 'make a file', { command: 'touch made &&\n  ls', timeout: 5000 });
  server.ask('abcdf', 'Write', 'write a file', { file_path: 'a.md', edits: [{ line: 1 }] });
  await card(page, 'Bash').waitFor();
  await card(page, 'Write').waitFor();
  assert.equal(await page.locator('#permissions-title').innerText(), 'Claude asks for 2 permissions');
  assert.deepEqual(await card(page, 'Bash').locator('.field').allInnerTexts(), ['command\ntouch made &&\n  ls', 'timeout\n5000']);
  assert.match(await card(page, 'Write').locator('.field').nth(1).innerText(), /edits\n\[\n {2}\{\n {4}"line": 1\n {2}\}\n\]/);
  assert.match(await page.locator('#alert').textContent(), /Claude asks for permission/);

  await button(page, 'Allow Bash').click();
  assert.equal(await server.verdict('abcde'), 'allow');
  await card(page, 'Bash').waitFor({ state: 'detached' });
  await page.getByText('You allowed Bash: make a file.').waitFor();
  await button(page, 'Deny Write').click();
  assert.equal(await server.verdict('abcdf'), 'deny');
  await page.getByText('You denied Write: write a file.').waitFor();
  await gone(page);
});

story('the first verdict counts, and closes the prompt everywhere', async ({ server, open }) => {
  const [ann, bob] = [await open('/?session=s1'), await open('/?session=s2')];
  for (const page of [ann, bob]) await connected(page);
  await ann.getByLabel('Your name').fill('ann');
  await say(ann, 'hello');
  await server.nextMessage();
  server.ask('abcde', 'Bash', 'make a file');
  await armed(bob, 'Allow Bash');
  await button(ann, 'Deny Bash').click();
  await gone(bob);
  await bob.getByText('ann denied Bash: make a file.').waitFor();
  assert.equal(await server.verdict('abcde'), 'deny');

  // A verdict in the terminal.
  server.ask('abcdf', 'Bash', 'make another file', { command: 'touch made' });
  await card(ann, 'make another file').waitFor();
  await server.call('activity', { event: 'PostToolUse', prompt_id: 'p', tool_use_id: 't', tool_name: 'Bash', tool_input: '{"command":"touch made"}' });
  for (const page of [ann, bob]) {
    await gone(page);
    await page.getByText('Allowed in the terminal: Bash: make another file.').waitFor();
  }
});

story('a click or key that was meant for something else is no verdict', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  await say(page, 'hello');
  await server.nextMessage();
  await page.locator('[data-state=accepted]').waitFor();
  const textbox = page.getByRole('textbox', { name: 'Message to Claude' });
  await textbox.pressSequentially('I am wri');
  const before = await textbox.boundingBox();
  // A click where a button has just appeared decides nothing.
  await page.evaluate(() => {
    window.clicked = 0;
    new MutationObserver(() => {
      for (const made of document.querySelectorAll('.permission button')) {
        window.clicked += 1;
        made.click();
      }
    }).observe(document.getElementById('cards'), { childList: true });
  });
  server.ask('abcde', 'Bash', 'make a file');
  await card(page, 'Bash').waitFor();
  assert.equal(await focused(page), 'message');
  assert.deepEqual(await textbox.boundingBox(), before, 'the text box stays where it is');
  await page.keyboard.press('Enter');
  assert.equal((await server.nextMessage()).content, 'I am wri');
  await armed(page, 'Allow Bash');
  assert.equal(await page.evaluate(() => window.clicked), 2);
  assert.equal(await focused(page), 'message');
  for (const key of ['Enter', 'Space', 'Enter']) await page.keyboard.press(key);

  // A new prompt disarms the present one, which keeps its place.
  const place = await button(page, 'Allow Bash').boundingBox();
  await button(page, 'Allow Bash').evaluate((allow) => {
    window.disarmed = 0;
    new MutationObserver(() => {
      if (allow.getAttribute('aria-disabled') !== 'true') return;
      window.disarmed += 1;
      allow.click();
    }).observe(allow, { attributes: true, attributeFilter: ['aria-disabled'] });
  });
  server.ask('abcdf', 'Write', 'write a file');
  await card(page, 'Write').waitFor();
  assert.deepEqual(await button(page, 'Allow Bash').boundingBox(), place);
  await until(page, () => window.disarmed > 0);
  await armed(page, 'Allow Bash');
  assert.equal(await page.locator('.permission').count(), 2);
  assert.deepEqual(server.notifications.rest, [], 'Claude Code has no verdict');
});

story('prompts are answered with the keyboard alone', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  server.ask('abcde', 'Bash', 'make a file');
  server.ask('abcdf', 'Write', 'write a file');
  await armed(page, 'Allow Write');
  await armed(page, 'Allow Bash');
  assert.equal(await focused(page), 'message');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(page), 'Allow');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(page), 'Deny');
  await page.keyboard.press('Enter');
  assert.equal(await server.verdict('abcde'), 'deny');
  await until(page, () => document.activeElement.id === 'permissions');
  await armed(page, 'Allow Write');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  assert.equal(await focused(page), 'Allow');
  await page.keyboard.press('Space');
  assert.equal(await server.verdict('abcdf'), 'allow');
  await until(page, () => document.activeElement.id === 'scroll');
  await gone(page);
});

story('an open prompt is shown to a later page, with invisible characters written out', async ({ server, open }) => {
  server.ask('abcde', 'Bash', 'make a\u202efile <b>x</b>', '{"command":"rm -rf /","command":"ls"}');
  server.ask('abcdf', 'Other', '', 'not \u200bJSON\nat all');
  const page = await open();
  await card(page, 'Bash').waitFor();
  assert.equal(await card(page, 'Bash').locator('.purpose').innerText(), 'make a⟨U+202E⟩file <b>x</b>');
  // A repeated field is shown twice.
  assert.equal(await card(page, 'Bash').locator('.input').innerText(), '{"command":"rm -rf /","command":"ls"}');
  assert.equal(await card(page, 'Other').locator('.input').innerText(), 'not ⟨U+200B⟩JSON\nat all');
});

story('a prompt that was decided meanwhile is closed after a reconnect', async ({ server, open }) => {
  const [page, other] = [await open(), await open('/?session=s2')];
  for (const one of [page, other]) await connected(one);
  const line = await overALine(page);
  server.ask('abcde', 'Bash', 'make a file');
  server.ask('abcdf', 'Write', 'write a file');
  await card(page, 'Bash').waitFor();
  await card(page, 'Write').waitFor();
  line.down = true;
  await line.close();
  await page.locator('.permission').getByText('Not connected').first().waitFor();
  assert.equal(await button(page, 'Allow Bash').getAttribute('aria-disabled'), 'true');
  await button(other, 'Allow Bash').click();
  assert.equal(await server.verdict('abcde'), 'allow');
  line.down = false;
  await page.getByText('user allowed Bash: make a file.').waitFor();
  await card(page, 'Bash').waitFor({ state: 'detached' });
  await button(page, 'Deny Write').click();
  assert.equal(await server.verdict('abcdf'), 'deny');
});

story('a click that brings the window to the front is no verdict', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  server.ask('abcde', 'Bash', 'make a file');
  await armed(page, 'Allow Bash');
  for (const wake of [() => dispatchEvent(new Event('focus')), () => document.dispatchEvent(new Event('visibilitychange'))]) {
    await page.evaluate(wake);
    await page.locator('[aria-label="Allow Bash"][aria-disabled=true]').dispatchEvent('click');
    await armed(page, 'Allow Bash');
  }
  await button(page, 'Deny Bash').click();
  assert.equal(await server.verdict('abcde'), 'deny');
});

story('no part of an input is hidden', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  server.ask('abcde', 'Bash', 'look around', { command: `ls${'\n'.repeat(50)}rm -r \u3164 build\u2800` });
  const shown = await card(page, 'Bash').locator('.field').innerText();
  assert.equal(shown, 'command\nls\n⟨49 empty lines⟩\nrm -r ⟨U+3164⟩ build⟨U+2800⟩');
  assert.ok(await page.getByText('There is more').isHidden());
  server.ask('abcdf', 'Write', 'write a file', { content: Array.from({ length: 40 }, (_, line) => `line ${line}`).join('\n') });
  await card(page, 'Write').getByText('There is more').waitFor();
  await card(page, 'Write').locator('.input').evaluate((box) => box.scrollTo(0, box.scrollHeight));
  await card(page, 'Write').getByText('There is more').waitFor({ state: 'hidden' });
});

story('an input is shown however deep it is, and the page goes on', async ({ server, open }) => {
  const page = await open();
  await connected(page);
  const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);
  const shown = (tool) => card(page, tool).locator('pre').allInnerTexts();
  for (const [tool, depth] of [['Deep', 5_000], ['Deeper', 15_000]]) {
    server.ask(tool.toLowerCase(), tool, 'nest', `{"command":"ls","nested":${nested(depth)}}`);
    await card(page, tool).waitFor();
    assert.ok((await shown(tool)).at(-1).includes(nested(depth)), tool);
    await armed(page, `Deny ${tool}`);
    await button(page, `Deny ${tool}`).click();
    assert.equal(await server.verdict(tool.toLowerCase()), 'deny');
    await gone(page);
  }
  server.ask('abcde', 'Flat', 'nest', { nested: [[[['a'], '[[[']]] });
  await card(page, 'Flat').waitFor();
  assert.match((await shown('Flat'))[0], /^\[\n {2}\[\n {4}\[/);
});
