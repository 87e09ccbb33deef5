// The chat bot, between the real server and a real IRC server.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, createConnection } from 'node:net';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';

import { Server, Inbox, run, soon } from './server.js';

const BOT = fileURLToPath(new URL('../../examples/bot.mjs', import.meta.url));

/** Returns a free port. Another process could take it meanwhile, which is unlikely. */
async function freePort() {
  for (let port = 24_000 + (process.pid % 4_000); ; port += 1) {
    const server = createServer();
    const free = await new Promise((resolve) => server.on('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true)));
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Starts a process that ends with the test. */
function start(t, command, args, options) {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options });
  const log = new Inbox();
  createInterface(child.stderr).on('line', (line) => log.push(line));
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return { child, log };
}

/** A person on IRC. */
class Person {
  received = new Inbox();
  lines = [];

  static async connect(t, port, nick, user = nick) {
    const person = new Person();
    person.nick = nick;
    person.socket = createConnection(port, '127.0.0.1');
    t.after(() => person.socket.destroy());
    createInterface(person.socket).on('line', (line) => {
      if (line.startsWith('PING')) return person.send(line.replace('PING', 'PONG'));
      person.lines.push(line);
      person.received.push(line);
    });
    person.send(`NICK ${nick}`, `USER ${user} 0 * :${user}`);
    await person.gets(' 001 ');
    return person;
  }

  send(...lines) {
    for (const line of lines) this.socket.write(`${line}\r\n`);
  }

  async join(room) {
    this.send(`JOIN ${room}`);
    await this.gets(' 366 ');
  }

  /** Waits until the bot is in the room, too. */
  async sees(room) {
    for (;;) {
      this.send(`NAMES ${room}`);
      const names = await this.gets(' 353 ');
      await this.gets(' 366 ');
      if (/[: @+]claude\b/.test(names)) return;
    }
  }

  say(target, text) {
    this.send(`PRIVMSG ${target} :${text}`);
  }

  gets(part) {
    return this.received.next((line) => line.includes(part), `«${part}» for ${this.nick}`);
  }

  /** Waits for the bot's next message to this target that has this part. */
  async told(target, part) {
    const text = (line) => line.split(` PRIVMSG ${target} :`)[1] ?? '';
    const fits = (text) => (part instanceof RegExp ? part.test(text) : text.includes(part));
    const wanted = (line) => line.startsWith(':claude!') && fits(text(line));
    return text(await this.received.next(wanted, `«${part}» to ${target}`));
  }
}

async function chat(t) {
  const folder = await mkdtemp(join(tmpdir(), 'claude-socket-bot-'));
  t.after(() => rm(folder, { recursive: true }));
  const add = (name, ...rest) => run('token', 'add', name, ...rest, '--state-dir', folder);
  const tokens = { BOT_TOKEN: add('bot', '--role', 'sender', '--session', 'irc-*'), BOT_OWNER_TOKEN: add('ann', '--role', 'operator') };
  const server = await Server.start({ flags: ['--state-dir', folder] });
  t.after(() => server.kill());

  const port = await freePort();
  const config = join(folder, 'ngircd.conf');
  await writeFile(config, `
[Global]
Name = irc.example.org
Info = a test
Listen = 127.0.0.1
Ports = ${port}
ServerUID = nobody
ServerGID = nogroup
[Limits]
MaxConnectionsIP = 0
MaxJoins = 0
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
`);
  start(t, 'ngircd', ['--nodaemon', '--config', config], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }, stdio: ['ignore', 'ignore', 'pipe'] });
  await soon((async () => {
    for (;;) {
      const socket = createConnection(port, '127.0.0.1');
      if (await new Promise((resolve) => socket.on('connect', () => resolve(true)).on('error', () => resolve(false)))) return socket.destroy();
    }
  })(), 'the IRC server');

  // Node 20 has a WebSocket only with a flag.
  const flags = globalThis.WebSocket ? [] : ['--experimental-websocket'];
  const env = { ...process.env, ...tokens, BOT_SERVER: server.url, BOT_IRC: `irc://127.0.0.1:${port}`, BOT_PACE: '10', BOT_ROOMS: '#greenhouse,#kitchen', BOT_OWNER: 'ann!~ann@127.0.0.*' };
  const { log } = start(t, process.execPath, [...flags, BOT], { env });
  return { server, port, log };
}

test('each room is a session, and prompts go to the owner alone', async (t) => {
  const { server, port, log } = await chat(t);
  const ann = await Person.connect(t, port, 'ann');
  const eve = await Person.connect(t, port, 'eve');
  for (const person of [ann, eve]) await person.join('#greenhouse');
  await eve.join('#kitchen');
  await eve.sees('#greenhouse');
  await eve.sees('#kitchen');

  // Each room is a session. A message that doesn't call the bot stays in the room.
  eve.say('#greenhouse', 'just chatting');
  eve.say('#greenhouse', 'claude: how warm is it?');
  const { content, meta } = await server.nextMessage();
  assert.deepEqual([content, meta.chat_id, meta.user], ['<eve> how warm is it?', 'irc-#greenhouse', 'bot']);
  eve.say('#kitchen', 'Claude, is the oven off?');
  assert.equal((await server.nextMessage()).meta.chat_id, 'irc-#kitchen');
  await server.reply('It is off.', 'irc-#kitchen');
  assert.equal(await eve.told('#kitchen', 'off'), 'It is off.');

  // A long answer is split into lines, without loss, and none of them is a command.
  const long = `${'é'.repeat(500)} ${'word '.repeat(60)}`.trim();
  await server.reply(`${long}\r\nQUIT :bye\n\nJOIN #elsewhere\0NICK x\x01`, 'irc-#greenhouse');
  await ann.told('#greenhouse', 'JOIN #elsewhere NICK x');
  const sent = ann.lines.filter((line) => line.startsWith(':claude!') && line.includes('PRIVMSG #greenhouse :'));
  for (const line of sent) assert.ok(Buffer.byteLength(line) <= 510, line);
  const texts = sent.map((line) => line.split(' PRIVMSG #greenhouse :')[1]);
  assert.equal(texts.slice(0, -2).join('').replaceAll(' ', ''), long.replaceAll(' ', ''));
  assert.equal(texts.at(-2), 'QUIT :bye');

  // Commands.
  eve.say('#greenhouse', '!help');
  await eve.told('#greenhouse', '!status');
  await server.status('tool_use', 'Bash: open the roof', 'irc-#greenhouse');
  // The status may reach the bot after the first question.
  let doing;
  do {
    eve.say('#greenhouse', '!status');
    doing = await eve.told('#greenhouse', /^Claude (waits|uses)/);
  } while (doing === 'Claude waits for you.');
  assert.equal(doing, 'Claude uses a tool (Bash: open the roof).');
  eve.say('#greenhouse', '!who');
  assert.equal(await eve.told('#greenhouse', 'asked'), 'eve asked here.');

  // A prompt goes to the owner alone, and only the owner's verdict counts.
  server.ask('abcde', 'Bash', 'open the roof', { command: 'roof --open' });
  await ann.told('ann', 'Claude wants to use Bash: open the roof');
  assert.equal(await ann.told('ann', 'roof --open'), '{"command":"roof --open"}');
  await ann.told('ann', 'allow abcde or deny abcde?');
  eve.say('claude', 'allow abcde');
  eve.say('#greenhouse', 'allow abcde');
  ann.say('#greenhouse', 'allow abcde');
  eve.say('#greenhouse', 'claude: are you there?');
  assert.equal((await server.nextMessage()).content, '<eve> are you there?');
  ann.say('claude', 'deny abcde');
  assert.equal(await server.verdict('abcde'), 'deny');
  await ann.told('ann', 'abcde is denied (ann).');
  ann.say('claude', 'allow abcde');
  await ann.told('ann', 'abcde does not wait');
  ann.say('claude', 'what is open?');
  const own = await server.nextMessage();
  assert.deepEqual([own.content, own.meta.chat_id, own.meta.user], ['<ann> what is open?', 'irc-owner', 'ann']);

  // Somebody else who takes the owner's nick is not the owner.
  ann.send('QUIT');
  await eve.gets('127.0.0.1 QUIT :');
  eve.send('NICK ann');
  await eve.gets(' NICK :ann');
  server.ask('fghij', 'Bash', 'open the door', { command: 'door --open' });
  await log.next((line) => line.includes('fghij waits'), 'fghij waits');
  eve.say('claude', 'allow fghij');
  eve.say('#greenhouse', 'claude: still there?');
  assert.equal((await server.nextMessage()).content, '<ann> still there?');
  assert.ok(!eve.lines.some((line) => /fghij|roof --open|door/.test(line)), 'eve has seen nothing of it');
  eve.send('NICK eve');
  await eve.gets(' NICK :eve');
  const back = await Person.connect(t, port, 'ann');
  back.say('claude', '!prompts');
  await back.told('ann', 'door --open');
  back.say('claude', 'allow fghij');
  assert.equal(await server.verdict('fghij'), 'allow');
  assert.deepEqual(server.notifications.rest, []);
});
