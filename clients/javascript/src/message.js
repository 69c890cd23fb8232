// A message of the server as the SDK shows it.

/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {{ delivered_at?: string | null, read_at?: string | null }} Times */

/**
 * Whether a participant sent a message.
 * @param {import("./types.js").Participant} participant
 * @param {Pick<ServerMessage, "sender_user_id" | "sender_contact_id">} message
 */
export function isSentBy(participant, message) {
  return participant.user_id !== undefined
    ? message.sender_user_id === participant.user_id : message.sender_contact_id === participant.contact_id;
}

/**
 * @param {ServerMessage} message
 * @param {import("./types.js").Participant} me
 * @returns {Message}
 */
export function toMessage(message, me) {
  const mine = isSentBy(me, message);
  return withTimes({
    key: (mine && message.client_message_id) || message.id,
    id: message.id, seq: message.seq, mine, status: "sent", error: null, content: message.content,
    client_message_id: message.client_message_id ?? null, sent_at: message.sent_at, delivered_at: null, read_at: null,
  }, message);
}

/**
 * The message with the first times that any source gives. Responses and frames overtake each other, and a tick must not go back.
 * @param {Message} message
 * @param {...Times} sources
 * @returns {Message} Frozen.
 */
export function withTimes(message, ...sources) {
  const read_at = sources.map((source) => source.read_at).find((at) => at) ?? null;
  const delivered_at = sources.map((source) => source.delivered_at).find((at) => at) ?? read_at;
  return Object.freeze({ ...message, delivered_at, read_at, status: read_at ? "read" : delivered_at ? "delivered" : "sent" });
}
