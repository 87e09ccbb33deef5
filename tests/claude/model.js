// A scripted model: the Messages API on a loopback port, as far as Claude Code uses it.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

/** A message of a client, as it stands in the conversation. */
const CHANNEL = /<channel ([^>]*)>\n([\s\S]*?)\n<\/channel>/g;
const ATTRIBUTE = /(\w+)="([^"]*)"/g;

/** The session of every test. */
export const SESSION = 's1';

/** What the model says when there is nothing to do. */
const DONE = { text: 'Done.' };

/**
 * The end of a conversation, after what the model has said last.
 * @typedef {object} Turn
 * @property {{chat_id: string, message_id: string, content: string}[]} messages the clients' messages in it
 * @property {string[]} results the results of the tools that the model has used
 */

export class Model {
  /** Every request for the next part of the conversation: the bodies, oldest first. */
  requests = [];
  #next;
  #server;

  /**
   * @param {(turn: Turn) => object} next returns what the model says: `{ text }`, or `{ tool, input }`
   *   to use one; nothing ends the turn
   */
  constructor(next) {
    this.#next = next;
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  /** Listens, and returns the address. */
  async start() {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  stop() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** The conversation, as the model was sent it last. */
  get conversation() {
    return this.requests.at(-1)?.messages ?? [];
  }

  /** Every text in the conversation that the model has not said itself. */
  get texts() {
    return heard(this.conversation);
  }

  /** The clients' messages in the conversation, oldest first. */
  get messages() {
    return channelMessages(this.conversation);
  }

  async #answer(request, response) {
    const body = JSON.parse((await text(request)) || '{}');
    if (request.method !== 'POST' || !/^\/v1\/messages(\?|$)/.test(request.url)) {
      return void response.setHeader('content-type', 'application/json').end('{"input_tokens":10}');
    }
    // Requests without tools are for other things, such as a title for the conversation.
    const isTurn = body.tools?.length > 0;
    if (isTurn) this.requests.push(body);
    const said = (isTurn && this.#next(lastTurn(body.messages))) || DONE;
    const message = assistantMessage(body, said);
    if (!body.stream) return void response.setHeader('content-type', 'application/json').end(JSON.stringify(message));
    response.setHeader('content-type', 'text/event-stream');
    for (const event of events(message)) response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    response.end();
  }
}

/**
 * The usual model: answers what is new with the reply tool. It tries again if the tool isn't there
 * yet: Claude Code takes messages a little earlier than it offers the tools.
 */
export function replyToAll({ messages, results }) {
  const isMissing = results.some((result) => result.includes('No such tool'));
  return (messages.length > 0 || isMissing) && reply('pong');
}

/** A use of the reply tool, in the session of every test. */
export function reply(text) {
  return { tool: 'reply', input: { chat_id: SESSION, text } };
}

/** Returns the texts of a message's content, in which a tool's result is one. */
function texts(content) {
  if (typeof content === 'string') return [content];
  return content.flatMap((block) => (block.type === 'tool_result' ? texts(block.content ?? []) : (block.text ?? [])));
}

function heard(messages) {
  return messages.flatMap(({ role, content }) => (role === 'assistant' ? [] : texts(content)));
}

function channelMessages(messages) {
  return heard(messages)
    .flatMap((text) => [...text.matchAll(CHANNEL)])
    .map(([, attributes, content]) => {
      const named = [...attributes.matchAll(ATTRIBUTE)].map(([, name, value]) => [name, value]);
      return { ...Object.fromEntries(named), content };
    });
}

/** @returns {Turn} */
function lastTurn(messages) {
  const end = messages.slice(messages.findLastIndex(({ role }) => role === 'assistant') + 1);
  const blocks = end.flatMap(({ content }) => (Array.isArray(content) ? content : []));
  const results = blocks.filter(({ type }) => type === 'tool_result').map(({ content }) => texts(content ?? []).join('\n'));
  return { messages: channelMessages(end), results };
}

function assistantMessage({ model, tools }, said) {
  const id = randomUUID();
  // Claude Code puts the server's name before that of a tool.
  const name = tools?.map((tool) => tool.name).find((name) => name === said.tool || name.endsWith(`__${said.tool}`));
  const block = said.tool
    ? { type: 'tool_use', id: `toolu_${id}`, name: name ?? said.tool, input: said.input }
    : { type: 'text', text: said.text };
  return {
    id: `msg_${id}`,
    type: 'message',
    role: 'assistant',
    model,
    content: [block],
    stop_reason: said.tool ? 'tool_use' : 'end_turn',
    stop_sequence: null,
    usage: { input_tokens: 10, output_tokens: 10 },
  };
}

/** Returns the events of a message that is streamed. */
function events(message) {
  const [block] = message.content;
  const [start, delta] =
    block.type === 'text'
      ? [{ ...block, text: '' }, { type: 'text_delta', text: block.text }]
      : [{ ...block, input: {} }, { type: 'input_json_delta', partial_json: JSON.stringify(block.input) }];
  const { stop_reason, stop_sequence, usage } = message;
  return [
    { type: 'message_start', message: { ...message, content: [], stop_reason: null } },
    { type: 'content_block_start', index: 0, content_block: start },
    { type: 'content_block_delta', index: 0, delta },
    { type: 'content_block_stop', index: 0 },
    { type: 'message_delta', delta: { stop_reason, stop_sequence }, usage },
    { type: 'message_stop' },
  ];
}
