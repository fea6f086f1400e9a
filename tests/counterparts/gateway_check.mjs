// Shows that the gateway refuses what it should, so that its "0 refused" means something.
//
//   node gateway_check.mjs PORT CA_FILE KEY_ID SECRET
//
// Behind the gateway is nothing: what it accepts ends in 502.
import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { request } from 'node:https';
import { Report } from './clients/report.mjs';
import { now, sign } from './signature.mjs';

const [port, caFile, keyId, secret] = process.argv.slice(2);
const ca = readFileSync(caFile);
const report = new Report('gateway:');

const good = (path = '/mcp', at = now()) => ({
  'x-api-key-id': keyId,
  'x-timestamp': at,
  'x-signature': sign(secret, 'GET', path, at),
});
const minutesAgo = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString().replace(/\.\d+/, '');

await answers('accepts a signed request', good(), 502);
await answers('leaves the query out of the signature', good(), 502, '/mcp?a=%zz');
await answers('signs the path decoded once, byte by byte', good('/%61%25%ff'), 502, '/a%25%FF');
await answers('accepts a request signed four minutes ago', good('/mcp', minutesAgo(4)), 502);
await answers('refuses a request signed six minutes ago', good('/mcp', minutesAgo(6)), 401);
await answers('refuses a request signed six minutes ahead', good('/mcp', minutesAgo(-6)), 401);
await answers('refuses a request without a signature', {}, 401);
await answers('refuses a signature for another path', good('/other'), 401);
await answers('refuses a signature in capitals', { ...good(), 'x-signature': good()['x-signature'].toUpperCase() }, 401);
await answers('refuses an unknown key', { ...good(), 'x-api-key-id': 'another' }, 401, '/mcp', 'Invalid Api Key');
for (const name of Object.keys(good())) {
  await answers(`refuses two ${name} headers`, { ...good(), [name]: [good()[name], good()[name]] }, 401);
}
await report.check('speaks HTTP/2', async () => {
  const session = connect(`https://127.0.0.1:${port}`, { ca });
  const stream = session.request({ ':path': '/mcp', ...good() });
  const status = await new Promise((heard) => stream.on('response', (headers) => heard(headers[':status'])));
  session.destroy();
  return status === 502 || `answered ${status}`;
});
process.exit(report.failed ? 1 : 0);

async function answers(sentence, headers, status, path = '/mcp', words = status === 401 ? 'Invalid Signature' : '') {
  await report.check(sentence, async () => {
    const [got, body] = await get(path, headers);
    return (got === status && body.includes(words)) || `answered ${got} ${body}`;
  });
}

function get(path, headers) {
  return new Promise((answered, broke) => {
    const ask = request({ host: '127.0.0.1', port, path, headers, ca, agent: false }, async (response) => {
      const chunks = await response.toArray();
      answered([response.statusCode, Buffer.concat(chunks).toString()]);
    });
    ask.on('error', broke).end();
  });
}
