// Starts each baseline that can be run here and sees that it does what README.md says: REDIS_URL=… DATABASE_URL=… node
// smoke.js [NAME…]. Prints a line for each; fails when one does not, or cannot be run.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import jwt from 'jsonwebtoken';
import pg from 'pg';
import WebSocket from 'ws';

const run = new URL('run', import.meta.url).pathname;
const env = { ...process.env, JWT_SECRET: 'a secret for the smoke test alone' };
const payload = '{"type":"message","cursor":"1-0","text":"grüße \\"here\\" \\\\ 漢"}';
const [first, second] = ['contact:pat456', 'user:doc123'];
let running = [];

async function start(name) {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  const child = spawn(run, [name], { env: { ...env, PORT: String(port) }, stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(child);
  const [line] = await once(createInterface(child.stdout), 'line');
  if (line !== 'ready') throw new Error(`said ${line}`);
  return port;
}

// A socket, and the frames that have come.
async function open(url) {
  const socket = new WebSocket(url);
  const frames = [];
  const waiting = [];
  socket.on('message', (data, binary) => {
    if (binary) throw new Error('a binary frame');
    frames.push(data.toString());
    waiting.shift()?.();
  });
  socket.next = async () => {
    while (frames.length === 0) await new Promise((resolve) => waiting.push(resolve));
    return frames.shift();
  };
  await once(socket, 'open');
  return socket;
}

function same(seen, wanted) {
  if (seen !== wanted) throw new Error(`got ${seen}, not ${wanted}`);
}

// Publishes the moment Redis knows the subscription, or that it is gone.
async function subscribed(redis, channel, count) {
  while ((await redis.pubsub('NUMSUB', channel))[1] !== count);
}

async function relay(name, redis) {
  const port = await start(name);
  const engine = name === 'socketio';
  const join = async (channel) => {
    if (!engine) return open(`ws://127.0.0.1:${port}/ws?channel=${channel}`);
    const socket = await open(`ws://127.0.0.1:${port}/ws/?EIO=4&transport=websocket&channel=${channel}`);
    same((await socket.next())[0], '0');
    socket.send('40');
    same((await socket.next()).slice(0, 2), '40');
    return socket;
  };
  const frame = (text) => (engine ? `42${JSON.stringify(['m', text])}` : text);
  const [a, b, other] = [await join('yard:a'), await join('yard:a'), await join('yard:b')];
  await subscribed(redis, 'yard:a', 1);
  await subscribed(redis, 'yard:b', 1);
  const texts = [payload, 'x'.repeat(125), 'x'.repeat(126), 'x'.repeat(70_000)];
  for (const text of texts) await redis.publish('yard:a', text);
  await redis.publish('yard:b', 'other');
  for (const text of texts) for (const socket of [a, b]) same(await socket.next(), frame(text));
  same(await other.next(), frame('other'));
  // The last socket of a channel takes the subscription with it, and not before.
  a.close();
  await once(a, 'close');
  await redis.publish('yard:a', 'still');
  same(await b.next(), frame('still'));
  b.close();
  await subscribed(redis, 'yard:a', 0);
  const again = await join('yard:a');
  await subscribed(redis, 'yard:a', 1);
  await redis.publish('yard:a', 'again');
  same(await again.next(), frame('again'));
}

async function nchan() {
  const [port, publisher] = [await start('nchan'), await start('nchan-publisher')];
  const publish = async (channel, body) => {
    const { status } = await fetch(`http://127.0.0.1:${publisher}/pub?channel=${channel}`, { method: 'POST', body });
    if (status !== 201 && status !== 202) throw new Error(`publishing got ${status}`);
  };
  const join = (channel) => open(`ws://127.0.0.1:${port}/ws?channel=${channel}`);
  const sockets = [await join('yard:a'), await join('yard:a')];
  const other = await join('yard:b');
  for (const [channel, members] of [['yard:a', sockets], ['yard:b', [other]]]) {
    const first = Promise.all(members.map((socket) => socket.next()));
    let live = false;
    first.then(() => (live = true));
    await publish(channel, 'warm');
    while (!live) await new Promise(setImmediate);
  }
  for (const text of [payload, 'x'.repeat(70_000)]) {
    await publish('yard:a', text);
    for (const socket of sockets) same(await socket.next(), text);
  }
  await publish('yard:b', 'other');
  same(await other.next(), 'other');
}

async function write(name, redis, database) {
  const port = await start(name);
  const events = redis.duplicate();
  const location = `loc-${process.pid}-${name}`;
  await events.psubscribe(`yard:${location}:*`);
  const token = jwt.sign({ sub: 'doc123', role: 'user', locations: [location] }, env.JWT_SECRET, { expiresIn: 60 });
  const send = (bearer, body) =>
    fetch(`http://127.0.0.1:${port}/chat/send`, {
      method: 'POST',
      headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
      body: JSON.stringify({ location_id: location, sender_user_id: 'doc123', ...body }),
    });
  const numbered = name.endsWith('-seq');
  const table = numbered ? 'yard_ordered_messages' : 'yard_messages';
  for (const seq of [1, 2, 3]) {
    const event = once(events, 'pmessage');
    const answer = await send(token, { receiver_contact_id: 'pat456', content: payload });
    same(answer.status, 201);
    const json = await answer.text();
    const message = JSON.parse(json);
    same(message.content, payload);
    if (numbered) same(message.seq, seq);
    const { rows } = await database.query(`select * from ${table} where id = $1`, [message.id]);
    same(rows[0].content, payload);
    if (numbered) same(Number(rows[0].seq), seq);
    same((await event).slice(1).join(' '), `yard:${location}:${first}:${second} ${json}`);
  }
  const both = await Promise.all(
    [...'abcdefghij'].map((content) => send(token, { receiver_contact_id: 'pat456', content }).then((a) => a.json())),
  );
  if (numbered) same(both.map((m) => m.seq).sort((a, b) => a - b).join(), '4,5,6,7,8,9,10,11,12,13');
  const forged = jwt.sign({ sub: 'doc123' }, 'another secret of thirty-two bytes', { expiresIn: 60 });
  const expired = jwt.sign({ sub: 'doc123' }, env.JWT_SECRET, { expiresIn: -60 });
  for (const bad of [forged, expired]) same((await send(bad, { receiver_contact_id: 'p', content: 'x' })).status, 401);
  same((await send(token, { content: 'nobody gets it' })).status, 400);
  events.disconnect();
}

const redis = new Redis(process.env.REDIS_URL);
const database = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const wanted = process.argv.slice(2);
let failed = 0;
for (const line of execFileSync(run, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
  const [name, kind, state] = line.split('\t');
  if (name === 'nchan-publisher' || (wanted.length > 0 && !wanted.includes(name))) continue;
  let outcome = state;
  if (state === 'ok') {
    const deadline = new Promise((_, reject) => setTimeout(reject, 30_000, new Error('took too long')).unref());
    const check = name === 'nchan' ? nchan() : kind === 'relay' ? relay(name, redis) : write(name, redis, database);
    outcome = await Promise.race([check, deadline]).then(() => 'ok', (error) => `failed: ${error.message}`);
  }
  for (const child of running) child.kill();
  running = [];
  if (outcome !== 'ok') failed += 1;
  console.log(`${name}\t${outcome}`);
}
process.exit(failed === 0 ? 0 : 1);
