// What the body of each response must look like. A page of an intermediary does not pass, with any status.

/** @typedef {(body: any) => boolean} Shape */

/** @type {Shape} */
export const isMessage = (body) => typeof body.id === "string" && Number.isSafeInteger(body.seq) && body.seq > 0 && typeof body.content === "string";
/** @type {Shape} */
export const isHistory = (body) => Array.isArray(body.messages) && typeof body.has_more === "boolean" && body.messages.every((/** @type {any} */ one) => one && isMessage(one));
/** @type {Shape} */
export const isInbox = (body) => Array.isArray(body.conversations) && body.conversations.every((/** @type {any} */ one) => one?.last_message && typeof one.conversation_id === "string");
/** @type {Shape} */
export const isMarks = (body) => Array.isArray(body.marked);
/** @type {Shape} */
export const isPresence = (body) => Array.isArray(body.participants);
