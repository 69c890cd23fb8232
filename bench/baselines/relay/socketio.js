// socket.io with its Redis adapter, on plain WebSockets. README.md says what its frames look like.
import { createServer } from 'node:http';
import { Redis } from 'ioredis';
import { Server } from 'socket.io';
import { createAdapter } from '@socket.io/redis-adapter';
import { fail, port, subscriptions } from './subscriptions.js';

const publisher = new Redis(process.env.REDIS_URL);
const subscriber = publisher.duplicate();
for (const redis of [publisher, subscriber]) redis.on('error', fail);

const http = createServer();
const io = new Server(http, {
  path: '/ws',
  transports: ['websocket'],
  serveClient: false,
  perMessageDeflate: false,
  adapter: createAdapter(publisher, subscriber),
});
const { join, leave } = await subscriptions((channel, payload) => io.local.to(channel).emit('m', payload));

// Middleware ends before the client learns that it is connected: by then it is in its room.
io.use((socket, next) => {
  const { channel } = socket.handshake.query;
  if (!channel) return next(new Error('no channel'));
  socket.join(channel);
  next();
});
io.on('connection', (socket) => {
  const { channel } = socket.handshake.query;
  join(channel);
  socket.on('disconnect', () => leave(channel));
});
await Promise.all([publisher.ping(), subscriber.ping()]);
http.on('error', fail);
http.listen({ port, host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'));
