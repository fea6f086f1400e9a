// An HTTP face for the MCP server on stdio that it launches, so that a suite which speaks HTTP alone can test one:
// node over_stdio.mjs COMMAND ARGUMENT...
//
// A session (up to 2025-11-25) has a child of its own; a request without one (2026-07-28) has a child to itself
// for as long as it runs. Messages pass as they are; everything about HTTP itself is this file's own.
//
// Prints one JSON line, {"port": N}.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { listen } from './listen.mjs';

const [command, ...args] = process.argv.slice(2);
const VERSION = 'io.modelcontextprotocol/protocolVersion';
// Streamable HTTP of 2026-07-28 ties statuses to these.
const STATUSES = new Map([[-32601, 404], ...[-32020, -32021, -32022, -32602, -32600, -32700].map((code) => [code, 400])]);
const sessions = new Map();
const idle = [];

// A child and the HTTP streams that wait for what it says.
class Child {
  waiting = new Map();
  unheard = [];

  constructor() {
    this.process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.process.stdin.on('error', () => {});
    createInterface({ input: this.process.stdout }).on('line', (line) => this.hear(line, JSON.parse(line)));
  }

  // As a client of 2026-07-28 opens: from now on the server knows what language it is addressed in.
  discover() {
    const meta = { [VERSION]: '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} };
    this.say(JSON.stringify({ jsonrpc: '2.0', id: 'discover', method: 'server/discover', params: { _meta: meta } }));
    return this;
  }

  say(text) {
    this.process.stdin.write(`${text.replace(/[\r\n]+/g, ' ')}\n`);
  }

  ask(message, text, stream) {
    stream.token = message.params?._meta?.progressToken;
    this.waiting.set(message.id, stream);
    this.say(text);
  }

  hear(line, message) {
    if (!('method' in message)) {
      const stream = this.waiting.get(message.id);
      this.waiting.delete(message.id);
      return stream?.finish(line, message);
    }
    const stream = this.streamOf(message);
    if (stream) stream.send(line);
    else this.unheard.push(line);
  }

  // Over stdio a message does not say which request it belongs to, but for progress.
  streamOf({ params }) {
    const inFlight = [...this.waiting.values()];
    const token = params?.progressToken;
    return inFlight.find((stream) => token !== undefined && stream.token === token) ?? inFlight.at(-1) ?? this.ears;
  }

  listen(stream) {
    this.ears = stream;
    this.unheard.splice(0).forEach((line) => stream.send(line));
  }

  end() {
    this.process.stdin.end();
  }
}

// One HTTP response: events, but for an answer without any since 2026-07-28.
class Stream {
  constructor(response, { headers = {}, isModern = false } = {}) {
    Object.assign(this, { response, headers, isModern });
  }

  open() {
    if (!this.response.headersSent) this.response.writeHead(200, { ...this.headers, 'content-type': 'text/event-stream' });
    this.response.flushHeaders();
  }

  send(line) {
    this.open();
    this.response.write(`event: message\ndata: ${line}\n\n`);
  }

  finish(line, { error }) {
    if (this.response.headersSent || !this.isModern) {
      this.send(line);
      this.response.end();
    } else {
      const status = STATUSES.get(error?.code) ?? 200;
      this.response.writeHead(status, { ...this.headers, 'content-type': 'application/json' }).end(line);
    }
    this.done?.();
  }
}

const server = createServer(async (request, response) => {
  const id = request.headers['mcp-session-id'];
  const session = sessions.get(id);
  if (id && !session) return response.writeHead(404).end();
  if (request.method === 'POST') return post(session, await read(request), response);
  if (!session || !['GET', 'DELETE'].includes(request.method)) return response.writeHead(405).end();
  if (request.method === 'DELETE') {
    sessions.delete(id);
    session.end();
    return response.writeHead(200).end();
  }
  const ears = new Stream(response);
  ears.open();
  session.listen(ears);
});

function post(session, text, response) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    return response.writeHead(400).end();
  }
  const isRequest = 'method' in message && 'id' in message;
  const isModern = message.params?._meta?.[VERSION] !== undefined;
  if (isRequest && message.method === 'initialize' && !isModern) {
    const id = randomUUID();
    sessions.set(id, new Child());
    return sessions.get(id).ask(message, text, new Stream(response, { headers: { 'mcp-session-id': id } }));
  }
  if (isRequest && session) return session.ask(message, text, new Stream(response));
  if (isRequest) return askAlone(message, text, response);
  session?.say(text);
  response.writeHead(session ? 202 : 400).end();
}

function askAlone(message, text, response) {
  const child = idle.pop() ?? new Child().discover();
  const stream = new Stream(response, { isModern: true });
  stream.done = () => idle.push(child);
  response.on('close', () => {
    if (!child.waiting.delete(message.id)) return;
    const params = { requestId: message.id };
    child.say(JSON.stringify({ jsonrpc: '2.0', method: 'notifications/cancelled', params }));
    stream.done();
  });
  child.ask(message, text, stream);
}

async function read(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

console.log(JSON.stringify({ port: await listen(server) }));
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    [...sessions.values(), ...idle].forEach((child) => child.end());
    process.exit();
  });
}
