// The auth-gateway signature, written independently of the daemon's own code.
import { createHmac, timingSafeEqual } from 'node:crypto';

export const SIGNATURE_HEADERS = ['x-api-key-id', 'x-timestamp', 'x-signature'];
const WINDOW_MS = 300_000;

// Node hands out the request target as latin-1, one character a byte.
export function decodePath(target) {
  const path = Buffer.from(target.split('?', 1)[0], 'latin1');
  const decoded = [];
  for (let i = 0; i < path.length; i++) {
    if (path[i] !== 0x25) {
      decoded.push(path[i]);
      continue;
    }
    const hex = path.toString('latin1', i + 1, i + 3);
    if (!/^[0-9a-f]{2}$/i.test(hex)) return null;
    decoded.push(parseInt(hex, 16));
    i += 2;
  }
  return Buffer.from(decoded);
}

export function sign(secret, method, target, timestamp) {
  const mac = createHmac('sha256', secret);
  mac.update(`${method}\n`).update(decodePath(target)).update(`\n${timestamp}`);
  return mac.digest('hex');
}

export function now() {
  return new Date().toISOString().replace(/\.\d{3}Z$/, 'Z');
}

// Returns null when the request is good, else { text, reason }: the gateway's words and what was wrong.
export function refusal(request, { keyId, secret }) {
  const given = {};
  for (const name of SIGNATURE_HEADERS) {
    const values = headerValues(request.rawHeaders, name);
    if (values.length !== 1) return invalid(`${values.length} ${name} headers`);
    given[name] = values[0];
  }
  if (given['x-api-key-id'] !== keyId) return { text: 'Invalid Api Key', reason: 'unknown key' };

  const timestamp = given['x-timestamp'];
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(timestamp)) return invalid('malformed timestamp');
  if (!(Math.abs(Date.now() - Date.parse(timestamp)) <= WINDOW_MS)) return invalid('timestamp outside the window');

  if (decodePath(request.url) === null) return invalid('broken escape in the path');
  const signature = given['x-signature'];
  if (!/^[0-9a-f]{64}$/.test(signature)) return invalid('malformed signature');
  const expected = sign(secret, request.method, request.url, timestamp);
  return timingSafeEqual(Buffer.from(signature), Buffer.from(expected)) ? null : invalid('wrong signature');
}

function invalid(reason) {
  return { text: 'Invalid Signature', reason };
}

function headerValues(rawHeaders, name) {
  const values = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i].toLowerCase() === name) values.push(rawHeaders[i + 1]);
  }
  return values;
}
