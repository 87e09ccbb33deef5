#!/usr/bin/env node
// A chat bot. Each room is a session of its own, and Claude's permission prompts go to one
// person, the owner, in private. The platform is IRC. For another one, replace the class Irc.
// README.md beside this file says how to start it.

import net from 'node:net';
import tls from 'node:tls';

// Outside of this repository, install the package in ../client, and import 'claude-socket'.
import { ClaudeSocket } from '../client/claude-socket.js';

const HELP = 'Say my name, a colon and what you want to know, and Claude answers everyone here. ' +
  '!status: what Claude does. !who: who has asked here.';
const OWNER_HELP = 'allow ID or deny ID: answer a permission prompt. !prompts: those that wait. ' +
  'Everything else goes to Claude.';
/** Most characters of a prompt's input that are sent over chat. */
const MAX_PROMPT = 1200;
/** Most lines of one answer. More would flood the room. */
const MAX_LINES = 30;

// The platform.

/** Longest line of IRC in bytes, with its CR and LF (RFC 2812, section 2.3). */
const IRC_LINE = 512;
/** Lines that are sent at once, and the milliseconds before each further one. Servers kick clients that send faster. */
const BURST = 5;
const PACE = Number(process.env.BOT_PACE || 1000);
/** Most lines that wait to be sent. */
const MAX_WAITING = 200;

/**
 * A connection to an IRC server. A platform must have `connect`, `say` and `tellOwner`, call `onConnected`
 * after connecting and `onMessage` with every message, and decide who the owner is.
 */
class Irc {
  #waiting = [];
  #tokens = BURST;
  /** The prefix that the server puts in front of our lines. Assumed to be long until it is known. */
  #prefix = 'x'.repeat(120);
  #questions = [];
  #registered = false;
  #failures = 0;

  constructor({ server, nick, rooms, owner, password }, onMessage, onConnected) {
    Object.assign(this, { url: new URL(server), nick, rooms, password, onMessage, onConnected });
    this.ownerNick = owner.split('!')[0];
    // A nick alone proves nothing: anybody can take it. The server vouches for user and host.
    if (!/^[^!@\s*]+!\S+@\S+$/.test(owner)) throw new Error(`BOT_OWNER is "${owner}"; give nick!user@host, where * stands for any text in user and host`);
    this.owner = new RegExp(`^${owner.split('*').map((text) => text.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('[^!@]*')}$`, 'i');
  }

  connect() {
    const { hostname, port, protocol } = this.url;
    const secure = protocol === 'ircs:';
    const options = { host: hostname, port: port || (secure ? 6697 : 6667), servername: hostname };
    this.socket = secure ? tls.connect(options) : net.connect(options);
    this.socket.setEncoding('utf8');
    let rest = '';
    this.socket.on('data', (data) => {
      const lines = (rest + data).split(/\r?\n/);
      rest = lines.pop();
      if (rest.length > 8 * IRC_LINE) return this.socket.destroy();
      for (const line of lines) this.#line(line);
    });
    this.socket.on('error', (error) => console.error(`irc: ${error.message}`));
    this.socket.on('close', () => {
      clearInterval(this.pacing);
      this.#registered = false;
      this.#failures += 1;
      for (const answer of this.#questions.splice(0)) answer('');
      setTimeout(() => this.connect(), Math.min(60_000, 1000 * 2 ** this.#failures));
    });
    this.pacing = setInterval(() => this.#pace(), PACE);
    if (this.password) this.#write(`PASS ${this.password}`, true);
    this.#write(`NICK ${this.nick}`, true);
    this.#write(`USER ${this.nick} 0 * :claude-socket`, true);
  }

  /** Sends a text to a room, in several lines if need be. */
  say(room, text) {
    const room_for_text = IRC_LINE - 2 - Buffer.byteLength(`:${this.#prefix} PRIVMSG ${room} :`);
    const lines = text.split(/[\r\n]+/).filter((line) => line.trim()).flatMap((line) => pieces(line, room_for_text));
    const cut = lines.length > MAX_LINES ? [...lines.slice(0, MAX_LINES), `(${lines.length - MAX_LINES} more lines)`] : lines;
    for (const line of cut) this.#write(`PRIVMSG ${room} :${line}`);
  }

  /** Sends a text to the owner, unless somebody else has the owner's nick. Returns `true` if it was sent. */
  async tellOwner(text) {
    if (!this.#registered) return false;
    const known = await new Promise((answer) => {
      this.#questions.push(answer);
      this.#write(`USERHOST ${this.ownerNick}`);
    });
    // nick*=+user@host, where * marks an operator of the network.
    const [, nick, mask] = /^([^=*\s]+)\*?=[+-](\S+)/.exec(known) ?? [];
    const isThere = this.owner.test(`${nick}!${mask}`);
    if (isThere) this.say(nick, text);
    return isThere;
  }

  #line(line) {
    const [, prefix = '', command, rest = ''] = /^(?:@\S+ )?(?::(\S+) )?(\S+)(?: (.*))?$/.exec(line) ?? [];
    const [head, ...tail] = ` ${rest}`.split(' :');
    const params = head.split(' ').filter(Boolean);
    if (tail.length) params.push(tail.join(' :'));
    const nick = prefix.split('!')[0];
    switch (command) {
      case 'PING':
        return this.#write(`PONG :${params[0]}`, true);
      case '001':
        this.nick = params[0];
        this.#failures = 0;
        this.#registered = true;
        for (const room of this.rooms) this.#write(`JOIN ${room}`, true);
        return this.onConnected();
      case '302':
        return this.#questions.shift()?.(params[1] ?? '');
      case '433':
        this.nick += '_';
        return this.#write(`NICK ${this.nick}`, true);
      case 'JOIN':
        if (nick === this.nick) this.#prefix = prefix;
        return;
      // A NOTICE must not be answered, so that bots don't talk to each other for ever (RFC 2812, section 3.3.2).
      case 'PRIVMSG': {
        const [target, text = ''] = params;
        const room = this.rooms.find((room) => room.toLowerCase() === target.toLowerCase());
        if (text.startsWith('\x01') || (!room && target !== this.nick)) return;
        return this.onMessage({ room, user: nick, text: text.trim(), isOwner: this.owner.test(prefix) });
      }
    }
  }

  /** Writes exactly one line. Nothing else writes to the socket. */
  #write(line, atOnce = false) {
    // eslint-disable-next-line no-control-regex
    const clean = line.replace(/[\x00-\x1f\x7f]/g, ' ');
    if (atOnce) return this.socket.write(`${clean}\r\n`);
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(clean);
    this.#flush();
  }

  #pace() {
    this.#tokens = Math.min(BURST, this.#tokens + 1);
    this.#flush();
  }

  #flush() {
    while (this.#registered && this.#tokens > 0 && this.#waiting.length > 0) {
      this.#tokens -= 1;
      this.socket.write(`${this.#waiting.shift()}\r\n`);
    }
  }
}

/** Splits a line into pieces of at most `most` bytes, between words if possible. */
function pieces(line, most) {
  const found = [];
  let piece = '';
  for (const word of line.split(/(?<= )/)) {
    if (Buffer.byteLength(piece + word) <= most) {
      piece += word;
      continue;
    }
    if (piece) found.push(piece);
    piece = '';
    for (const character of word) {
      if (Buffer.byteLength(piece + character) > most) {
        found.push(piece);
        piece = '';
      }
      piece += character;
    }
  }
  return piece ? [...found, piece] : found;
}

// The bot.

const { env } = process;
const url = env.BOT_SERVER || 'ws://127.0.0.1:3100';
const rooms = new Map();
/** The open permission requests, by id. */
const prompts = new Map();

const platform = new Irc(
  {
    server: env.BOT_IRC || 'irc://127.0.0.1',
    nick: env.BOT_NICK || 'claude',
    rooms: (env.BOT_ROOMS || '#claude').split(','),
    owner: env.BOT_OWNER ?? '',
    password: env.BOT_IRC_PASSWORD,
  },
  onMessage,
  () => prompts.forEach(show),
);

/** Connects to a session, and passes its replies to `say`. */
function session(name, token, say) {
  const socket = new ClaudeSocket(url, { session: `irc-${name}`, token: token || undefined });
  const room = { socket, asked: new Set(), status: { status: 'idle' } };
  socket.on('reply', ({ content }) => say(content));
  socket.on('status', (status) => (room.status = status));
  socket.on('error', ({ message }) => say(`The server says: ${message}`));
  socket.on('disconnected', ({ reason, retryIn }) => {
    const next = retryIn === null ? '; start the bot again when that is mended' : '';
    console.error(`${name}: no connection to ${url}: ${reason || 'it is lost'}${next}`);
  });
  socket.connect();
  return room;
}

// The rooms' token is a sender's: it can approve nothing.
for (const name of platform.rooms) rooms.set(name, session(name, env.BOT_TOKEN, (text) => platform.say(name, text)));
// Without a token of the owner, prompts stay in the terminal.
const owner = env.BOT_OWNER_TOKEN || !env.BOT_TOKEN ? session('owner', env.BOT_OWNER_TOKEN, (text) => platform.tellOwner(text)) : null;
owner?.socket.on('permission_request', (request) => {
  if (prompts.has(request.request_id)) return;
  prompts.set(request.request_id, request);
  show(request);
});
owner?.socket.on('permission_resolved', ({ request_id, allowed, by }) => {
  if (prompts.delete(request_id)) platform.tellOwner(`${request_id} is ${allowed ? 'allowed' : 'denied'} (${by}).`);
});
platform.connect();

/** Sends a prompt to the owner. A long input is cut, and says so. */
async function show({ request_id, tool_name, description, input_preview }) {
  const rest = input_preview.length - MAX_PROMPT;
  const input = rest > 0 ? `${input_preview.slice(0, MAX_PROMPT)} (and ${rest} characters more: look at them in the terminal)` : input_preview;
  const told = await platform.tellOwner(`Claude wants to use ${tool_name}: ${description}\n${input}\nallow ${request_id} or deny ${request_id}?`);
  if (!told) console.error(`the owner is not there; ${request_id} waits`);
}

/** Handles a message in a room, or a private one without `room`. */
function onMessage({ room, user, text, isOwner }) {
  if (room) inRoom(room, rooms.get(room), user, text);
  // Private messages of others are dropped: nobody would see who fills the sessions.
  else if (isOwner && owner) inPrivate(user, text);
}

async function inRoom(name, room, user, text) {
  const say = (text) => platform.say(name, text);
  switch (text.split(' ')[0]) {
    case '!help':
      return say(HELP);
    case '!status':
      return say(describe(room));
    case '!who': {
      const asked = room.asked.size ? `${[...room.asked].join(', ')} asked here.` : 'Nobody has asked here yet.';
      const { sessions } = room.socket.connected ? await room.socket.fetchSessions().catch(() => ({ sessions: [] })) : { sessions: [] };
      const others = (sessions.find(({ session_id }) => session_id === room.socket.session)?.clients ?? 1) - 1;
      return say(others > 0 ? `${asked} ${others} more read along elsewhere.` : asked);
    }
  }
  const [, to, question] = /^([^\s:,]+)[:,]\s+(.+)$/.exec(text) ?? [];
  if (to?.toLowerCase() !== platform.nick.toLowerCase()) return;
  room.asked.add(user);
  // The server only knows the bot's name, so the text names the author.
  room.socket.send(`<${user}> ${question}`);
}

function inPrivate(user, text) {
  const [, verdict, id] = /^(allow|deny) ([a-z]+)$/i.exec(text) ?? [];
  if (verdict && !prompts.has(id)) return platform.say(user, `${id} does not wait for an answer.`);
  if (verdict) return owner.socket.respondToPermission(id, verdict.toLowerCase() === 'allow');
  switch (text.split(' ')[0]) {
    case '!help':
      return platform.say(user, OWNER_HELP);
    case '!status':
      return platform.say(user, describe(owner));
    case '!prompts':
      if (prompts.size === 0) return platform.say(user, 'Nothing waits.');
      return prompts.forEach(show);
  }
  owner.socket.send(`<${user}> ${text}`);
}

function describe({ socket, status: { status, detail } }) {
  if (!socket.connected) return 'There is no connection to Claude; what you ask waits.';
  const labels = { thinking: 'Claude thinks', tool_use: 'Claude uses a tool', idle: 'Claude waits for you' };
  return `${labels[status]}${detail ? ` (${detail})` : ''}.`;
}
