// Only compiled: a TypeScript program sees the SDK's types as they are published.

import { connect, type Chat, type ChatError, type ErrorCode, type Message, type Presence, type Retried, type State, type Work } from "../../../clients/javascript/types/index.js";
import { createLanguage, PeopleDirectory, type Description, type EhrChat, type Resolve } from "../../../clients/javascript/types/element/index.js";

export async function consume(): Promise<void> {
  const chat = await connect({ url: "https://chat.example.org", token: async (reason: "first" | "expiring" | "refused") => reason });
  const conversation = chat.conversation({ contact_id: "pat456" });
  const off: () => void = conversation.on("message", (message: Message) => console.log(message.content.length, message.seq ?? 0));
  conversation.on("state", (state: State) => console.log(state));
  const sent: Message = await conversation.send("Hello");
  const more: boolean = await conversation.loadOlder();
  const presence: Presence | null = await chat.presence({ user_id: "doc123" });
  const unread: number = chat.inbox().rows.reduce((sum, row) => sum + row.unread_count, 0);
  console.log(sent.status === "read", more, presence?.online, unread);
  chat.on("warning", (error: ChatError) => console.log(error.work satisfies Work | null, error.isForeign));
  const ended: ErrorCode[] = ["token_expired", "token_revoked"];
  chat.on("unauthorized", ({ code }: ChatError) => console.log(ended.includes(code), code === "token_expired"));
  chat.on("retrying", (all: readonly Retried[]) => console.log(all.map(({ work, error, peer }) => `${work} ${error.message} ${peer?.user_id}`)));
  chat.on("presence", ({ online }) => console.log(online === null ? "unknown" : online));
  chat.on("message", ({ peer, message }) => console.log(peer.user_id, message.seq));
  chat.on("draft", ({ peer, draft }) => console.log(peer.contact_id, draft.length));
  conversation.setDraft(conversation.draft);
  const first: number | null | undefined = conversation.firstUnread;
  const isThere: boolean = await conversation.loadUntil(first ?? 1);
  const marked: number = await conversation.markAllRead({ onProgress: ({ marked, total }) => console.log(marked, total) });
  const at: number | null = conversation.retryAt;
  chat.reconnect();
  console.log(isThere, marked, at, conversation.state === "blocked" || conversation.state === "offline", chat.inbox().rows[0]?.first_unread_seq);
  const isIncomplete: boolean = conversation.state === "incomplete" && conversation.retrying.length > 0;
  console.log(isIncomplete);
  off();
  // @ts-expect-error there is no such event
  conversation.on("nonsense", () => {});
  // @ts-expect-error messages are read-only
  conversation.messages.push(sent);
  // @ts-expect-error a number is no message
  await conversation.send(1);
}

export function embed(chat: Chat, element: EhrChat): string {
  const resolve: Resolve = async (person) => ({ name: person.contact_id ?? "Ward 4", birth_date: "1984-03-12", record_number: "100234" });
  element.chat = chat;
  element.peer = { contact_id: "pat456" };
  element.resolve = resolve;
  element.strings = { "composer.send": "Envoyer", "conversation.waiting": { one: "{count} message attend", other: "{count} messages attendent" } };
  const people = new PeopleDirectory(resolve, { language: createLanguage(["de"]) });
  element.people = people;
  const { name, details }: Description = people.get({ user_id: "doc123" });
  return `${name}, ${details}, ${element.conversation?.state ?? "closed"}`;
}
