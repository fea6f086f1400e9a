// The inspector's command line, launching its server: node inspector.mjs SERVER COMMAND ARGUMENT...
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Report } from './report.mjs';

const [server, ...command] = process.argv.slice(2);
const tools = JSON.parse(readFileSync(new URL('servers.json', import.meta.url)))[server];
const inspector = `${process.env.COUNTERPARTS_CACHE}/npm/node_modules/@modelcontextprotocol/inspector`;
const launcher = `${inspector}/clients/launcher/build/index.js`;

async function ask(...question) {
  const args = [launcher, '--cli', ...command, '--method', ...question];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 30_000, maxBuffer: 1 << 24 });
  return JSON.parse(stdout);
}

const report = new Report(`inspector, stdio, ${server}:`);
const [tool, parameter] = tools.echo;
await report.check('lists tools', async () => {
  const names = (await ask('tools/list')).tools.map(({ name }) => name);
  return names.includes(tool) || names.join();
});
await report.check('calls a tool', async () => {
  const answer = await ask('tools/call', '--tool-name', tool, '--tool-arg', `${parameter}=hello`);
  return answer.content[0].text.endsWith('hello') || JSON.stringify(answer);
});
await report.check('reads a resource', async () => {
  const answer = await ask('resources/read', '--uri', tools.resource);
  return Boolean(answer.contents[0].text);
});
await report.check('gets a prompt', async () => {
  const answer = await ask('prompts/get', '--prompt-name', tools.prompt);
  return answer.messages.length > 0;
});
process.exit(report.failed ? 1 : 0);
