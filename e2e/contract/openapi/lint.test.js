// openapi.yaml as Redocly and Spectral see it: no error, and no warning but those named here. Both find mistakes in it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { createConfig, lintFromString } from "@redocly/openapi-core";
import spectralCore from "@stoplight/spectral-core";
import spectralParsers from "@stoplight/spectral-parsers";
import spectralRulesets from "@stoplight/spectral-rulesets";
import { dump, load } from "js-yaml";

const text = readFileSync(process.env.DOCUMENT, "utf8");

async function redocly(source) {
  const config = await createConfig({ extends: ["recommended"] });
  const problems = await lintFromString({ source, absoluteRef: process.env.DOCUMENT, config });
  return problems.map(({ severity, ruleId, location }) => `${severity}: ${ruleId} ${location[0]?.pointer ?? ""}`);
}

async function spectral(source) {
  const linter = new spectralCore.Spectral();
  linter.setRuleset({ extends: [[spectralRulesets.oas, "recommended"]] });
  const found = await linter.run(new spectralCore.Document(source, spectralParsers.Yaml, "openapi.yaml"));
  return found.map(({ severity, code, path }) => `${["error", "warn"][severity] ?? "hint"}: ${code} ${path.join("/")}`);
}

test("Redocly reports no error", async () => {
  // Health answers every caller, so nothing is wrong with a request.
  const known = ["~1healthz", "~1readyz"].map((path) => `warn: operation-4xx-response #/paths/${path}/get/responses`);
  assert.deepEqual(await redocly(text), known);
});

test("Spectral reports no error", async () => {
  // The project has no address of its own.
  assert.deepEqual(await spectral(text), ["warn: info-contact info"]);
});

const mistakes = {
  "a reference that leads nowhere": (it) => (it.paths["/chat/send"].post.requestBody.content["application/json"].schema.$ref = "#/components/schemas/Nothing"),
  "an operation without a word on its token": (it) => delete it.paths["/healthz"].get.security,
  "an example that does not fit": (it) => (it.paths["/chat/send"].post.requestBody.content["application/json"].example.content = 1),
  "a schema that is none": (it) => (it.components.schemas.Message.properties.seq.minimum = "one"),
};
for (const [name, make] of Object.entries(mistakes)) {
  test(`${name} is found`, async () => {
    const document = load(text);
    make(document);
    const found = [...await redocly(dump(document)), ...await spectral(dump(document))];
    assert.ok(found.some((problem) => problem.startsWith("error: ")), found.join("\n"));
  });
}
