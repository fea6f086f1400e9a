// A few lines that stand in for the daemon while this harness itself is tested: guard, sign, forward.
//
//   node standin.mjs --unix PATH --ca FILE --key-id ID --secret SECRET --route PREFIX=ORIGIN ...
//
// Prints one JSON line, {"port": N}.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { listen } from './listen.mjs';
import { relay } from './relay.mjs';
import { now, sign } from './signature.mjs';

const { values: options } = parseArgs({
  options: {
    ...Object.fromEntries(['unix', 'ca', 'key-id', 'secret'].map((name) => [name, { type: 'string' }])),
    route: { type: 'string', multiple: true },
  },
});
const routes = options.route.map((route) => route.split('='));
const AMBIGUOUS = /%(?![0-9a-f]{2})|%(2e|2f|5c|3f|23|7f|[01].)|\/\.\.?(\/|$)/i;
const tls = { ca: readFileSync(options.ca) };

const overUnix = createServer(handle);
await new Promise((bound) => overUnix.listen(options.unix, bound));
console.log(JSON.stringify({ port: await listen(createServer(handle)) }));

function handle(request, response) {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  if (AMBIGUOUS.test(request.url.split('?', 1)[0])) return refuse(response, 400, 'bad_path');
  const foreign = !/^(localhost|127\.0\.0\.1)(:\d+)?$/i.test(host) || (origin && origin !== `http://${host}`);
  if (foreign || ['cross-site', 'same-site'].includes(site)) return refuse(response, 403, 'forbidden_origin');
  const route = routes.find(([prefix]) => request.url.startsWith(prefix));
  if (!route) return refuse(response, 404, 'no_route');

  const path = request.url.slice(route[0].length - 1);
  const timestamp = now();
  const headers = {
    'x-api-key-id': options['key-id'],
    'x-timestamp': timestamp,
    'x-signature': sign(options.secret, request.method, path, timestamp),
  };
  relay(request, response, { origin: route[1], path, headers, without: ['authorization', 'cookie'], tls });
}

function refuse(response, status, code) {
  response.writeHead(status, { 'x-mcp-auth-proxy-error': code }).end();
}
