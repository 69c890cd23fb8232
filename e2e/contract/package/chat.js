// Two participants chat through the installed package. The same program runs in Node.js and, built by Vite, in a browser.

import { ChatError, connect } from "ehr-chat-client";

/**
 * @param {{ url: string, doctor: { who: object, token: string }, patient: { who: object, token: string }, WebSocket?: any }} setting
 * @returns {Promise<object>} What the two saw.
 */
export async function chat({ url, doctor, patient, ...options }) {
  const [mine, theirs] = await Promise.all([doctor, patient].map(({ token }) => connect({ url, token, ...options })));
  try {
    const inbox = theirs.inbox();
    await until(inbox, () => inbox.state === "live" && inbox.loaded);
    const arrived = new Promise((resolve) => { theirs.on("message", resolve); });
    const conversation = mine.conversation(patient.who);
    conversation.setDraft("Good morning");
    const { seq } = await conversation.send("Good morning");
    const { peer, message } = await arrived;
    const answers = theirs.conversation(doctor.who);
    await answers.markAllRead();
    await until(conversation, () => conversation.messages[0].status === "read");
    const refused = await conversation.send("").catch((error) => error instanceof ChatError && error.code);
    return { seq, content: message.content, peer, status: conversation.messages[0].status, draft: conversation.draft, refused };
  } finally {
    mine.close();
    theirs.signOut();
  }
}

function until(emitter, check) {
  return new Promise((resolve) => {
    const look = () => { if (check()) { for (const off of stop) off(); resolve(); } };
    const stop = ["change", "state"].map((name) => emitter.on(name, look));
    look();
  });
}
