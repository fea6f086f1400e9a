// Runs the conformance suite against one server directly and, given a second URL, through the proxy,
// and compares check by check: what passes directly must pass through the proxy.
//
//   node conformance.mjs SERVER REVISION FOLDER DIRECT_URL [PROXY_URL]
import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Report } from './clients/report.mjs';

// How many checks each server is known to pass directly: fewer means that this harness is broken.
// server-everything lacks the suite's diagnostic tools and knows no 2026-07-28.
const KNOWN = {
  counterpart: { '2025-11-25': 83, '2026-07-28': 168 },
  everything: { '2025-11-25': 47, '2026-07-28': 11 },
};
// Neither server has a guard of its own. A server that does not know the revision accepts no request of it.
const GUARDED = { counterpart: ['2025-11-25', '2026-07-28'], everything: ['2025-11-25'] };
const GUARD = 'dns-rebinding-protection';

const [server, revision, folder, directUrl, proxyUrl] = process.argv.slice(2);
const report = new Report(`conformance ${revision}, ${server}:`);

const direct = await run(directUrl, `${folder}/direct`);
const known = KNOWN[server][revision];
await report.check(`at least ${known} checks pass directly`, async () => {
  const passed = direct.filter(({ status }) => status === 'SUCCESS').length;
  return passed >= known || `${passed} passed; failed: ${direct.filter(failed).map(describe).join('; ')}`;
});

if (proxyUrl) {
  const proxied = await run(proxyUrl, `${folder}/proxied`);
  await report.check('every check that passes directly passes through the proxy', async () => {
    const lost = [...passes(direct)].filter(([check, times]) => (passes(proxied).get(check) ?? 0) < times);
    const told = proxied.filter((check) => failed(check) && lost.some(([name]) => name === key(check)));
    return lost.length === 0 || `${lost.map(([check]) => check).join(', ')}: ${told.map(describe).join('; ')}`;
  });
  if (GUARDED[server].includes(revision)) {
    await report.check(`${GUARD} passes through the proxy, though the server has no guard`, async () => {
      const guard = proxied.filter(({ scenario }) => scenario === GUARD);
      const good = guard.length >= 2 && guard.every(({ status }) => status === 'SUCCESS');
      return good || guard.map(describe).join('; ');
    });
  }
}
process.exit(report.failed ? 1 : 0);

async function run(url, results) {
  const suite = `${process.env.COUNTERPARTS_CACHE}/npm/node_modules/@modelcontextprotocol/conformance/dist/index.js`;
  const args = [suite, 'server', '--url', url, '--requirements', revision, '--output-dir', results];
  // Its exit code is of no use here: it tells about failures that the server has directly, too.
  await new Promise((ended) => execFile(process.execPath, args, { maxBuffer: 1 << 26 }, ended));
  // A scenario that does not apply leaves no file.
  return globSync(`${results}/*/checks.json`).flatMap((file) => {
    const scenario = basename(dirname(file)).replace(/^server-(.*?)-\d{4}-\d\d-\d\dT.*$/, '$1');
    return JSON.parse(readFileSync(file)).map((check) => ({ ...check, scenario }));
  });
}

function passes(checks) {
  const tally = new Map();
  for (const check of checks.filter(({ status }) => status === 'SUCCESS')) {
    tally.set(key(check), (tally.get(key(check)) ?? 0) + 1);
  }
  return tally;
}

function failed({ status }) {
  return status === 'FAILURE' || status === 'WARNING';
}

function key({ scenario, id, name }) {
  return `${scenario}/${id}/${name}`;
}

function describe(check) {
  return `${key(check)} ${check.status} ${check.errorMessage ?? ''}`;
}
