/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {{ delivered_at?: string | null, read_at?: string | null }} Times */
/**
 * Whether a participant sent a message.
 * @param {import("./types.js").Participant} participant
 * @param {Pick<ServerMessage, "sender_user_id" | "sender_contact_id">} message
 */
export function isSentBy(participant: import("./types.js").Participant, message: Pick<ServerMessage, "sender_user_id" | "sender_contact_id">): boolean;
/**
 * @param {ServerMessage} message
 * @param {import("./types.js").Participant} me
 * @returns {Message}
 */
export function toMessage(message: ServerMessage, me: import("./types.js").Participant): Message;
/**
 * The message with the first times that any source gives. Responses and frames overtake each other, and a tick must not go back.
 * @param {Message} message
 * @param {...Times} sources
 * @returns {Message} Frozen.
 */
export function withTimes(message: Message, ...sources: Times[]): Message;
export type Message = import("./types.js").Message;
export type ServerMessage = import("./types.js").ServerMessage;
export type Times = {
    delivered_at?: string | null;
    read_at?: string | null;
};
