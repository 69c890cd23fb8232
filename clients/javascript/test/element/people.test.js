// Names, birth dates and record numbers of the page's `resolve`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { PeopleDirectory } from "../../element/people/people-directory.js";
import { createLanguage } from "../../element/strings/index.js";

const language = createLanguage(["en-GB"]);
const patient = (id) => ({ contact_id: id });
const changed = (people) => new Promise((resolve) => { const off = people.on("change", () => { off(); resolve(undefined); }); });

test("an answer at once is shown at once", () => {
  const people = new PeopleDirectory(() => ({ name: "Maria Santos", birth_date: "1984-03-12", record_number: "100234" }), { language });
  const { name, details, about } = people.get(patient("pat456"));
  assert.deepEqual([name, details, about], ["Maria Santos", "born 12 Mar 1984 · record 100234", "Patient"]);
});

test("a late answer replaces the identifier, and one question serves all", async () => {
  let asked = 0;
  const people = new PeopleDirectory(async () => { asked++; return { name: "Dr. Amara Okafor", about: "Cardiology" }; }, { language });
  assert.equal(people.get({ user_id: "doc1" }).name, "doc1");
  people.get({ user_id: "doc1" });
  await changed(people);
  assert.deepEqual([people.get({ user_id: "doc1" }).name, people.get({ user_id: "doc1" }).about, asked], ["Dr. Amara Okafor", "Cardiology", 1]);
});

test("failures leave the identifier, and are tried again after a while", async () => {
  let now = 0;
  let asked = 0;
  const answers = [() => { throw new Error("no"); }, () => Promise.reject(new Error("no")), () => null, () => 7, () => ({ name: "Maria Santos" })];
  const people = new PeopleDirectory(() => answers[asked++](), { language, now: () => now });
  for (let failure = 1; failure <= 4; failure++) {
    assert.equal(people.get(patient("pat1")).name, "pat1");
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(people.get(patient("pat1")).name, "pat1");
    assert.equal(asked, failure, "not before the wait has ended");
    now += 30_000;
  }
  assert.equal(people.get(patient("pat1")).name, "Maria Santos");
});

test("a question without an answer counts as failed after a while, and the first answer counts", async () => {
  let now = 0;
  const answers = [];
  const people = new PeopleDirectory(() => new Promise((resolve) => answers.push(resolve)), { language, now: () => now });
  people.get(patient("pat1"));
  now = 29_999;
  people.get(patient("pat1"));
  assert.equal(answers.length, 1);
  now = 30_000;
  assert.equal(people.get(patient("pat1")).name, "pat1");
  assert.equal(answers.length, 2, "it asks again");
  answers[1]({ name: "Maria Santos" });
  await changed(people);
  answers[0]({ name: "Mario Santos" });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(people.get(patient("pat1")).name, "Maria Santos");
});

test("the answer for a person whom the directory has forgotten leaves others unambiguous", async () => {
  let answerFirst;
  const kim = { name: "Dr. Kim", about: "Surgery" };
  const people = new PeopleDirectory(({ user_id }) => (user_id === "first" ? new Promise((resolve) => { answerFirst = resolve; }) : user_id === "kim" ? kim : { name: user_id }), { language });
  people.get({ user_id: "first" });
  for (let index = 0; index < 5_000; index++) people.get({ user_id: `other${index}` });
  people.get({ user_id: "kim" });
  answerFirst(kim);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(people.get({ user_id: "kim" }).details, "");
});

test("two patients of the same name never look the same", () => {
  const answers = {
    a: { name: "Maria Santos", birth_date: "1984-03-12", record_number: "1" }, b: { name: "Maria Santos", birth_date: "1991-07-01", record_number: "2" },
    c: { name: "Maria Santos", birth_date: "2000-01-01" }, d: { name: "Maria Santos", birth_date: "2000-01-01" }, e: { name: "Maria Santos" }, f: { name: "Maria Santos" },
  };
  const people = new PeopleDirectory(({ contact_id }) => answers[contact_id], { language });
  for (const id of Object.keys(answers)) people.get(patient(id));
  const shown = Object.keys(answers).map((id) => { const { name, details } = people.get(patient(id)); return `${name}, ${details}`; });
  assert.equal(new Set(shown).size, shown.length, shown.join("\n"));
  assert.equal(shown[0], "Maria Santos, born 12 Mar 1984 · record 1", "no identifier where the details suffice");
});

test("two staff members who look the same get their identifiers, also when the second answer is late", async () => {
  const people = new PeopleDirectory(async () => ({ name: "Dr. Kim", about: "Surgery" }), { language });
  people.get({ user_id: "kim1" });
  await changed(people);
  assert.equal(people.get({ user_id: "kim1" }).details, "");
  people.get({ user_id: "kim2" });
  await changed(people);
  assert.deepEqual(["kim1", "kim2"].map((user_id) => people.get({ user_id }).details), ["ID kim1", "ID kim2"]);
});

test("a birth date keeps its day in every time zone, and other texts stay", () => {
  for (const zone of ["Pacific/Auckland", "America/Los_Angeles", "UTC"]) {
    process.env.TZ = zone;
    assert.equal(createLanguage(["de-DE"]).dates.formatBirthDate("1984-03-12"), "12.03.1984", zone);
  }
  delete process.env.TZ;
  assert.equal(language.dates.formatBirthDate("1984"), "1984");
  assert.equal(language.dates.formatBirthDate("<b>"), "<b>");
});

test("without resolve, identifiers are shown", () => {
  const people = new PeopleDirectory(null, { language });
  assert.deepEqual(people.get(patient("pat1")), { name: "pat1", about: "Patient", born: "", record: "", details: "" });
});
