// What the write peers in JavaScript share: token, body, pool, answer.
import { createSecretKey, randomUUID } from 'node:crypto';
import Fastify from 'fastify';
import { Redis } from 'ioredis';
import jwt from 'jsonwebtoken';
import pg from 'pg';

const { DATABASE_URL, JWT_SECRET, PG_CONNECTIONS, PORT, REDIS_URL, SECRET } = process.env;
// jsonwebtoken tries a string as a public key first, at every token, and throws and catches: most of its time.
const secret = SECRET === 'string' ? JWT_SECRET : createSecretKey(Buffer.from(JWT_SECRET));
const bearer = /^Bearer (.+)$/;

const id = { type: 'string', minLength: 1, maxLength: 64 };
const body = {
  type: 'object',
  required: ['location_id', 'content'],
  properties: {
    location_id: id,
    sender_user_id: id,
    sender_contact_id: id,
    receiver_user_id: id,
    receiver_contact_id: id,
    content: { type: 'string', minLength: 1, maxLength: 8000 },
  },
};

// Runs the server. `schema` makes the tables; `store(pool, message)` writes one and returns what it adds to the answer.
export async function serve(schema, store) {
  const pool = new pg.Pool({ connectionString: DATABASE_URL, max: Number(PG_CONNECTIONS ?? 16) });
  const redis = new Redis(REDIS_URL);
  await Promise.all([pool.query(schema), redis.ping()]);

  const app = Fastify();
  app.post('/chat/send', { schema: { body } }, async (request, reply) => {
    try {
      jwt.verify(bearer.exec(request.headers.authorization)?.[1], secret, { algorithms: ['HS256'] });
    } catch {
      return reply.code(401).send({ title: 'Unauthorized' });
    }
    const message = { id: randomUUID(), ...request.body, sent_at: new Date().toISOString() };
    const pair = participants(message);
    if (!pair) return reply.code(400).send({ title: 'Exactly one sender and one receiver' });
    const json = JSON.stringify({ ...message, ...(await store(pool, message, pair)), is_read: false });
    await redis.publish(`yard:${message.location_id}:${pair[0]}:${pair[1]}`, json);
    return reply.code(201).type('application/json').send(json);
  });
  await app.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 4096 });
  console.log('ready');
}

function participants(message) {
  const sender = participant(message.sender_user_id, message.sender_contact_id);
  const receiver = participant(message.receiver_user_id, message.receiver_contact_id);
  if (!sender || !receiver) return undefined;
  return sender < receiver ? [sender, receiver] : [receiver, sender];
}

function participant(user, contact) {
  if (user && contact) return undefined;
  return (user && `user:${user}`) || (contact && `contact:${contact}`);
}
