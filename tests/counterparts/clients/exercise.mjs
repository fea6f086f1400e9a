// What both generations of the TypeScript SDK are put through. `peer` hides how their calls differ.
import { readFileSync } from 'node:fs';
import { Report } from './report.mjs';

const SERVERS = JSON.parse(readFileSync(new URL('servers.json', import.meta.url)));

export const CAPABILITIES = { sampling: {}, elicitation: {}, roots: {} };

// What the client answers when the server asks it something.
export const ANSWERS = {
  'sampling/createMessage': {
    role: 'assistant',
    model: 'none',
    stopReason: 'endTurn',
    content: { type: 'text', text: 'forty-two' },
  },
  'elicitation/create': { action: 'accept', content: { name: 'Ada', username: 'ada', email: 'ada@localhost' } },
  'roots/list': { roots: [{ uri: 'file:///tmp', name: 'tmp' }] },
};

export async function exercise({ who, server, era, peer }) {
  const report = new Report(`${who}, ${server}, ${era}:`);
  const tools = SERVERS[server];
  const legacy = era !== 'modern';
  const check = (sentence, work) => report.check(sentence, work);

  await check('connects in the era it wants', async () => {
    const version = await peer.connect();
    return (version === '2026-07-28') !== legacy || version;
  });
  if (report.failed) return report.failed;
  await check('lists tools, prompts and resources', () => lists(peer, tools));
  await check('reads a resource and a prompt', () => reads(peer, tools));
  await check('gets back what it sent, in any script', () => echoes(peer, tools, 'Grüße, 世界 👋 \u2028'));
  await check('gets back a long text whole', () => echoes(peer, tools, 'long '.repeat(80_000)));
  await check('makes twenty calls at once and gets each its own answer', () => echoesAtOnce(peer, tools));
  await check('gets an image', async () => has(await peer.call(tools.image), 'image'));
  await check('sees progress while the tool still runs', () => streamsProgress(peer, tools));
  if (legacy) {
    await check('is asked to sample in the middle of a call', () =>
      asks(peer, tools.sampling, ['sampling/createMessage']));
    await check('is asked to elicit in the middle of a call', () =>
      asks(peer, tools.elicitation, ['elicitation/create']));
  } else {
    await check('supplies what a tool asks for in rounds', () => asks(peer, tools.rounds, Object.keys(ANSWERS)));
    await check('mirrors a parameter in a header', () => mirrors(peer, tools));
    await check('hears over subscriptions/listen that tools changed', () => hearsChanges(peer, tools));
  }
  if (tools.failing) await check('sees a tool\'s failure', () => fails(peer, tools));
  if (legacy && tools.logging) await check('receives log messages', () => logs(peer, tools));
  if (legacy && tools.pushed) await check('receives over the GET stream', () => pushes(peer, tools));
  if (legacy && tools.resumed) await check('resumes a stream that was cut', () => resumes(peer, tools));
  await check('ends its session', async () => (await peer.close(), true));
  return report.failed;
}

async function lists(peer, tools) {
  const names = (await peer.client.listTools()).tools.map((tool) => tool.name);
  const prompts = (await peer.client.listPrompts()).prompts.map((prompt) => prompt.name);
  const { resources } = await peer.client.listResources();
  const complete = names.includes(tools.echo[0]) && prompts.includes(tools.prompt) && resources.length > 0;
  return complete || `${names} ${prompts}`;
}

async function reads(peer, tools) {
  const resource = await peer.client.readResource({ uri: tools.resource });
  const prompt = await peer.client.getPrompt({ name: tools.prompt });
  return Boolean(resource.contents[0].text && prompt.messages[0].content.text);
}

async function echoes(peer, tools, words) {
  const [tool, parameter] = tools.echo;
  const answer = text(await peer.call([tool, { [parameter]: words }]));
  return [words, `Echo: ${words}`].includes(answer) || `${answer.length} came back: ${answer.slice(0, 80)}`;
}

async function echoesAtOnce(peer, tools) {
  const calls = Array.from({ length: 20 }, (_, number) => echoes(peer, tools, `call ${number}`));
  const wrong = (await Promise.all(calls)).filter((answer) => answer !== true);
  return wrong.length === 0 || wrong.join();
}

async function streamsProgress(peer, tools) {
  const arrived = [];
  await peer.call(tools.progress, { onprogress: () => arrived.push(performance.now()) });
  const ahead = performance.now() - arrived[0];
  // Held back they would come together with the answer, within a millisecond or two.
  return (arrived.length === 3 && ahead > 30) || `${arrived.length} events, the first ${ahead} ms ahead of the answer`;
}

async function asks(peer, call, kinds) {
  peer.asked.clear();
  const result = await peer.call(call);
  const complete = !result.isError && kinds.every((kind) => peer.asked.has(kind));
  return complete || `asked ${[...peer.asked]}, answered ${text(result)}`;
}

async function fails(peer, tools) {
  const result = await peer.call(tools.failing);
  return (result.isError && text(result).includes('intentionally')) || text(result);
}

async function logs(peer, tools) {
  const logged = peer.next('notifications/message');
  await peer.call(tools.logging);
  return within(5000, logged);
}

async function pushes(peer, tools) {
  const logged = peer.next('notifications/message');
  // What is pushed before the GET stream stands is lost, so push again until something comes.
  for (let tries = 0; tries < 20; tries++) {
    await peer.call(tools.pushed);
    if (await within(500, logged)) return true;
  }
  return 'nothing came over the GET stream';
}

async function resumes(peer, tools) {
  const answer = text(await peer.call(tools.resumed));
  return answer.includes('completed') || answer;
}

async function mirrors(peer, tools) {
  const answer = text(await peer.call(tools.mirrored));
  return answer === tools.mirrored[1].region || answer;
}

async function hearsChanges(peer, tools) {
  const changed = peer.next('notifications/tools/list_changed');
  const subscription = await peer.client.listen({ toolsListChanged: true });
  await peer.call(tools.change);
  const heard = await within(5000, changed);
  await subscription.close();
  return heard;
}

async function within(milliseconds, promise) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds, false)));
  const first = await Promise.race([promise.then(() => true), late]);
  clearTimeout(timer);
  return first;
}

function text(result) {
  return result.content.map((part) => part.text ?? '').join('');
}

function has(result, kind) {
  return result.content.some((part) => part.type === kind) || JSON.stringify(result).slice(0, 200);
}
