// The TypeScript SDK's second generation over TCP: node typescript_client.mjs URL SERVER ERA
import '../packages.mjs';
import { ANSWERS, CAPABILITIES, exercise } from './exercise.mjs';

const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');

const [url, server, era] = process.argv.slice(2);
const client = new Client(
  { name: 'typescript-client', version: '1.0.0' },
  { capabilities: CAPABILITIES, versionNegotiation: { mode: era === 'modern' ? 'auto' : 'legacy' } },
);
const transport = new StreamableHTTPClientTransport(new URL(url));
const asked = new Set();

for (const [method, answer] of Object.entries(ANSWERS)) {
  client.setRequestHandler(method, () => {
    asked.add(method);
    return answer;
  });
}

const peer = {
  client,
  asked,
  call: ([name, args], options) => client.callTool({ name, arguments: args }, { timeout: 20_000, ...options }),
  next: (method) => new Promise((heard) => client.setNotificationHandler(method, heard)),
  async connect() {
    await client.connect(transport);
    return client.getNegotiatedProtocolVersion();
  },
  async close() {
    if (era === 'legacy') await transport.terminateSession();
    await client.close();
  },
};
process.exit((await exercise({ who: 'TypeScript SDK 2', server, era, peer })) ? 1 : 0);
