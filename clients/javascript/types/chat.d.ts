/**
 * Creates a chat. It asks for the first token, which names the participant, and needs no network otherwise. Rejects when the token
 * source gives no token within half a minute.
 * @param {import("./types.js").Options} options
 * @returns {Promise<Chat>}
 */
export function connect(options: import("./types.js").Options): Promise<Chat>;
/** @extends {Emitter<import("./types.js").ChatEvents>} */
export class Chat extends Emitter<import("./types.js").ChatEvents> {
    /**
     * Use `connect`.
     * @param {import("./context.js").Services} services
     */
    constructor(services: import("./context.js").Services);
    /** The participant who acts. */
    get me(): import("./types.js").Participant;
    get location_id(): string;
    /** The number of messages on their way, and of failed ones. Warn before the user leaves the page. */
    get pending(): number;
    /** All work that failed and will be retried, with its last error. The same array until something changes. */
    get retrying(): readonly import("./types.js").Retried[];
    /**
     * Opens the conversation with a participant. All callers get the same object, until each of them has closed it.
     * @param {ParticipantInput} peer
     * @returns {Conversation}
     */
    conversation(peer: ParticipantInput): Conversation;
    /** Opens the inbox. All callers get the same object, until each of them has closed it. @returns {Inbox} */
    inbox(): Inbox;
    /**
     * Requests the presence of a participant; null when it is unknown.
     * @param {ParticipantInput} participant
     * @returns {Promise<import("./types.js").Presence | null>}
     */
    presence(participant: ParticipantInput): Promise<import("./types.js").Presence | null>;
    /**
     * The presence of a participant as the server last reported it; null when it is unknown.
     * @param {ParticipantInput} participant
     * @returns {import("./types.js").Presence | null}
     */
    cachedPresence(participant: ParticipantInput): import("./types.js").Presence | null;
    /**
     * The draft for a participant; empty when there is none.
     * @param {ParticipantInput} peer
     */
    draft(peer: ParticipantInput): string;
    /**
     * Gives a fresh token of the same participant. Throws for a token that cannot be valid.
     * @param {string} token
     */
    setToken(token: string): void;
    /**
     * Tries everything now that waits for another attempt. For a button: it takes effect once a second at most. The SDK also retries by
     * itself.
     */
    reconnect(): void;
    /** The participant leaves this computer: removes all its drafts, and closes the chat. */
    signOut(): void;
    /** Ends everything. Messages that the server has not stored are lost; `pending` counts them. Stored drafts stay. */
    close(): void;
    #private;
}
export type Participant = import("./types.js").Participant;
export type Work = import("./types.js").Work;
export type Context = import("./context.js").Context;
export type ParticipantInput = {
    user_id?: string | undefined;
    contact_id?: string | undefined;
};
import { Emitter } from "./emitter.js";
import { Conversation } from "./conversation/conversation.js";
import { Inbox } from "./inbox/inbox.js";
