// A client with the types that openapi-typescript generates from openapi.yaml sends, reads and marks. tsc checks this file first. The
// annotations and the `@ts-expect-error` lines are tests as well.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

type Message = components["schemas"]["Message"];
type Problem = components["schemas"]["Problem"];

const client = (token: string | undefined) =>
  createClient<paths>({ baseUrl: process.env.BASE_URL ?? "", headers: { Authorization: `Bearer ${token}` } });
const doctor = client(process.env.DOCTOR_TOKEN);
const patient = client(process.env.PATIENT_TOKEN);
const query = { location_id: "loc1", user_id: "doc123", contact_id: "pat456" };

/** A value that must be there, for the compiler and at run time. */
function present<T>(value: T | null | undefined): T {
  assert.ok(value !== null && value !== undefined);
  return value;
}

async function send(content: string): Promise<Message> {
  const { data, error, response } = await doctor.POST("/chat/send", {
    body: { location_id: "loc1", sender_user_id: "doc123", receiver_contact_id: "pat456", content, client_message_id: randomUUID() },
  });
  assert.equal(response.status, 201, JSON.stringify(error));
  return present(data);
}

test("a sent message is read back with its types", async () => {
  const message = await send("Hello patient!");
  const seq: number = message.seq;
  const readAt: string | null = message.read_at;
  assert.ok(seq >= 1 && readAt === null && message.is_read === false);
  const { data } = await patient.GET("/chat/history", { params: { query: { ...query, after: seq - 1 } } });
  assert.deepEqual(data?.messages, [message]);
  assert.equal(data.has_more, false);
});

test("marks and the inbox are typed", async () => {
  const message = await send("Are you there?");
  const { data: marks } = await patient.PUT("/chat/read", { body: { message_ids: [message.id] } });
  assert.equal(marks?.marked[0]?.id, message.id);
  const { data: inbox } = await patient.GET("/chat/conversations", { params: { query: { location_id: "loc1" } } });
  const row = present(inbox?.conversations[0]);
  const unread: number = row.unread_count;
  assert.equal(row.last_message.id, message.id);
  assert.ok(unread >= 0 && row.contact_id === "pat456" && row.peer_user_id === undefined);
});

test("presence of several participants is typed", async () => {
  await send("Are you online?");
  const people = { user_id: ["doc123"], contact_id: ["pat456", "unknown"] };
  const { data } = await doctor.GET("/chat/presence", { params: { query: { location_id: "loc1", ...people } } });
  assert.deepEqual(data?.participants, [
    { user_id: "doc123", online: false, last_seen_at: null }, { contact_id: "pat456", online: false, last_seen_at: null },
  ]);
  const seen: string | null = present(data.participants[1]).last_seen_at;
  assert.equal(seen, null);
  const { data: other } = await patient.GET("/chat/presence", { params: { query: { location_id: "loc1", user_id: ["doc123"] } } });
  const online: boolean = present(other?.participants[0]).online;
  assert.equal(online, false);
});

test("failures are typed problems", async () => {
  const { error, response } = await client("nonsense").GET("/chat/history", { params: { query } });
  const problem: Problem = present(error);
  const code: Problem["code"] = "token_malformed";
  assert.deepEqual([response.status, problem.status, problem.title, problem.code], [401, 401, "Unauthorized", code]);
  assert.equal(problem.request_id, response.headers.get("x-request-id"));
});

test("the compiler rejects what the service rejects", async () => {
  // @ts-expect-error content is missing
  const missing = await doctor.POST("/chat/send", { body: { location_id: "loc1", sender_user_id: "doc123", receiver_contact_id: "pat456" } });
  assert.equal(missing.response.status, 422);
  // @ts-expect-error message_ids are strings
  const wrong = await doctor.PUT("/chat/read", { body: { message_ids: [1] } });
  assert.equal(wrong.response.status, 422);
  // @ts-expect-error location_id is missing
  const nowhere = await doctor.GET("/chat/conversations", { params: { query: {} } });
  assert.equal(nowhere.response.status, 422);
  // @ts-expect-error location_id is missing
  const unplaced = await doctor.GET("/chat/presence", { params: { query: { contact_id: ["pat456"] } } });
  assert.equal(unplaced.response.status, 422);
});
