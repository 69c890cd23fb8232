// asyncapi.yaml is an AsyncAPI 3.0 document without errors and warnings, for AsyncAPI's own parser and for Spectral. Both find mistakes in it.
// Each model that a generator makes of it has a name. e2e/src/contract.rs checks that its examples fit.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { TypeScriptGenerator } from "@asyncapi/modelina";
import { DiagnosticSeverity, Parser } from "@asyncapi/parser";
import spectralCore from "@stoplight/spectral-core";
import spectralParsers from "@stoplight/spectral-parsers";
import spectralRulesets from "@stoplight/spectral-rulesets";
import { dump, load } from "js-yaml";

const text = readFileSync(process.env.DOCUMENT, "utf8");

/** The errors and warnings of a document. Hints do not count. */
async function faults(document) {
  const { diagnostics } = await new Parser().parse(document);
  const serious = ({ severity }) => severity === DiagnosticSeverity.Error || severity === DiagnosticSeverity.Warning;
  return diagnostics.filter(serious).map(({ code, message, path }) => `${code} ${path.join("/")}: ${message}`);
}

test("the document is valid", async () => {
  assert.deepEqual(await faults(text), []);
});

test("Spectral reports no error", async () => {
  const linter = new spectralCore.Spectral();
  linter.setRuleset({ extends: [[spectralRulesets.asyncapi, "recommended"]] });
  const rules = async (source) => (await linter.run(new spectralCore.Document(source, spectralParsers.Yaml, "asyncapi.yaml"))).map(({ code }) => code);
  // The project has no address of its own, and most tools do not read version 3.1 yet.
  assert.deepEqual((await rules(text)).toSorted(), ["asyncapi-info-contact", "asyncapi-latest-version"]);
  assert.ok((await rules(text.replace("action: send", "action: sing"))).includes("asyncapi-3-document-resolved"));
});

/** The models of a document, by name. */
async function models(source) {
  const generated = await new TypeScriptGenerator({ modelType: "interface" }).generate(source);
  return new Map(generated.map(({ modelName, result }) => [modelName, result]));
}

test("every generated model has a name, and the fields of its schema", async () => {
  const { components } = load(text);
  const generated = await models(text);
  const anonymous = [...generated.keys()].filter((name) => /anonymous/i.test(name));
  assert.deepEqual(anonymous, []);
  for (const [name, { type, properties }] of Object.entries(components.schemas)) {
    if (type !== "object") continue;
    const fields = Object.keys(properties).map((field) => (field === "type" ? "reservedType" : field.replace(/_(.)/g, (_, letter) => letter.toUpperCase())));
    for (const field of fields) assert.match(generated.get(name) ?? "", new RegExp(`\\b${field}\\??: `), `${name}.${field}`);
  }
  // The test finds a schema without a name.
  const document = load(text);
  document.components.messages.resync.payload = { type: "object", properties: { type: { const: "resync" } } };
  assert.ok([...(await models(dump(document))).keys()].some((name) => /anonymous/i.test(name)));
});

test("the document describes both directions of the socket", async () => {
  const { document } = await new Parser().parse(text);
  assert.equal(document.version(), "3.0.0");
  const types = (action) =>
    document
      .operations()
      .all()
      .filter((operation) => operation.action() === action)
      .map((operation) => operation.messages().all().map((message) => message.payload().properties().type.const()));
  const [send, receive] = [types("send"), types("receive")];
  // Conversations and inboxes, in both directions. A message of both is described once.
  assert.deepEqual([send.length, receive.length], [2, 2]);
  for (const types of [...send, ...receive]) assert.equal(new Set(types).size, types.length, "no type twice");
  assert.ok(send.every((types) => types.includes("ready")) && receive.every((types) => types.includes("ping")));
  const all = new Set([...send.flat().map((type) => `> ${type}`), ...receive.flat().map((type) => `< ${type}`)]);
  assert.equal(all.size, document.components().messages().all().length, "each message has a direction");
});

const mistakes = {
  "a reference that leads nowhere": (it) => (it.operations.hear.messages[0].$ref = "#/channels/conversation/messages/nothing"),
  "a member that AsyncAPI does not know": (it) => (it.channels.conversationSocket.adress = "/ws"),
  "an operation without action": (it) => delete it.operations.say.action,
  "an example without payload": (it) => (it.components.messages.delivered.examples[0] = { payloads: {} }),
  "a schema that is none": (it) => (it.components.schemas.Message.properties.seq.minimum = "one"),
};
for (const [name, make] of Object.entries(mistakes)) {
  test(`${name} is found`, async () => {
    const document = load(text);
    make(document);
    assert.notDeepEqual(await faults(dump(document)), []);
  });
}
