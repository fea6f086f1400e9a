// Runs the conformance suite against one server on several ways and compares check by check: a way must change no
// verdict. The table in the README is held against what was found.
//
//   node conformance.mjs SERVER REVISION FOLDER direct=URL [daemon=URL] [bridge=URL]
import { execFile } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Report } from './clients/report.mjs';
import { APART, GAINED, GUARDED, isOf } from './conformance_apart.mjs';

// Neither server has a guard of its own. A server that does not know the revision accepts no request of it.
const ANSWERED = { counterpart: ['2025-11-25', '2026-07-28'], everything: ['2025-11-25'] };
const GUARD = 'dns-rebinding-protection';
const NAMES = { counterpart: 'Python SDK', everything: 'server-everything' };
const COLUMNS = ['direct', 'daemon', 'bridge'];

const [server, revision, folder, ...ways] = process.argv.slice(2);
const report = new Report(`conformance ${revision}, ${server}:`);
const found = {};
for (const way of ways) {
  const [name, url] = way.split(/=(.*)/);
  found[name] = await run(url, `${folder}/${name}`);
}

if (found.daemon) {
  await report.check('every verdict through the daemon is the direct one, but for what the daemon refuses itself', async () =>
    compare(found.daemon, (check) => check.status === 'SUCCESS' && GUARDED.some((one) => isOf(one, check))));
}
if (found.daemon && ANSWERED[server].includes(revision)) {
  await report.check(`${GUARD} passes through the daemon, though the server has no guard`, async () => {
    const guard = found.daemon.filter(({ scenario }) => scenario === GUARD);
    const good = guard.length >= 2 && guard.every(({ status }) => status === 'SUCCESS');
    return good || guard.map(describe).join('; ');
  });
}
const apart = (list) => list.filter((one) => one.only === undefined || one.only === `${server} ${revision}`);
const isApart = (check) => apart(APART).some((one) => isOf(one, check));
const isGained = (check) => apart(GAINED).some((one) => isOf(one, check));
if (found.bridge) {
  await report.check('every verdict through the bridge is the direct one, but for what is HTTP alone', async () =>
    compare(found.bridge, (check) => isApart(check) || (check.status === 'SUCCESS' && isGained(check))));
}
await report.check('the README\'s table says what was found', async () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const start = `| ${NAMES[server]} | ${revision} |`;
  const line = readme.split('\n').find((one) => one.startsWith(start)) ?? 'no such line';
  const said = line.split('|').map((cell) => cell.trim()).slice(3, -1);
  const right = cells();
  // A run without the proxy knows one column less of it.
  const differs = right.some((cell, at) => cell !== undefined && cell !== said[at]);
  return !differs || `${line} should be ${start} ${right.join(' | ')} |`;
});
process.exit(report.failed ? 1 : 0);

async function run(url, results) {
  const suite = `${process.env.COUNTERPARTS_CACHE}/npm/node_modules/@modelcontextprotocol/conformance/dist/index.js`;
  const args = [suite, 'server', '--url', url, '--requirements', revision, '--output-dir', results];
  // Its exit code is of no use here: it tells about failures that the server has directly, too.
  await new Promise((ended) => execFile(process.execPath, args, { maxBuffer: 1 << 26 }, ended));
  // A scenario that does not apply leaves no file.
  const checks = globSync(`${results}/*/checks.json`).flatMap((file) => {
    const scenario = basename(dirname(file)).replace(/^server-(.*?)-\d{4}-\d\d-\d\dT.*$/, '$1');
    return JSON.parse(readFileSync(file)).map((check) => ({ ...check, scenario }));
  });
  return checks.filter(({ status }) => ['SUCCESS', 'FAILURE', 'WARNING'].includes(status));
}

// Every verdict on this way that is not the direct one, unless it `may` differ.
function compare(checks, may) {
  const [direct, here] = [tally(found.direct, may), tally(checks, may)];
  const keys = [...new Set([...direct.keys(), ...here.keys()])].filter((key) => direct.get(key) !== here.get(key));
  const told = checks.filter((check) => !may(check) && keys.includes(key(check)) && check.status !== 'SUCCESS');
  return keys.length === 0 || `${keys.map((key) => `${key} ${direct.get(key)} -> ${here.get(key)}`).join(', ')}: ${told.map(describe)}`;
}

function tally(checks, may) {
  const tally = new Map();
  const compared = checks.filter((check) => !may({ ...check, status: 'SUCCESS' }));
  for (const check of compared) tally.set(key(check), [...(tally.get(key(check)) ?? []), check.status]);
  return new Map([...tally].map(([key, verdicts]) => [key, verdicts.sort().join()]));
}

// Checks, and how many pass on each way; through the bridge, and how many of them stdio cannot carry.
function cells() {
  const passed = (checks) => checks?.filter(({ status }) => status === 'SUCCESS');
  const carried = passed(found.bridge)?.filter((check) => !isApart(check)).length;
  const lost = passed(found.direct).filter(isApart).length;
  return [found.direct.length, ...COLUMNS.slice(0, 2).map((way) => passed(found[way])?.length), carried, found.bridge && lost]
    .map((number) => number?.toString());
}

function key({ scenario, id, name }) {
  return `${scenario}/${id}/${name}`;
}

function describe(check) {
  return `${key(check)} ${check.status} ${check.errorMessage ?? ''}`;
}
