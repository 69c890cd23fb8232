// A server in memory that follows the contract: history, sends, receipts, inbox, and sockets that resume from a log. A test causes the
// faults: `intercept` rejects or loses requests, `cutAll` cuts sockets, an empty `log` prevents a resume.

import { Buffer } from "node:buffer";

export const DOCTOR = { user_id: "doc123" };
export const PATIENT = { contact_id: "pat456" };

export function token(who, name = "1", more = {}) {
  const claims = { sub: who.user_id ?? who.contact_id, role: who.user_id ? "user" : "contact", locations: ["loc1"], exp: 4102444800, jti: name, ...more };
  return `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.${name}`;
}

function whoIs(jwt) {
  const { sub, role } = JSON.parse(Buffer.from(jwt.split(".")[1], "base64url"));
  return role === "user" ? { user_id: sub } : { contact_id: sub };
}

const CODES = { 401: "token_expired", 403: "forbidden", 422: "invalid_input", 429: "rate_limited", 500: "internal_error", 503: "overloaded" };

/** A problem body of this server: see `Problem` in shared/src/contract/http/problem.rs. */
export function problem(status, detail, more = {}) {
  return {
    status, headers: { "Content-Type": "application/problem+json", ...more.headers },
    body: { type: "about:blank", title: `Status ${status}`, status, detail, code: CODES[status], request_id: "r1", ...more.body },
  };
}

/** Pages of intermediaries, with any status. */
export const PAGES = [
  (status) => ({ status, headers: { "Content-Type": "text/html" }, text: "<!doctype html><title>Oops</title><h1>Nothing here</h1>" }),
  (status) => ({ status, headers: { "Content-Type": "application/json" }, text: '{"error":"forbidden","message":"blocked by policy"}' }),
  (status) => ({ status, headers: { "Content-Type": "application/problem+json" }, text: `{"type":"about:blank","title":"Blocked","status":${status},"detail":"not for you"}` }),
  (status) => ({ status, headers: { "Content-Type": "application/problem+json" }, text: '{"title":"Blocked","status":299,"request_id":"x"}' }),
  (status) => ({ status, headers: {}, text: "" }),
  (status) => ({ status, headers: { "Content-Type": "application/json" }, text: JSON.stringify({ type: "about:blank", title: "Blocked", status, detail: "not for you", request_id: "x" }) }),
];

export class FakeServer {
  messages = [];
  log = []; // { cursor, frame }
  requests = []; // { method, path, query, body }
  handshakes = []; // { query, token, socket }
  refusedTokens = new Set();
  /** Bytes per second of each response; null sets no limit. */
  speed = null;
  /**
   * May replace the response: { status, body or text, headers }, "request-lost" (the server gets nothing), "response-lost" (the client gets
   * nothing), "no-response" (until the client aborts), "ignores-abort" (for ever).
   */
  intercept = () => null;
  /** Returns whether the server accepts a handshake. */
  handshake = () => true;
  unread = new Map();
  #cursor = 1000;

  constructor(clock) {
    this.clock = clock;
    const server = this;
    this.WebSocket = class {
      readyState = 0;
      sent = [];
      constructor(url, protocols) {
        const { searchParams } = new URL(url);
        this.query = Object.fromEntries(searchParams);
        this.token = protocols[1].slice("bearer.".length);
        this.me = whoIs(this.token);
        server.handshakes.push(this);
        queueMicrotask(() => server.#connect(this));
      }
      send(data) {
        this.sent.push(JSON.parse(data));
        server.#receive(this, JSON.parse(data));
      }
      close() {
        this.readyState = 3;
      }
      /** Sends a frame to the client. */
      give(frame) {
        if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify(frame) });
      }
      cut(code = 1006, reason = "") {
        if (this.readyState === 3) return;
        this.readyState = 3;
        this.onclose?.({ code, reason });
      }
    };
    this.fetch = async (url, init) => {
      await null;
      const { pathname, searchParams } = new URL(url);
      const request = {
        method: init.method, path: pathname, query: Object.fromEntries(searchParams),
        body: init.body && JSON.parse(init.body), token: init.headers.Authorization.slice("Bearer ".length),
      };
      this.requests.push(request);
      const instead = await this.intercept(request);
      if (instead === "request-lost") throw new TypeError("fetch failed");
      if (instead === "no-response") return new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(init.signal.reason)));
      if (instead === "ignores-abort") return new Promise(() => {});
      const response = instead && instead !== "response-lost" ? instead : this.#serve(request);
      if (instead === "response-lost") throw new TypeError("fetch failed");
      const text = response.text ?? JSON.stringify(response.body);
      if (response.status === 204) return new Response(null, { status: 204 });
      return new Response(this.speed === null ? text : this.#slowly(text), { status: response.status, headers: { "Content-Type": "application/json", ...response.headers } });
    };
  }

  /** A stream of the text at `speed`. */
  #slowly(text) {
    const bytes = new TextEncoder().encode(text);
    const piece = Math.max(Math.floor(this.speed / 10), 1);
    let at = 0;
    let cancel = () => {};
    return new ReadableStream({
      pull: (controller) => new Promise((done) => {
        cancel = this.clock.after(100, () => {
          if (at < bytes.length) controller.enqueue(bytes.slice(at, at + piece));
          at += piece;
          if (at >= bytes.length) controller.close();
          done();
        });
      }),
      cancel: () => cancel(),
    }, { highWaterMark: 0 });
  }

  get live() {
    return this.handshakes.filter((socket) => socket.readyState === 1);
  }

  /** Frames are lost until the test calls the returned function. */
  pauseDelivery() {
    const { live } = this;
    for (const socket of live) socket.readyState = 0;
    return () => { for (const socket of live) if (socket.readyState === 0) socket.readyState = 1; };
  }

  cutAll(code, reason) {
    for (const socket of this.live) socket.cut(code, reason);
  }

  /** Stores and publishes a message, as if another client had sent it. */
  write(from, content, more = {}) {
    const to = from.user_id ? PATIENT : DOCTOR;
    const message = {
      id: `m${this.messages.length + 1}`, conversation_id: "c1", seq: this.messages.length + 1, location_id: "loc1",
      ...(from.user_id ? { sender_user_id: from.user_id } : { sender_contact_id: from.contact_id }),
      ...(to.user_id ? { receiver_user_id: to.user_id } : { receiver_contact_id: to.contact_id }),
      content, client_message_id: null, sent_at: new Date(this.clock.now()).toISOString(), delivered_at: null, read_at: null,
      is_read: false, ...more,
    };
    this.messages.push(message);
    this.publish({ type: "message", message: { ...message } });
    return message;
  }

  receipt(kind, ids) {
    const at = new Date(this.clock.now()).toISOString();
    const changed = this.messages.filter((message) => ids.includes(message.id) && !message[`${kind}_at`]);
    for (const message of changed) {
      message[`${kind}_at`] = at;
      if (kind === "read") Object.assign(message, { is_read: true, delivered_at: message.delivered_at ?? at });
    }
    if (changed.length > 0) this.publish({ type: kind, message_ids: changed.map(({ id }) => id), [`${kind}_at`]: at });
    return changed;
  }

  publish(frame) {
    const event = { ...frame, cursor: String(++this.#cursor) };
    this.log.push(event);
    for (const socket of this.live) if (!isInbox(socket.query)) socket.give(event);
    if (frame.type === "message" || frame.type === "read") for (const socket of this.live) if (isInbox(socket.query)) socket.give({ type: "conversation", conversation: this.row(socket.me) });
  }

  broadcast(frame) {
    for (const socket of this.live) socket.give(frame);
  }

  row(me) {
    const theirs = this.messages.filter((message) => !message.read_at && (me.user_id ? !message.sender_user_id : !message.sender_contact_id));
    const last = this.messages.at(-1);
    return {
      conversation_id: "c1", location_id: "loc1", ...DOCTOR, ...PATIENT, last_message: { ...last }, unread_count: theirs.length,
      ...(theirs.length > 0 ? { first_unread_seq: theirs[0].seq } : {}),
      last_activity_at: last.sent_at,
    };
  }

  #connect(socket) {
    if (socket.readyState !== 0) return;
    if (this.refusedTokens.has(socket.token) || !this.handshake(socket)) return socket.cut(1006);
    socket.readyState = 1;
    const { cursor } = socket.query;
    if (isInbox(socket.query)) return socket.give({ type: "ready" });
    const at = this.log.findIndex((event) => event.cursor === cursor);
    const resumed = cursor === undefined ? null : at >= 0;
    const tail = this.log.at(-1)?.cursor ?? this.#mark();
    socket.give({ type: "ready", conversation_id: "c1", cursor: resumed ? cursor : tail, resumed });
    if (resumed) for (const event of this.log.slice(at + 1)) socket.give(event);
  }

  #mark() {
    this.log.push({ type: "mark", cursor: String(++this.#cursor) });
    return String(this.#cursor);
  }

  #receive(socket, frame) {
    if (frame.type === "ping") socket.give({ type: "pong" });
    if (frame.type === "auth") {
      if (this.refusedTokens.has(frame.token)) socket.give({ type: "error", code: "unauthorized", cause: "token_revoked", detail: "The token was revoked. Sign in again." });
      else { socket.token = frame.token; socket.give({ type: "authenticated", expires_at: "2100-01-01T00:00:00Z" }); }
    }
  }

  #serve({ method, path, query, body, token }) {
    if (this.refusedTokens.has(token)) return problem(401, "token has expired");
    const me = whoIs(token);
    switch (`${method} ${path}`) {
      case "GET /chat/history": {
        const limit = Number(query.limit ?? 50);
        const after = query.after === undefined ? null : Number(query.after);
        const before = query.before === undefined ? Infinity : Number(query.before);
        const found = this.messages.filter(({ seq }) => (after === null ? seq < before : seq > after));
        const messages = after === null ? found.slice(-limit) : found.slice(0, limit);
        return { status: 200, body: { conversation_id: "c1", messages: structuredClone(messages), has_more: found.length > messages.length } };
      }
      case "POST /chat/send": {
        if (body.content === "refuse me") return problem(422, "/content is odd", { body: { errors: [{ pointer: "/content", detail: "is odd" }] } });
        const known = this.messages.find((message) => message.client_message_id === body.client_message_id);
        if (known) return { status: 200, body: structuredClone(known) };
        return { status: 201, body: structuredClone(this.write(me, body.content, { client_message_id: body.client_message_id })) };
      }
      case "PUT /chat/read":
      case "PUT /chat/delivered": {
        this.receipt(path.slice("/chat/".length), body.message_ids);
        const marked = this.messages.filter(({ id }) => body.message_ids.includes(id)).map(({ id, delivered_at, read_at }) => ({ id, delivered_at, read_at }));
        return { status: 200, body: { marked, not_found: [] } };
      }
      case "GET /chat/conversations":
        return { status: 200, body: { conversations: this.messages.length > 0 ? [this.row(me)] : [], next_cursor: null } };
      case "GET /chat/presence":
        return { status: 200, body: { participants: [{ ...(query.user_id ? { user_id: query.user_id } : { contact_id: query.contact_id }), online: true, last_seen_at: null }] } };
    }
    return problem(404, "there is nothing at this path");
  }
}

function isInbox(query) {
  return !(query.contact_id && query.user_id) && !query.peer_user_id;
}
