// The served OpenAPI document, tried as a person tries it in Swagger UI: each operation, in the order of the document, with the examples
// that it gives and nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";

const { ADMIN_TOKEN, BASE_URL } = process.env;
const TIMEOUT_MS = 20_000;

const ask = (path, options) => fetch(BASE_URL + path, { signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
const served = await (await ask("/openapi.json")).json();

/** All operations, in the order of the document. */
const operations = Object.entries(served.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })));
const operation = (id) => operations.find(({ operationId }) => operationId === id);

const bodyOf = ({ requestBody }) => requestBody?.content["application/json"].example;

/** The query that Swagger UI fills in: examples, and defaults where there are none. */
function queryOf({ parameters = [] }) {
  const query = new URLSearchParams();
  for (const { name, example, required, schema } of parameters) {
    const value = example ?? schema.default;
    assert.ok(value !== undefined || !required, `${name} has an example`);
    for (const one of value === undefined ? [] : [value].flat()) query.append(name, one);
  }
  return query.size ? `?${query}` : "";
}

/** Calls an operation with its examples, as the bearer of `tokens`. */
async function call(operation, tokens, body = bodyOf(operation)) {
  const scheme = Object.keys(operation.security[0] ?? {})[0];
  const headers = { ...(scheme && { Authorization: `Bearer ${tokens[scheme]}` }), ...(body && { "Content-Type": "application/json" }) };
  const response = await ask(operation.path + queryOf(operation), { method: operation.method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, answer: text && JSON.parse(text), text };
}

async function demoToken(more = {}) {
  const issue = operation("issueDevToken");
  const { status, answer } = await call(issue, {}, { ...bodyOf(issue), ...more });
  assert.equal(status, 200);
  return answer.token;
}

test("each operation succeeds with its examples, in the order of the document", async () => {
  assert.equal(operations[0].operationId, "issueDevToken", "a newcomer needs a token first");
  const tokens = { token: await demoToken(), adminToken: ADMIN_TOKEN };
  for (const operation of operations) {
    const { status, text } = await call(operation, tokens);
    assert.ok(status >= 200 && status < 300, `${operation.operationId}: ${status} ${text}`);
    assert.ok(String(status) in operation.responses, `${operation.operationId}: ${status} is documented`);
  }
  assert.equal(operations.length, 11);
});

test("example ids that name no message are not found, and ids of earlier answers are", async () => {
  const doctor = { token: await demoToken() };
  const patient = { token: await demoToken({ sub: "pat456", role: "contact" }) };
  const sent = await call(operation("sendMessage"), doctor);
  assert.equal(sent.status, 201);
  const history = await call(operation("getHistory"), patient);
  assert.ok(history.answer.messages.some(({ id }) => id === sent.answer.id));
  for (const id of ["markDelivered", "markRead"]) {
    const example = bodyOf(operation(id));
    for (const who of [doctor, patient]) {
      const { status, answer } = await call(operation(id), who);
      assert.deepEqual([status, answer], [200, { marked: [], not_found: example.message_ids }]);
    }
    const { status, answer } = await call(operation(id), patient, { message_ids: [sent.answer.id, ...example.message_ids] });
    assert.deepEqual([status, answer.marked.map(({ id }) => id), answer.not_found], [200, [sent.answer.id], example.message_ids]);
  }
  const inbox = await call(operation("listConversations"), patient);
  assert.equal(inbox.answer.conversations[0].last_message.is_read, true);
  const presence = await call(operation("getPresence"), doctor);
  assert.deepEqual(presence.answer.participants.map(({ contact_id }) => contact_id), ["pat456"]);
});

test("tags stand in the order of their first operation", () => {
  const used = [...new Set(operations.flatMap(({ tags }) => tags))];
  assert.deepEqual(served.tags.map(({ name }) => name), used);
  assert.ok(served.tags.every(({ description }) => description));
});
