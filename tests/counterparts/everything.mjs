// Starts server-everything on a free loopback port and prints one JSON line, {"port": N}.
// node everything.mjs [streamableHttp|sse]
import { Server } from 'node:net';
import './packages.mjs';

const { listen } = Server.prototype;
// It takes a port but tells the one it was given, not the one it got, and binds every interface.
Server.prototype.listen = function (_port, ready) {
  return listen.call(this, 0, '127.0.0.1', () => {
    process.stdout.write(`${JSON.stringify({ port: this.address().port })}\n`);
    ready?.();
  });
};
// Its own chatter would follow the port on stdout.
console.log = () => {};
process.argv[2] ??= 'streamableHttp';
await import('@modelcontextprotocol/server-everything/dist/index.js');
