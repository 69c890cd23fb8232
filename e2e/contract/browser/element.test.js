// `<ehr-chat>` in a page of an integrator: people, texts, themes, content, drafts, and writing with an input method.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { apartFromTheNetwork, launch, message, part, problem, send, shut, violations, write } from "./support/browser.js";
import { openPortal } from "./support/portal.js";
import { pair } from "../sdk/system.js";

before(launch);
after(shut);

const HEBREW = "האם לקחת ibuprofen 400mg?";

test("the element chats in a page with a strict policy, and takes the page's variables, parts and texts", async () => {
  const { doctor, patient } = pair();
  const style = "ehr-chat { --ehr-chat-accent: rgb(1, 2, 3) } ehr-chat::part(header) { border-top: 7px solid rgb(4, 5, 6) }";
  const one = await openPortal({ me: doctor, peer: patient, style, script: 'element.strings = { "composer.placeholder": "Write to the ward" };' });
  const two = await openPortal({ me: patient, peer: doctor });
  assert.equal(await part(one.page, "me", "send").evaluate((button) => getComputedStyle(button).backgroundColor), "rgb(1, 2, 3)");
  await send(one.page, "me", "Good morning");
  await message(two.page, "me", "Good morning", "read");
  await message(one.page, "me", "Good morning", "read");
  assert.equal(await part(one.page, "me", "header").evaluate((header) => getComputedStyle(header).borderTop), "7px solid rgb(4, 5, 6)");
  assert.equal(await part(one.page, "me", "input").getAttribute("placeholder"), "Write to the ward");
  assert.equal(await part(one.page, "me", "back").isVisible(), false);
  await one.page.evaluate(() => { window.element.setAttribute("back", ""); window.left = new Promise((resolve) => document.addEventListener("ehr-chat-back", resolve)); });
  await part(one.page, "me", "back").click();
  await one.page.evaluate(async () => { await window.left; window.element.peer = null; });
  await one.page.getByText("No conversation is open.").waitFor();
  assert.deepEqual([...one.wrong, ...two.wrong], []);
});

test("two patients of the same name are distinguishable, and names may come late or not at all", async () => {
  const { doctor, patient } = pair();
  const twin = { contact_id: `${patient.contact_id}-b` };
  const script = `
    window.answer = null;
    const people = { ${JSON.stringify(patient.contact_id)}: { name: "Maria Santos", birth_date: "1984-03-12", record_number: "100456" }, ${JSON.stringify(twin.contact_id)}: { name: "Maria Santos", birth_date: "1951-11-30", record_number: "100457" } };
    element.resolve = (person) => new Promise((resolve, reject) => { window.answer = () => person.contact_id ? resolve(people[person.contact_id]) : reject(new Error("no")); });`;
  const { page, wrong } = await openPortal({ me: doctor, peer: patient, script }, { timezoneId: "America/Los_Angeles" });
  await part(page, "me", "name").filter({ hasText: patient.contact_id }).waitFor();
  await page.evaluate(() => window.answer());
  await part(page, "me", "name").filter({ hasText: "Maria Santos" }).waitFor();
  assert.equal(await part(page, "me", "details").textContent(), "born 12 Mar 1984 · record 100456");
  assert.equal(await part(page, "me", "messages").getAttribute("aria-label"), "Messages with Maria Santos");
  await page.evaluate(() => { window.answer = null; });
  await page.evaluate((peer) => { window.element.peer = peer; }, twin);
  await part(page, "me", "name").filter({ hasText: twin.contact_id }).waitFor();
  await page.evaluate(() => window.answer());
  await part(page, "me", "details").filter({ hasText: "born 30 Nov 1951 · record 100457" }).waitFor();
  await page.evaluate((peer) => { window.answer = null; window.element.peer = peer; }, patient);
  await part(page, "me", "name").filter({ hasText: "Maria Santos" }).waitFor();
  assert.deepEqual(await page.evaluate(() => [window.answer, window.element.conversation.peer.contact_id]), [null, patient.contact_id], "one question for each person");
  await page.evaluate(() => { window.element.peer = { user_id: "colleague" }; });
  await part(page, "me", "name").filter({ hasText: "colleague" }).waitFor();
  await page.evaluate(() => window.answer()); // which fails
  await page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
  assert.equal(await part(page, "me", "name").textContent(), "colleague");
  assert.deepEqual(wrong, []);
});

test("a peer that cannot be opened, and the end of the chat, leave nothing of the conversation on the screen", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  for (const peer of [{ contact_id: 5 }, { ...doctor, ...patient }, doctor]) {
    await part(page, "me", "input").waitFor();
    await page.evaluate((given) => { window.element.peer = given; }, peer);
    await page.getByText("The conversation cannot be opened").waitFor();
    assert.deepEqual([await part(page, "me", "name").count(), await part(page, "me", "input").count()], [0, 0]);
    await page.evaluate((given) => { window.element.peer = given; }, patient);
  }
  await part(page, "me", "input").fill("A draft");
  await page.evaluate((given) => Object.assign(window.element, { resolve: () => ({ name: "Maria Santos" }), strings: {}, peer: given }), patient);
  await part(page, "me", "name").filter({ hasText: "Maria Santos" }).waitFor();
  const input = await part(page, "me", "input").elementHandle();
  await page.evaluate(() => { Object.assign(window.element, { resolve: () => ({ name: "Another" }), strings: {} }); return window.element.conversation.peer; });
  assert.equal(await input.evaluate((one) => one.isConnected && one.value), "A draft", "the same view with another function");
  await page.evaluate(() => window.chat.signOut());
  await page.getByText("No conversation is open.").waitFor();
  assert.deepEqual([await part(page, "me", "name").count(), await part(page, "me", "input").count()], [0, 0]);
  assert.deepEqual(apartFromTheNetwork(wrong), []); // browsers report a socket that is closed while it opens
});

test("texts are in the element's language, and times in the viewer's time zone", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Guten Morgen"]);
  const { page, wrong } = await openPortal({ me: doctor, peer: patient, script: 'element.lang = "de";' }, { timezoneId: "Asia/Tokyo", locale: "de-DE" });
  const shown = await message(page, "me", "Guten Morgen", "read");
  const sentAt = await shown.locator("time").getAttribute("datetime");
  assert.equal(await shown.locator("time").textContent(), new Date(sentAt).toLocaleTimeString("de-DE", { timeZone: "Asia/Tokyo", hour: "2-digit", minute: "2-digit" }));
  assert.equal(await part(page, "me", "day").textContent(), "Heute");
  assert.equal(await part(page, "me", "input").getAttribute("placeholder"), "Nachricht schreiben");
  await page.evaluate(() => { window.element.lang = "en"; });
  await page.getByText("Today", { exact: true }).waitFor();
  assert.deepEqual(wrong, []);
});

test("each text has the direction of its language, in pages of both directions", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, [HEBREW, "Take ibuprofen 400mg?"]);
  for (const dir of ["ltr", "rtl"]) {
    const { page, wrong } = await openPortal({ me: doctor, peer: patient, script: `document.documentElement.dir = "${dir}"; element.resolve = () => ({ name: "נועה לוי", record_number: "100812" });` });
    const measure = (text, wanted) => message(page, "me", text, "read").then((row) => row.locator("p").first().evaluate((p, wanted) => wanted.map((word) => {
      const range = document.createRange();
      const node = p.firstChild;
      const at = node.data.indexOf(word);
      range.setStart(node, at);
      range.setEnd(node, at + word.length);
      return range.getBoundingClientRect().left;
    }), wanted));
    const [question, drug, verb] = await measure(HEBREW, ["?", "ibuprofen", "האם"]);
    assert.ok(question < drug && drug < verb, `${dir}: the Hebrew question reads from right to left: ${[question, drug, verb]}`);
    const [take, english, mark] = await measure("Take ibuprofen 400mg?", ["Take", "ibuprofen", "?"]);
    assert.ok(take < english && english < mark, `${dir}: the English question reads from left to right`);
    assert.equal(await part(page, "me", "name").evaluate((name) => getComputedStyle(name).direction), "rtl");
    await part(page, "me", "input").fill(HEBREW);
    assert.equal(await part(page, "me", "input").evaluate((input) => getComputedStyle(input).direction), "rtl");
    const [avatar, name] = await Promise.all(["avatar", "name"].map((one) => part(page, "me", one).evaluate((element) => element.getBoundingClientRect().left)));
    assert.equal(avatar > name, dir === "rtl", "the header follows the page");
    const gap = await part(page, "me", "name").evaluate((name) => {
      const range = document.createRange();
      range.selectNodeContents(name);
      const [text, disc] = [range.getBoundingClientRect(), name.getRootNode().querySelector(".avatar").getBoundingClientRect()];
      return Math.max(text.left - disc.right, disc.left - text.right);
    });
    assert.ok(gap < 30, `${dir}: a name of the other direction stays beside its picture, ${gap} px`);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(wrong, []);
  }
});

test("addresses and phone numbers are links, and long messages fold", async () => {
  const { doctor, patient } = pair();
  const long = `${"A long letter about your results. ".repeat(100)}The end.`;
  await write(patient, doctor, ["See https://example.org/results?id=1. Call +49 30 1234567, not javascript:alert(1) <img src=x>", long]);
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  const first = await message(page, "me", "See https", "read");
  assert.deepEqual(await first.locator("a").evaluateAll((all) => all.map((a) => [a.textContent, a.getAttribute("href"), a.rel, a.target])), [
    ["https://example.org/results?id=1", "https://example.org/results?id=1", "noopener noreferrer", "_blank"],
    ["+49 30 1234567", "tel:+49301234567", "noopener noreferrer", ""],
  ]);
  assert.equal(await first.locator("p").first().textContent(), "See https://example.org/results?id=1. Call +49 30 1234567, not javascript:alert(1) <img src=x>");
  const folded = part(page, "me", "messages").locator("article").filter({ hasText: "A long letter" });
  const more = folded.getByRole("button", { name: "Show more" });
  assert.equal(await more.getAttribute("aria-expanded"), "false");
  assert.doesNotMatch(await folded.textContent(), /The end\./);
  await more.focus();
  await page.keyboard.press("Enter");
  const less = folded.getByRole("button", { name: "Show less" });
  await less.waitFor();
  assert.equal(await folded.locator("p").first().textContent(), long);
  await less.click();
  await more.waitFor();
  assert.deepEqual(wrong, []);
});

test("delivered and read differ by shape and by text", async () => {
  const { doctor, patient } = pair();
  await write(doctor, patient, ["sent"]);
  const one = await openPortal({ me: doctor, peer: patient });
  const shape = async (row) => [await row.locator(".tick").getAttribute("aria-label"), await row.locator(".tick path").evaluateAll((all) => all.map((path) => path.getAttribute("d")).join(" "))];
  const shapes = [await shape(await message(one.page, "me", "sent", "sent"))];
  const two = await openPortal({ me: patient, peer: doctor });
  shapes.push(await shape(await message(one.page, "me", "sent", "read")));
  await two.page.evaluate(() => { Object.defineProperty(document, "visibilityState", { value: "hidden" }); document.dispatchEvent(new Event("visibilitychange")); });
  await send(one.page, "me", "only delivered");
  shapes.push(await shape(await message(one.page, "me", "only delivered", "delivered")));
  assert.deepEqual(shapes.map(([label]) => label), ["Sent", "Read", "Delivered"]);
  assert.equal(new Set(shapes.map(([, paths]) => paths)).size, 3);
  assert.deepEqual([...one.wrong, ...two.wrong], []);
});

test("drafts survive another conversation and a reload", async () => {
  const { doctor, patient } = pair();
  const other = { contact_id: `${patient.contact_id}-b` };
  const { page, wrong } = await openPortal({ me: doctor, peer: patient, connect: 'drafts: "session"' });
  const input = part(page, "me", "input");
  await input.fill("Half a sentence");
  await page.evaluate((peer) => { window.element.peer = peer; }, other);
  await page.waitForFunction(() => window.element.conversation.peer.contact_id.endsWith("-b"));
  assert.equal(await input.inputValue(), "");
  await input.fill("Another draft");
  await page.evaluate((peer) => { window.element.peer = peer; }, patient);
  await page.waitForFunction(() => !window.element.conversation.peer.contact_id.endsWith("-b"));
  assert.equal(await input.inputValue(), "Half a sentence");
  await page.reload();
  await page.waitForFunction(() => window.element?.conversation);
  assert.equal(await input.inputValue(), "Half a sentence");
  await part(page, "me", "send").click();
  await message(page, "me", "Half a sentence", "sent");
  assert.equal(await input.inputValue(), "");
  await page.reload();
  await message(page, "me", "Half a sentence", "sent");
  assert.equal(await input.inputValue(), "");
  assert.deepEqual(wrong, []);
});

test("Enter during the composition of an input method never sends", async () => {
  const { doctor, patient } = pair();
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  const input = part(page, "me", "input");
  await input.focus();
  // A real composition: the browser reports its key with `isComposing`.
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Input.imeSetComposition", { text: "にほん", selectionStart: 3, selectionEnd: 3 });
  await devtools.send("Input.dispatchKeyEvent", { type: "rawKeyDown", key: "Enter", code: "Enter", windowsVirtualKeyCode: 13 });
  assert.equal(await page.evaluate(() => window.chat.pending + window.element.conversation.messages.length), 0);
  await devtools.send("Input.insertText", { text: "日本" });
  // Safari ends the composition first, and then reports the key: `isComposing` is false, the key code is 229.
  const sendsAfter = (steps) => input.evaluate((input, steps) => {
    for (const [type, init] of steps) {
      const event = type.startsWith("composition") ? new CompositionEvent(type, { bubbles: true, ...init }) : new KeyboardEvent(type, { bubbles: true, cancelable: true, key: "Enter", ...init });
      input.dispatchEvent(event);
    }
    return window.element.conversation.messages.length;
  }, steps);
  const composition = [["compositionstart", {}], ["compositionupdate", { data: "日本" }]];
  assert.equal(await sendsAfter([...composition, ["keydown", { keyCode: 229, isComposing: true }], ["compositionend", { data: "日本" }]]), 0, "Chrome and Firefox");
  assert.equal(await sendsAfter([...composition, ["compositionend", { data: "日本" }], ["keydown", { keyCode: 229, isComposing: false }]]), 0, "Safari");
  assert.equal(await sendsAfter([["keydown", { keyCode: 13, shiftKey: true }]]), 0);
  await page.keyboard.press("Enter");
  await message(page, "me", "日本", "sent");
  assert.deepEqual(wrong, []);
});

test("messages that wait are counted, and a failed one can be tried again", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, ["Good morning"]);
  const { page, wrong, window } = await openPortal({ me: doctor, peer: patient });
  await message(page, "me", "Good morning", "read");
  await page.route("**/chat/send", (route) => route.abort());
  await send(page, "me", "one");
  await send(page, "me", "two");
  await part(page, "me", "waiting").filter({ hasText: "2 messages are waiting to be sent" }).waitFor();
  await page.evaluate(() => window.element.setAttribute("no-status", ""));
  assert.equal(await part(page, "me", "waiting").isVisible(), false, "the page shows it elsewhere");
  await page.evaluate(() => window.element.removeAttribute("no-status"));
  await page.unroute("**/chat/send");
  await page.evaluate(() => window.chat.reconnect());
  await message(page, "me", "two", "sent");
  assert.equal(await part(page, "me", "waiting").textContent(), "");

  await page.route("**/chat/send", (route) => route.fulfill(problem(422, "not today")), { times: 1 });
  await send(page, "me", "three");
  const failed = await message(page, "me", "three", "failed");
  await page.locator("ehr-chat [role=status]").filter({ hasText: "Not sent: not today" }).first().waitFor({ state: "attached" });
  await failed.getByRole("button", { name: "Try again" }).click();
  await message(page, "me", "three", "sent");
  await window.setOffline(true);
  await part(page, "me", "banner").filter({ hasText: "offline" }).waitFor();
  await window.setOffline(false);
  await part(page, "me", "banner").waitFor({ state: "hidden" });
  assert.deepEqual(apartFromTheNetwork(wrong), []);
});

test("screen readers announce new messages, and no old ones", async () => {
  const { doctor, patient } = pair();
  await write(patient, doctor, Array.from({ length: 120 }, (_, index) => `old ${index + 1}.`));
  const { page, wrong } = await openPortal({ me: doctor, peer: patient });
  await part(page, "me", "unread-bar").waitFor();
  const announced = await page.evaluate(() => {
    const region = window.element.shadowRoot.querySelector('[aria-live="polite"][aria-atomic]');
    window.announced = [];
    new MutationObserver((changes) => { for (const { addedNodes } of changes) for (const node of addedNodes) window.announced.push(node.textContent); }).observe(region, { childList: true });
    return region.textContent;
  });
  assert.equal(announced, "");
  const list = part(page, "me", "messages");
  assert.deepEqual([await list.getAttribute("role"), await list.getAttribute("aria-live")], ["log", "off"]);
  for (const where of ["scrollHeight", "offsetTop"]) await list.evaluate((list, where) => new Promise((resolve) => { list.addEventListener("scroll", () => requestAnimationFrame(resolve), { once: true }); list.scrollTop = where === "offsetTop" ? 0 : list.scrollHeight; }), where);
  await write(patient, doctor, ["This is new"]);
  await page.waitForFunction(() => window.announced.length > 0);
  assert.deepEqual(await page.evaluate(() => window.announced), [`${patient.contact_id}: This is new`]);
  const last = part(page, "me", "messages").locator("article").last();
  assert.match(await last.getAttribute("aria-posinset"), /^\d+$/);
  assert.match(await last.getAttribute("aria-setsize"), /^12\d$/);
  assert.deepEqual(wrong, []);
});
