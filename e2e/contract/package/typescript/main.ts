// The program of an integrator with strict TypeScript. The compiler checks it, then Node.js runs it.

import { connect, type Chat, type ChatError, type DraftStore, type InboxRow, type Message, type Participant, type State, type WebSocketLike } from "ehr-chat-client";

interface Setting { url: string; doctor: { who: Participant; token: string }; patient: { who: Participant; token: string } }

const { url, doctor, patient } = JSON.parse(process.env["CHAT"] ?? "") as Setting;
const entries = new Map<string, string>();
const drafts: DraftStore = {
  get: (key) => entries.get(key), set: (key, text) => void entries.set(key, text), remove: (key) => void entries.delete(key), keys: () => entries.keys(),
};
const WebSocket = (globalThis as { WebSocket?: new (url: string, protocols: string[]) => WebSocketLike }).WebSocket;

const chat: Chat = await connect({ url, token: (reason: "first" | "expiring" | "refused") => (reason === "first" ? doctor.token : Promise.resolve(doctor.token)), drafts, ...(WebSocket ? { WebSocket } : {}) });
chat.on("warning", (error: ChatError) => console.error(error.code, error.status, error.work));
chat.on("message", ({ peer, message }: { peer: Participant; message: Message }) => console.error(peer.user_id ?? peer.contact_id, message.seq));
const conversation = chat.conversation(patient.who);
const states: State[] = [];
conversation.on("state", (state) => states.push(state));
conversation.setDraft("from TypeScript");
const sent = await conversation.send("from TypeScript");
const marked: number = await conversation.markAllRead({ onProgress: ({ marked, total }) => console.error(marked, total ?? "unknown") });
const first: number | null | undefined = conversation.firstUnread;
const isThere: boolean = await conversation.loadUntil(1);
const rows: readonly InboxRow[] = chat.inbox().rows;
const oldest: number = Math.min(...rows.map(({ first_unread_seq }) => first_unread_seq ?? 0));
chat.reconnect();
const retryAt: number | null = conversation.retryAt;
// @ts-expect-error there is no such event
const typo = () => chat.on("mesage", () => {});
// @ts-expect-error a draft is a string
const wrong = () => conversation.setDraft(1);
chat.signOut();
console.log(JSON.stringify({
  seq: sent.seq, content: sent.content, draft: conversation.draft, marked, isThere, state: conversation.state,
  others: [first, oldest, retryAt, typeof typo, typeof wrong].length, states: states.length > 0,
}));
