#!/usr/bin/env bash
# curl over the Unix socket $1: what a plain HTTP client sees, and what a browser or a forger gets.
# $2 is `daemon`, or `standin` for what the stand-in cannot do.
set -uo pipefail
socket=$1 proxy=$2
failed=0

ask() { curl --silent --show-error --max-time 10 --path-as-is --include --unix-socket "$socket" "$@" 2>&1; }

# expect SENTENCE PATTERN CURL-ARGUMENTS...: the answer, head and body, must match the pattern.
expect() {
  local sentence=$1 pattern=$2 answer
  shift 2
  answer=$(ask "$@" | tr -d '\r')
  verdict "$([[ $answer =~ $pattern ]] && echo ok)" "$sentence" "$answer"
}

# expect_without SENTENCE PATTERN CURL-ARGUMENTS...: it must be answered, and must not match.
expect_without() {
  local sentence=$1 pattern=$2 answer
  shift 2
  answer=$(ask "$@" | tr -d '\r')
  verdict "$([[ $answer =~ $answered && ! $answer =~ $pattern ]] && echo ok)" "$sentence" "$answer"
}

verdict() {
  [[ $1 == ok ]] && echo "ok curl: $2" && return
  failed=1
  echo "not ok curl: $2: $(tr '\n' ' ' <<<"$3" | cut -c-300)"
}

json=(--header 'Content-Type: application/json' --header 'Accept: application/json, text/event-stream')
initialize='{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}'
post=("${json[@]}" --data "$initialize")
base=http://localhost
url=$base/counterpart/mcp
answered='^HTTP/[0-9.]+ 200.*"serverInfo"'
refused() { echo "^HTTP/[0-9.]+ $1.*x-mcp-auth-proxy-error: [a-z_]+"; }

expect 'initialize is answered with an event stream' '^HTTP/1.1 200.*content-type: text/event-stream.*data: \{.*"serverInfo"' "${post[@]}" $url
expect 'the answer brings a session id' 'mcp-session-id: [!-~]+' "${post[@]}" $url
expect 'a request of an unknown session gets the server'\''s own 404' '^HTTP/1.1 404.*"jsonrpc"' "${json[@]}" --header 'Mcp-Session-Id: none' --data '{"jsonrpc":"2.0","id":1,"method":"ping"}' $url
expect 'server-everything answers on its route' "$answered" "${post[@]}" $base/everything/mcp

for host in localhost 127.0.0.1:8080 LOCALHOST:1; do
  expect "Host $host is served" "$answered" --header "Host: $host" "${post[@]}" $url
done
for host in evil.example.com localhost.evil.example.com 127.0.0.1.evil.example.com; do
  expect "Host $host gets 403" "$(refused 403)" --header "Host: $host" "${post[@]}" $url
done
for origin in http://evil.example.com https://localhost.evil.example.com null; do
  expect "Origin $origin gets 403" "$(refused 403)" --header "Origin: $origin" "${post[@]}" $url
done
for site in cross-site same-site; do
  expect "Sec-Fetch-Site $site gets 403" "$(refused 403)" --header "Sec-Fetch-Site: $site" "${post[@]}" $url
done
expect 'Sec-Fetch-Mode alone, as Node sends it, is served' "$answered" --header 'Sec-Fetch-Mode: cors' "${post[@]}" $url

for path in %zz %2 a%2Fb a%5Cb a%00b %0a %2e%2e/mcp ../mcp ./mcp; do
  expect "the path /counterpart/$path gets 400" "$(refused 400)" "${post[@]}" "$base/counterpart/$path"
done
expect 'an unknown route gets 404' "$(refused 404)" "${post[@]}" $base/nowhere/mcp
expect 'a path with a space, a percent sign and any script reaches the server signed' '^HTTP/1.1 404.*[Nn]ot [Ff]ound' "${post[@]}" "$base/counterpart/a%20b%25/%C3%BC%ff//?q=%zz"

forged=(--header 'X-Api-Key-Id: mine' --header 'X-TIMESTAMP: 2020-01-01T00:00:00Z' --header 'x-signature: 00'
  --header 'X-Signature: 11' --header 'Connection: x-signature, x-api-key-id'
  --header 'Authorization: Bearer mine' --header 'Cookie: mine=1')
expect 'signature headers of the client'\''s own do no harm' "$answered" "${forged[@]}" "${post[@]}" $url

if [[ $proxy == daemon ]]; then
  expect_without 'no CORS header comes back, though server-everything sends them' '[Aa]ccess-[Cc]ontrol-' "${post[@]}" $base/everything/mcp
  expect 'HTTP/2 with prior knowledge is served' '^HTTP/2 200.*"serverInfo"' --http2-prior-knowledge "${post[@]}" $url
  expect '/healthz says that it is alive' '^HTTP/1.1 200' $base/healthz
  expect '/readyz says that the upstreams are reachable' '^HTTP/1.1 200.*\{' $base/readyz
  expect 'OAuth discovery gets 404' '^HTTP/1.1 404' $base/.well-known/oauth-protected-resource/counterpart/mcp
fi
exit $failed
