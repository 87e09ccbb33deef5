// The web chat: permission prompts.

import assert from 'node:assert/strict';

import { connected, overALine, say, story, until } from './browser.js';

const card = (page, tool) => page.locator('.permission').filter({ hasText: tool });
const button = (page, name) => page.getByRole('button', { name, exact: true });
/** Waits until the buttons work. */
const armed = (page, name) => page.locator(`[aria-label="${name}"][aria-disabled=false]`).waitFor();
const gone = (page) => page.locator('#permissions').waitFor({ state: 'hidden' });
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);

story('prompts are allowed and denied', async ({ bridge, open }) => {
  const page = await open();
  await connected(page);
  bridge.ask('abcde', 'Bash', 'make a file', { command: 'touch made &&\n  ls', timeout: 5000 });
  bridge.ask('abcdf', 'Write', 'write a file', { file_path: 'a.md', edits: [{ line: 1 }] });
  await card(page, 'Bash').waitFor();
  await card(page, 'Write').waitFor();
  assert.equal(await page.locator('#permissions-title').innerText(), 'Claude asks for 2 permissions');
  assert.deepEqual(await card(page, 'Bash').locator('.field').allInnerTexts(), ['command\ntouch made &&\n  ls', 'timeout\n5000']);
  assert.match(await card(page, 'Write').locator('.field').nth(1).innerText(), /edits\n\[\n {2}\{\n {4}"line": 1\n {2}\}\n\]/);
  assert.match(await page.locator('#alert').textContent(), /Claude asks for permission/);

  await button(page, 'Allow Bash').click();
  assert.equal(await bridge.verdict('abcde'), 'allow');
  await card(page, 'Bash').waitFor({ state: 'detached' });
  await page.getByText('You allowed Bash: make a file.').waitFor();
  await button(page, 'Deny Write').click();
  assert.equal(await bridge.verdict('abcdf'), 'deny');
  await page.getByText('You denied Write: write a file.').waitFor();
  await gone(page);
});

story('the first verdict counts, and the prompt vanishes everywhere', async ({ bridge, open }) => {
  const [ann, bob] = [await open('/?session=s1'), await open('/?session=s2')];
  for (const page of [ann, bob]) await connected(page);
  await ann.getByLabel('Your name').fill('ann');
  await say(ann, 'hello');
  await bridge.heard();
  bridge.ask('abcde', 'Bash', 'make a file');
  await armed(bob, 'Allow Bash');
  await button(ann, 'Deny Bash').click();
  await gone(bob);
  await bob.getByText('ann denied Bash: make a file.').waitFor();
  assert.equal(await bridge.verdict('abcde'), 'deny');

  // At the terminal.
  bridge.ask('abcdf', 'Bash', 'make another file', { command: 'touch made' });
  await card(ann, 'make another file').waitFor();
  await bridge.call('activity', { event: 'PostToolUse', prompt_id: 'p', tool_use_id: 't', tool_name: 'Bash', tool_input: '{"command":"touch made"}' });
  for (const page of [ann, bob]) {
    await gone(page);
    await page.getByText('Allowed in the terminal: Bash: make another file.').waitFor();
  }
});

story('nothing that was meant for something else is a verdict', async ({ bridge, open }) => {
  const page = await open();
  await connected(page);
  await say(page, 'hello');
  await bridge.heard();
  await page.locator('[data-state=accepted]').waitFor();
  const words = page.getByRole('textbox', { name: 'Message to Claude' });
  await words.pressSequentially('I am wri');
  const before = await words.boundingBox();
  // A finger is on its way to where a button will be: here it is down at once.
  await page.evaluate(() => {
    window.clicked = 0;
    new MutationObserver(() => {
      for (const made of document.querySelectorAll('.permission button')) {
        window.clicked += 1;
        made.click();
      }
    }).observe(document.getElementById('cards'), { childList: true });
  });
  bridge.ask('abcde', 'Bash', 'make a file');
  await card(page, 'Bash').waitFor();
  assert.equal(await focused(page), 'message');
  assert.deepEqual(await words.boundingBox(), before, 'the text box stays where it is');
  await page.keyboard.press('Enter');
  assert.equal((await bridge.heard()).content, 'I am wri');
  await armed(page, 'Allow Bash');
  assert.equal(await page.evaluate(() => window.clicked), 2);
  assert.equal(await focused(page), 'message');
  for (const key of ['Enter', 'Space', 'Enter']) await page.keyboard.press(key);

  // One that comes disarms the one that is there, which stays where it is.
  const place = await button(page, 'Allow Bash').boundingBox();
  bridge.ask('abcdf', 'Write', 'write a file');
  await card(page, 'Write').waitFor();
  assert.deepEqual(await button(page, 'Allow Bash').boundingBox(), place);
  assert.equal(await button(page, 'Allow Bash').getAttribute('aria-disabled'), 'true');
  await page.mouse.click(place.x + 5, place.y + 5);
  await armed(page, 'Allow Bash');
  assert.equal(await page.locator('.permission').count(), 2);
  assert.deepEqual(bridge.said.rest, [], 'Claude Code has no verdict');
});

story('with the keyboard alone', async ({ bridge, open }) => {
  const page = await open();
  await connected(page);
  bridge.ask('abcde', 'Bash', 'make a file');
  bridge.ask('abcdf', 'Write', 'write a file');
  await armed(page, 'Allow Write');
  await armed(page, 'Allow Bash');
  assert.equal(await focused(page), 'message');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(page), 'Allow');
  await page.keyboard.press('Shift+Tab');
  assert.equal(await focused(page), 'Deny');
  await page.keyboard.press('Enter');
  assert.equal(await bridge.verdict('abcde'), 'deny');
  await until(page, () => document.activeElement.id === 'permissions');
  await armed(page, 'Allow Write');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  assert.equal(await focused(page), 'Allow');
  await page.keyboard.press('Space');
  assert.equal(await bridge.verdict('abcdf'), 'allow');
  await until(page, () => document.activeElement.id === 'scroll');
  await gone(page);
});

story('a prompt is shown to who comes later, and its text cannot pretend', async ({ bridge, open }) => {
  bridge.ask('abcde', 'Bash', 'make a\u202efile <b>x</b>', '{"command":"rm -rf /","command":"ls"}');
  bridge.ask('abcdf', 'Other', '', 'not \u200bJSON\nat all');
  const page = await open();
  await card(page, 'Bash').waitFor();
  assert.equal(await card(page, 'Bash').locator('.purpose').innerText(), 'make a⟨U+202E⟩file <b>x</b>');
  // A field that is there twice is shown twice.
  assert.equal(await card(page, 'Bash').locator('.input').innerText(), '{"command":"rm -rf /","command":"ls"}');
  assert.equal(await card(page, 'Other').locator('.input').innerText(), 'not ⟨U+200B⟩JSON\nat all');
});

story('what was decided while a page was away is gone when it is back', async ({ bridge, open }) => {
  const [page, other] = [await open(), await open('/?session=s2')];
  for (const one of [page, other]) await connected(one);
  const line = await overALine(page);
  bridge.ask('abcde', 'Bash', 'make a file');
  bridge.ask('abcdf', 'Write', 'write a file');
  await card(page, 'Bash').waitFor();
  await card(page, 'Write').waitFor();
  line.down = true;
  await line.close();
  await page.locator('.permission').getByText('Not connected').first().waitFor();
  assert.equal(await button(page, 'Allow Bash').getAttribute('aria-disabled'), 'true');
  await button(other, 'Allow Bash').click();
  assert.equal(await bridge.verdict('abcde'), 'allow');
  line.down = false;
  await page.getByText('Decided elsewhere: Bash: make a file.').waitFor();
  await card(page, 'Bash').waitFor({ state: 'detached' });
  await button(page, 'Deny Write').click();
  assert.equal(await bridge.verdict('abcdf'), 'deny');
});

story('a click that brings the window to the front is no verdict', async ({ bridge, open }) => {
  const page = await open();
  await connected(page);
  bridge.ask('abcde', 'Bash', 'make a file');
  await armed(page, 'Allow Bash');
  for (const wake of [() => dispatchEvent(new Event('focus')), () => document.dispatchEvent(new Event('visibilitychange'))]) {
    await page.evaluate(wake);
    await page.locator('[aria-label="Allow Bash"][aria-disabled=true]').dispatchEvent('click');
    await armed(page, 'Allow Bash');
  }
  await button(page, 'Deny Bash').click();
  assert.equal(await bridge.verdict('abcde'), 'deny');
});

story('no part of an input hides', async ({ bridge, open }) => {
  const page = await open();
  await connected(page);
  bridge.ask('abcde', 'Bash', 'look around', { command: `ls${'\n'.repeat(50)}rm -r \u3164 build\u2800` });
  const shown = await card(page, 'Bash').locator('.field').innerText();
  assert.equal(shown, 'command\nls\n⟨49 empty lines⟩\nrm -r ⟨U+3164⟩ build⟨U+2800⟩');
  assert.ok(await page.getByText('There is more').isHidden());
  bridge.ask('abcdf', 'Write', 'write a file', { content: Array.from({ length: 40 }, (_, line) => `line ${line}`).join('\n') });
  await card(page, 'Write').getByText('There is more').waitFor();
  await card(page, 'Write').locator('.input').evaluate((box) => box.scrollTo(0, box.scrollHeight));
  await card(page, 'Write').getByText('There is more').waitFor({ state: 'hidden' });
});
