// Checks whose verdict may change on the way, and why. README.md in this folder says the same.
// `only` limits an entry to one server and revision, `id` to some of a scenario's checks.

// What the daemon refuses by itself, whatever the server does: foreign hosts, headers that contradict the body.
export const GUARDED = [
  { scenario: 'dns-rebinding-protection' },
  { scenario: 'tasks-request-headers', id: /^tasks-headers-reject-mismatched-method$/ },
  { scenario: 'server-stateless', id: /^sep-2575-http-server-header-mismatch-400$/ },
];

// HTTP's own matters, of which nothing crosses stdio.
export const APART = [
  // Host and Origin.
  { scenario: 'dns-rebinding-protection' },
  // Session ids and the status of a session that ended: each side of the bridge has its own.
  { scenario: 'server-session-lifecycle' },
  { scenario: 'server-initialize', id: /^server-session-id/ },
  // Event ids, `retry:` and resumption: the bridge uses them up.
  { scenario: 'server-sse-polling' },
  // Headers that contradict the body: the bridge writes them from the body.
  { scenario: 'http-header-validation' },
  { scenario: 'http-custom-header-server-validation' },
  { scenario: 'tasks-request-headers', id: /mismatched/ },
  { scenario: 'server-stateless', id: /^sep-2575-http-server-header-mismatch-400$/ },
  // Statuses that do not follow from the code: it answers -32000.
  { only: 'everything 2026-07-28', scenario: 'server-stateless', id: /-400$/ },
];

// It refuses a revision that it does not know with an id of null; behind the bridge each answer has its request's id.
const NULL = 'everything 2026-07-28';
export const GAINED = [
  { only: NULL, id: /^wire-schema-valid$/ },
  { only: NULL, scenario: 'server-stateless', id: /^sep-2575-http-server-error-jsonrpc-id$/ },
  { only: NULL, scenario: 'server-sse-multiple-streams', id: /^server-accepts-multiple-post-streams$/ },
];

export function isOf({ scenario, id }, check) {
  return (scenario === undefined || scenario === check.scenario) && (id === undefined || id.test(check.id));
}
