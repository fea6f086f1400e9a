// The auth gateway: HTTPS (HTTP/2 and HTTP/1.1 by ALPN), refuses every request that is not signed
// as it should be, streams the others to a plain-http backend.
//
//   node gateway.mjs --backend URL --certificates DIR --key-id ID --secret SECRET
//
// Prints one JSON line, {"port": N, "control": N}. GET on the control port answers the counts.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createSecureServer } from 'node:http2';
import { parseArgs } from 'node:util';
import { listen } from './listen.mjs';
import { relay } from './relay.mjs';
import { refusal, SIGNATURE_HEADERS } from './signature.mjs';

const { values: options } = parseArgs({
  options: Object.fromEntries(
    ['backend', 'certificates', 'key-id', 'secret'].map((name) => [name, { type: 'string' }]),
  ),
});
const credential = { keyId: options['key-id'], secret: options.secret };
const counts = { accepted: 0, refused: 0, by_reason: {}, by_version: {}, headers: {} };

const gateway = createSecureServer({
  allowHTTP1: true,
  cert: readFileSync(`${options.certificates}/leaf.pem`),
  key: readFileSync(`${options.certificates}/leaf.key`),
});
// An event stream may be silent for as long as it likes.
gateway.setTimeout(0);
gateway.on('request', (request, response) => {
  const refused = refusal(request, credential);
  if (refused) {
    counts.refused += 1;
    add(counts.by_reason, refused.reason);
    response.writeHead(401, { 'content-type': 'text/plain' }).end(refused.text);
    return;
  }
  counts.accepted += 1;
  add(counts.by_version, request.httpVersion);
  Object.keys(request.headers).forEach((name) => add(counts.headers, name));
  relay(request, response, { origin: options.backend, path: request.url, without: SIGNATURE_HEADERS });
});

const control = createServer((request, response) => response.end(JSON.stringify(counts)));

console.log(JSON.stringify({ port: await listen(gateway), control: await listen(control) }));

function add(tally, key) {
  tally[key] = (tally[key] ?? 0) + 1;
}
