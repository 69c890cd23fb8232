// The like-for-like peer: the message gets the next number of its conversation, in a transaction, as one writes it by hand.
import { readFile } from 'node:fs/promises';
import { serve } from './request.js';

const schema = await readFile(new URL('ordered.sql', import.meta.url), 'utf8');

const bump = `update yard_conversations set last_seq = last_seq + 1
  where location_id = $1 and first = $2 and second = $3 returning id, last_seq`;
const open = `insert into yard_conversations (location_id, first, second) values ($1, $2, $3) on conflict do nothing`;
const insert = `insert into yard_ordered_messages (id, conversation_id, seq, location_id, sender_user_id,
  sender_contact_id, receiver_user_id, receiver_contact_id, content, sent_at)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`;

await serve(schema, async (pool, m, pair) => {
  const conversation = [m.location_id, ...pair];
  const client = await pool.connect();
  try {
    await client.query('begin');
    let { rows } = await client.query({ name: 'bump', text: bump, values: conversation });
    if (rows.length === 0) {
      await client.query({ name: 'open', text: open, values: conversation });
      ({ rows } = await client.query({ name: 'bump', text: bump, values: conversation }));
    }
    const [{ id, last_seq: seq }] = rows;
    const values = [m.id, id, seq, m.location_id, m.sender_user_id, m.sender_contact_id];
    values.push(m.receiver_user_id, m.receiver_contact_id, m.content, m.sent_at);
    await client.query({ name: 'insert', text: insert, values });
    await client.query('commit');
    return { conversation_id: id, seq: Number(seq) };
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
});
