// Streams one request to `path` at `origin`, and its response back event by event.
import http from 'node:http';
import https from 'node:https';

const HOP_BY_HOP = ['connection', 'keep-alive', 'proxy-connection', 'te', 'transfer-encoding', 'upgrade'];

export function relay(request, response, { origin, path, without = [], headers = {}, tls = {} }) {
  const { protocol, hostname, port, host } = new URL(origin);
  const onward = (protocol === 'https:' ? https : http).request({
    ...tls,
    hostname,
    port,
    path,
    method: request.method,
    headers: { ...kept(request.headers, [...HOP_BY_HOP, ...without]), ...headers, host },
    // One connection each: a pooled one that the backend has just closed would look like a fault of the proxy.
    agent: false,
  });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode, kept(answer.headers, HOP_BY_HOP));
    response.flushHeaders?.();
    answer.pipe(response);
    // A body that breaks off must not look like one that ended.
    answer.on('error', () => cut(response));
  });
  onward.on('error', (error) => {
    if (response.headersSent) return cut(response);
    response.writeHead(502, { 'content-type': 'text/plain' }).end(`backend: ${error.message}`);
  });
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}

function kept(headers, dropped) {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !name.startsWith(':') && !dropped.includes(name)),
  );
}

function cut(response) {
  response.stream ? response.stream.close(2) : response.destroy();
}
