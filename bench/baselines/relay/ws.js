// ws under Node.js: the usual way to do it.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { channelOf, fail, port, subscriptions } from './subscriptions.js';

const channels = new Map();
const { join, leave } = await subscriptions((channel, payload) => {
  const sockets = channels.get(channel);
  if (!sockets) return;
  // Bytes, so that the text is encoded once and not for each socket.
  const bytes = Buffer.from(payload);
  for (const socket of sockets) socket.send(bytes, { binary: false });
});

const http = createServer((_, response) => response.writeHead(426).end());
const server = new WebSocketServer({ server: http, path: '/ws', perMessageDeflate: false });
server.on('connection', (socket, request) => {
  const channel = channelOf(request.url);
  if (!channel) return socket.close(1008);
  const sockets = channels.get(channel) ?? new Set();
  channels.set(channel, sockets);
  sockets.add(socket);
  join(channel);
  socket.on('error', () => {});
  socket.on('close', () => {
    sockets.delete(socket);
    if (sockets.size === 0) channels.delete(channel);
    leave(channel);
  });
});
http.on('error', fail);
http.listen({ port, host: '127.0.0.1', backlog: 4096 }, () => console.log('ready'));
