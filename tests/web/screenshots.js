// Takes pictures of the page in every state, for people to look at:
//
//     node screenshots.js DIRECTORY
//
// and the one in README.md, `docs/chat.png`:
//
//     node screenshots.js ../../docs chat

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { close, connected, newPage, say } from './browser.js';
import { Kept, at, talk } from './kept.js';
import { Server } from './server.js';

const REPLY = `# What I found

The server is **one thread** with its state, and *dull* threads around it. See [the design](https://example.org/design).

1. It reads a line
2. It answers
   - with \`reply\`
   - or with an error

| what | figure | note |
|---|---:|---|
| memory, idle | 2.4 MiB | well below what was asked for |
| start | 3 ms | |

> Nothing is lost, also when the network is.

\`\`\`rust
fn main() -> std::io::Result<()> {
    println!("a line that is long enough to have to scroll in itself on a narrow screen, and on a wide one, too");
    Ok(())
}
\`\`\`

That's all.`;

const [folder = 'screenshots', only] = process.argv.slice(2);
await mkdir(folder, { recursive: true });

// A conversation in a window as narrow as a column of text.
async function chat() {
  const server = await Server.start();
  const page = await newPage({ viewport: { width: 860, height: 776 } });
  await page.goto(`http://${server.host}/?session=greenhouse`);
  await connected(page);
  await say(page, 'It is 31 °C in here. Is the vent open?');
  await server.take(await server.nextMessage());
  await server.reply('The vent is **closed**. Its log says `closed at 14:02, wind above 12 m/s`. The wind is down to 4 m/s now. Shall I open it?', 'greenhouse');
  await page.getByText('Shall I open it?').waitFor();
  await say(page, 'Yes, half way, please.');
  await server.take(await server.nextMessage());
  await server.hook('PreToolUse', { tool_use_id: 't1', tool_name: 'Bash', tool_input: '{"description":"Open the vent half way"}' });
  server.ask('abcde', 'Bash', 'Open the vent half way', { command: 'vent --open 50%' });
  await page.locator('.permission .allow[aria-disabled=false]').waitFor();
  await page.screenshot({ path: join(folder, 'chat.png'), animations: 'disabled' });
  await page.context().close();
  await server.kill();
}

await chat();
if (only === 'chat') {
  await close();
  process.exit();
}

const desktop = { viewport: { width: 1100, height: 800 } };
const phone = { viewport: { width: 390, height: 760 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };
const small = { viewport: { width: 320, height: 568 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 };

for (const [name, settings] of Object.entries({
  light: desktop,
  dark: { ...desktop, colorScheme: 'dark' },
  phone,
  'phone-dark': { ...phone, colorScheme: 'dark' },
  small,
})) {
  const server = await Server.start();
  const page = await newPage(settings);
  const shot = (state) => page.screenshot({ path: join(folder, `${name}-${state}.png`) });
  await page.goto(`http://${server.host}/?session=greenhouse`);
  await connected(page);
  await page.locator('#welcome').waitFor();
  await shot('1-empty');

  const bob = await newPage();
  await bob.goto(`http://${server.host}/?session=greenhouse`);
  await connected(bob);
  await bob.getByLabel('Your name').fill('bob');
  await say(bob, 'Is the door of the greenhouse closed?');
  await server.nextMessage();
  await page.getByText('greenhouse closed').waitFor();
  await say(page, 'And what did you find out about the server?\nWe would like to know.');
  if (settings.isMobile) await page.getByRole('button', { name: 'Send' }).click();
  await server.nextMessage();
  await server.status('thinking', undefined, 'greenhouse');
  await page.getByText('Claude is thinking').waitFor();
  await page.locator('[data-state=accepted]').waitFor();
  await shot('2-thinking');

  await server.reply(REPLY, 'greenhouse');
  await server.status('tool_use', 'Bash: look at the door', 'greenhouse');
  await page.getByText("That's all.").waitFor();
  await shot('3-reply');
  await page.getByText("That's all.").scrollIntoViewIfNeeded();
  await shot('3-reply-end');

  server.ask('abcde', 'Bash', 'Look at the door', { command: 'camera --door greenhouse | tee door.png', timeout: 5000 });
  await page.locator('.permission').waitFor();
  await page.locator('.permission .allow[aria-disabled=false]').first().waitFor();
  await shot('4-permission');
  server.ask('abcdf', 'Write', 'Write down what was seen', { file_path: '/tmp/seen.md', content: '# Seen\n\nThe door is closed.\n' });
  await page.locator('.permission').nth(1).waitFor();
  await page.locator('.permission .allow[aria-disabled=false]').first().waitFor();
  await shot('5-permissions');
  await page.getByRole('button', { name: 'Allow Bash' }).click();
  await page.getByText('You allowed').waitFor();
  await server.verdict('abcde');

  await page.getByRole('button', { name: /Session/ }).click();
  await shot('6-session');
  await page.getByRole('button', { name: 'Cancel' }).click();

  await server.kill();
  await page.getByText('The connection is lost').waitFor();
  await say(page, 'Are you still there?');
  if (settings.isMobile) await page.getByRole('button', { name: 'Send' }).click();
  await shot('7-offline');
  await page.context().close();
  await bob.context().close();

  const locked = await newPage(settings);
  // The client asks so why the socket was refused.
  const refusal = { status: 401, json: { code: 'unauthorized', message: 'a token is needed' } };
  const isQuestion = (route) => route.request().headers().accept === 'application/json';
  await locked.route('**/*', (route) => (isQuestion(route) ? route.fulfill(refusal) : route.fallback()));
  const other = await Server.start();
  await locked.routeWebSocket(/.*/, (socket) => socket.close());
  await locked.goto(`http://${other.host}/`);
  await locked.locator('#token-form').waitFor();
  await locked.screenshot({ path: join(folder, `${name}-8-token.png`) });
  await locked.context().close();
  await other.kill();

  const old = await newPage(settings);
  const library = await Server.start();
  await old.goto(`http://${library.host}/`);
  const answers = { 130: 'The log says `closed at 14:02`, and the **window** was open until then. Shall I open the window again?' };
  const states = { 143: 'lost', 145: 'seen', 147: 'accepted', 149: 'queued' };
  const change = (seq) => ({ ...(answers[seq] && { content: answers[seq] }), ...(states[seq] && { state: states[seq] }) });
  const verdicts = [{ request_id: 'abcde', tool_name: 'Bash', description: 'Open the vent', allowed: true, by: 'ann', ts: at(146) }];
  const kept = new Kept({ default: talk(149, change), 'the shed': talk(9, (seq) => (seq === 4 ? { content: 'The window of the shed is open, too.' } : {})) }, { verdicts });
  await old.evaluate(() => localStorage.setItem('claude-socket.name', 'ann'));
  await kept.show(old);
  await old.getByText('ann allowed').waitFor();
  const oldShot = (state) => old.screenshot({ path: join(folder, `${name}-${state}.png`) });
  await oldShot('a-history');
  await old.getByRole('button', { name: 'Search' }).click();
  await old.getByRole('textbox', { name: 'Words to find' }).fill('window open');
  await old.locator('#search-results button').nth(1).waitFor();
  await oldShot('b-search');
  await old.locator('#search-results button').first().click();
  await old.locator('.message:focus').waitFor();
  await oldShot('c-found');
  kept.gate = new Promise(() => {});
  await old.locator('#scroll').evaluate((scroll) => (scroll.scrollTop = 0));
  await old.getByText('Loading').waitFor();
  await oldShot('d-loading');
  await old.context().close();
  await library.kill();

  const disk = await newPage(settings);
  await disk.goto(`${new URL('../../examples/basic/index.html', import.meta.url)}?port=1`);
  await disk.locator('#from-disk-help').waitFor();
  await disk.screenshot({ path: join(folder, `${name}-9-disk.png`) });
  await disk.context().close();
}
await close();
