// Fastify, pg, ioredis: one insert and one publish a request. The statement has a name, so it is prepared once a connection.
import { serve } from './request.js';

const schema = `create table if not exists yard_messages (
  id uuid primary key,
  location_id text not null,
  sender_user_id text,
  sender_contact_id text,
  receiver_user_id text,
  receiver_contact_id text,
  content text not null,
  sent_at timestamptz not null
)`;

const text = `insert into yard_messages (id, location_id, sender_user_id, sender_contact_id,
  receiver_user_id, receiver_contact_id, content, sent_at) values ($1, $2, $3, $4, $5, $6, $7, $8)`;

await serve(schema, async (pool, m) => {
  const values = [m.id, m.location_id, m.sender_user_id, m.sender_contact_id];
  values.push(m.receiver_user_id, m.receiver_contact_id, m.content, m.sent_at);
  await pool.query({ name: 'insert', text, values });
});
