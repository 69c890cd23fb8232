// One Redis subscription a channel, however many sockets want it. For every relay in JavaScript.
import { Redis } from 'ioredis';

export const port = Number(process.env.PORT);

// Connects; the caller gets each message as (channel, payload), both strings.
export async function subscriptions(deliver) {
  const redis = new Redis(process.env.REDIS_URL, { lazyConnect: true, retryStrategy: () => null });
  redis.on('error', fail);
  redis.on('end', () => fail(new Error('Redis hung up')));
  await redis.connect();
  await redis.ping();
  redis.on('message', deliver);
  const counts = new Map();
  return {
    join(channel) {
      const count = counts.get(channel) ?? 0;
      counts.set(channel, count + 1);
      if (count === 0) redis.subscribe(channel).catch(fail);
    },
    leave(channel) {
      const count = counts.get(channel);
      if (count > 1) return counts.set(channel, count - 1);
      counts.delete(channel);
      redis.unsubscribe(channel).catch(fail);
    },
  };
}

// NAME of /ws?channel=NAME, as it stands; undefined when there is none.
export function channelOf(query) {
  return /(?:^|[?&])channel=([^&]+)/.exec(query ?? '')?.[1];
}

export function fail(error) {
  console.error(error.message);
  process.exit(1);
}
