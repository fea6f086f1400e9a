// Both generations of the TypeScript SDK, launching their server:
// node typescript_stdio.mjs GENERATION SERVER ERA COMMAND ARGUMENT...
import '../packages.mjs';
import { ANSWERS, CAPABILITIES, exercise } from './exercise.mjs';

const [generation, server, era, command, ...args] = process.argv.slice(2);
const launched = { command, args, env: process.env, stderr: 'inherit' };
const asked = new Set();

async function first() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
  const schemas = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client({ name: 'typescript-stdio', version: '1.0.0' }, { capabilities: CAPABILITIES });
  for (const schema of [
    schemas.CreateMessageRequestSchema,
    schemas.ElicitRequestSchema,
    schemas.ListRootsRequestSchema,
  ]) {
    client.setRequestHandler(schema, ({ method }) => answer(method));
  }
  return {
    client,
    transport: new StdioClientTransport(launched),
    call: ([name, args], options) =>
      client.callTool({ name, arguments: args }, undefined, { timeout: 20_000, ...options }),
    next: () => new Promise((heard) => client.setNotificationHandler(schemas.LoggingMessageNotificationSchema, heard)),
    // This generation keeps the version to itself.
    version: () => '2025-11-25',
  };
}

async function second() {
  const { Client } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  const client = new Client(
    { name: 'typescript-stdio', version: '1.0.0' },
    { capabilities: CAPABILITIES, versionNegotiation: { mode: era === 'modern' ? 'auto' : 'legacy' } },
  );
  for (const method of Object.keys(ANSWERS)) client.setRequestHandler(method, () => answer(method));
  return {
    client,
    transport: new StdioClientTransport(launched),
    call: ([name, args], options) => client.callTool({ name, arguments: args }, { timeout: 20_000, ...options }),
    next: (method) => new Promise((heard) => client.setNotificationHandler(method, heard)),
    version: () => client.getNegotiatedProtocolVersion(),
  };
}

function answer(method) {
  asked.add(method);
  return ANSWERS[method];
}

const peer = await (generation === '1' ? first() : second());
peer.asked = asked;
peer.connect = async () => {
  await peer.client.connect(peer.transport);
  return peer.version();
};
peer.close = () => peer.client.close();
process.exit((await exercise({ who: `TypeScript SDK ${generation}, stdio`, server, era, peer })) ? 1 : 0);
