// EHR chat for browsers and Node.js: the public names of the package. README.md describes them.

export { connect, Chat } from "./chat.js";
export { Conversation } from "./conversation/conversation.js";
export { uuidv7 } from "./conversation/uuid.js";
export { ChatError } from "./errors.js";
export { Inbox } from "./inbox/inbox.js";
export { readToken } from "./auth/token.js";
export { keyOf } from "./participants/participant.js";

/** @typedef {import("./errors.js").ErrorCode} ErrorCode */
/** @typedef {import("./types.js").Options} Options */
/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Work} Work */
/** @typedef {import("./types.js").Retried} Retried */
/** @typedef {import("./types.js").Participant} Participant */
/** @typedef {import("./types.js").Presence} Presence */
/** @typedef {import("./types.js").InboxRow} InboxRow */
/** @typedef {import("./types.js").DraftStore} DraftStore */
/** @typedef {import("./types.js").TokenSource} TokenSource */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {import("./types.js").WebSocketLike} WebSocketLike */
/** @typedef {import("./types.js").Clock} Clock */
/** @typedef {import("./types.js").ServerConversation} ServerConversation */
