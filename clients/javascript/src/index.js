// EHR chat for browsers and Node.js: what may be imported. See README.md.

export { connect, Chat } from "./chat.js";
export { Conversation } from "./conversation.js";
export { ChatError } from "./errors.js";
export { Inbox } from "./inbox.js";
export { keyOf, readToken } from "./participant.js";
export { uuidv7 } from "./uuid.js";

/** @typedef {import("./types.js").Options} Options */
/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./types.js").Retried} Retried */
/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").Presence} Presence */
/** @typedef {import("./types.js").InboxRow} InboxRow */
/** @typedef {import("./types.js").TokenSource} TokenSource */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {import("./types.js").ServerConversation} ServerConversation */
