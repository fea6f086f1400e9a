// The TypeScript SDK's first generation over TCP: node typescript_sdk.mjs URL SERVER
import '../packages.mjs';
import { ANSWERS, CAPABILITIES, exercise } from './exercise.mjs';

const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
const schemas = await import('@modelcontextprotocol/sdk/types.js');

const [url, server] = process.argv.slice(2);
const client = new Client({ name: 'typescript-sdk', version: '1.0.0' }, { capabilities: CAPABILITIES });
const transport = new StreamableHTTPClientTransport(new URL(url));
const asked = new Set();

const requests = [schemas.CreateMessageRequestSchema, schemas.ElicitRequestSchema, schemas.ListRootsRequestSchema];
for (const schema of requests) {
  client.setRequestHandler(schema, ({ method }) => {
    asked.add(method);
    return ANSWERS[method];
  });
}

const peer = {
  client,
  asked,
  call: ([name, args], options) =>
    client.callTool({ name, arguments: args }, undefined, { timeout: 20_000, ...options }),
  next: () => new Promise((heard) => client.setNotificationHandler(schemas.LoggingMessageNotificationSchema, heard)),
  async connect() {
    await client.connect(transport);
    return transport.protocolVersion;
  },
  async close() {
    await transport.terminateSession();
    await client.close();
  },
};
process.exit((await exercise({ who: 'TypeScript SDK 1', server, era: 'legacy', peer })) ? 1 : 0);
