// Stands between an MCP client and the server that it launches, and notes whatever on the server's stdout is not MCP:
// node tap.mjs LOG COMMAND ARGUMENT...
import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';

const [log, command, ...args] = process.argv.slice(2);
const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
const note = (kind, detail) => appendFileSync(log, `${kind} ${detail}\n`);
const waiting = new Map();
let rest = '';

function isMessage(message) {
  if (Array.isArray(message)) return message.length > 0 && message.every(isMessage);
  if (message?.jsonrpc !== '2.0') return false;
  return typeof message.method === 'string' || 'result' in message || 'error' in message;
}

function count(message, by) {
  const key = JSON.stringify(message.id);
  waiting.set(key, (waiting.get(key) ?? 0) + by);
  if (waiting.get(key) < 0) note('bad', `a second answer to ${key}`);
}

const all = (message) => (Array.isArray(message) ? message : [message]);

function fromServer(line) {
  let message;
  try {
    message = JSON.parse(line);
  } catch {
    return note('bad', `no JSON: ${line.slice(0, 200)}`);
  }
  handOver(line, message);
  if (!isMessage(message)) return note('bad', `no MCP: ${line.slice(0, 200)}`);
  for (const one of all(message)) if (!('method' in one) && one.id !== null) count(one, -1);
  note('ok', '');
}

function fromClient(line) {
  for (const one of all(JSON.parse(line))) if ('method' in one && 'id' in one) count(one, 1);
}

// The TypeScript SDKs lose a notification that they read together with the answer, whoever the server is.
let handing = Promise.resolve();
function handOver(line, { method }) {
  const pause = method === undefined ? 0 : 15;
  handing = handing.then(() => new Promise((next) => process.stdout.write(`${line}\n`, () => setTimeout(next, pause))));
}

function lines(take) {
  let rest = '';
  return (text) => {
    const list = (rest + text).split('\n');
    rest = list.pop();
    list.filter(Boolean).forEach(take);
    return rest;
  };
}

const [sent, received] = [lines(fromClient), lines(fromServer)];
process.stdin.setEncoding('utf8').on('data', (text) => {
  sent(text);
  child.stdin.write(text);
});
process.stdin.on('end', () => child.stdin.end());
child.stdin.on('error', () => {});
child.stdout.setEncoding('utf8').on('data', (text) => {
  rest = received(text);
});
process.stdout.on('error', () => {});
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('close', (code, signal) => {
  if (rest) note('bad', `an unfinished line: ${rest.slice(0, 200)}`);
  if (code !== 0) note('bad', `ended with ${code ?? signal}`);
  note('end', code);
  process.exitCode = code ?? 1;
});
