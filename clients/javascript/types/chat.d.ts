/**
 * Begins. Asks for the first token, to know who this is; needs no network otherwise. Rejects when there is no token to be had
 * within half a minute.
 * @param {import("./types.js").Options} options
 * @returns {Promise<Chat>}
 */
export function connect(options: import("./types.js").Options): Promise<Chat>;
/** @typedef {import("./types.js").Participant} Participant */
/**
 * What the parts share.
 * @typedef {object} Context
 * @property {HttpClient} http
 * @property {string} wsUrl
 * @property {new (url: string, protocols: string[]) => import("./types.js").WebSocketLike} WebSocket
 * @property {TokenProvider} tokenProvider
 * @property {import("./clock.js").FullClock} clock
 * @property {() => number} random
 * @property {string} location_id
 * @property {Participant} me
 * @property {string} role
 * @property {number} maxMessages
 * @property {PresenceCache} presence
 * @property {(conversation: Conversation) => void} removeConversation It is closed, and nothing of it waits to be sent.
 * @property {() => void} onPartClosed Something was closed.
 * @property {(work: import("./types.js").Work, error: ChatError) => void} warn Something failed that is tried again.
 * @property {() => void} onRecovered Something that had failed has succeeded.
 * @property {() => void} onRetryingChange What is being tried again has changed.
 * @property {(expires_at: string) => void} onExpiring The token is about to end, and there is no other.
 */
/**
 * @typedef {{
 *   expiring: { expires_at: string },
 *   unauthorized: ChatError,
 *   warning: ChatError,
 *   retrying: readonly import("./types.js").Retried[],
 *   presence: Participant & { online: boolean | null, last_seen_at: string | null },
 * }} ChatEvents
 * `expiring`: the token is about to end; `unauthorized`: it is refused. Both only when there is no other to be had: give one to
 * `setToken`. `warning`: something failed, and is tried again. `retrying`: what is tried again has changed. `presence`: `online` is
 * null when it is not known any more.
 */
/** @extends {Emitter<ChatEvents>} */
export class Chat extends Emitter<ChatEvents> {
    /**
     * Use `connect`.
     * @param {Omit<Context, "presence" | "removeConversation" | "onPartClosed" | "warn" | "onRecovered" | "onRetryingChange" | "onExpiring">} shared
     */
    constructor(shared: Omit<Context, "presence" | "removeConversation" | "onPartClosed" | "warn" | "onRecovered" | "onRetryingChange" | "onExpiring">);
    /** Who this is. */
    get me(): import("./types.js").Participant;
    get location_id(): string;
    /** Messages that the server does not have yet, in all conversations: worth a warning before the page is left. */
    get pending(): number;
    /** All that has failed and is being tried again, and why. The same array until something changes. */
    get retrying(): readonly import("./types.js").Retried[];
    /**
     * The conversation with somebody, opened. The same object for all who ask, until each of them has closed it.
     * @param {{ user_id?: string, contact_id?: string }} peer
     * @returns {Conversation}
     */
    conversation(peer: {
        user_id?: string;
        contact_id?: string;
    }): Conversation;
    /** All conversations. The same object for all who ask, until each of them has closed it. @returns {Inbox} */
    inbox(): Inbox;
    /**
     * Whether somebody is online; null when the server does not tell.
     * @param {{ user_id?: string, contact_id?: string }} who
     * @returns {Promise<import("./types.js").Presence | null>}
     */
    presence(who: {
        user_id?: string;
        contact_id?: string;
    }): Promise<import("./types.js").Presence | null>;
    /**
     * What is known of somebody's presence without asking; null when nothing is.
     * @param {{ user_id?: string, contact_id?: string }} who
     * @returns {import("./types.js").Presence | null}
     */
    cachedPresence(who: {
        user_id?: string;
        contact_id?: string;
    }): import("./types.js").Presence | null;
    /**
     * A fresh token for the same participant, whoever got it. Throws if it can be none.
     * @param {string} token
     */
    setToken(token: string): void;
    /** Ends everything. What was not sent is lost, as `pending` tells before. */
    close(): void;
    #private;
}
export type Participant = import("./types.js").Participant;
/**
 * What the parts share.
 */
export type Context = {
    http: HttpClient;
    wsUrl: string;
    WebSocket: new (url: string, protocols: string[]) => import("./types.js").WebSocketLike;
    tokenProvider: TokenProvider;
    clock: import("./clock.js").FullClock;
    random: () => number;
    location_id: string;
    me: Participant;
    role: string;
    maxMessages: number;
    presence: PresenceCache;
    /**
     * It is closed, and nothing of it waits to be sent.
     */
    removeConversation: (conversation: Conversation) => void;
    /**
     * Something was closed.
     */
    onPartClosed: () => void;
    /**
     * Something failed that is tried again.
     */
    warn: (work: import("./types.js").Work, error: ChatError) => void;
    /**
     * Something that had failed has succeeded.
     */
    onRecovered: () => void;
    /**
     * What is being tried again has changed.
     */
    onRetryingChange: () => void;
    /**
     * The token is about to end, and there is no other.
     */
    onExpiring: (expires_at: string) => void;
};
/**
 * `expiring`: the token is about to end; `unauthorized`: it is refused. Both only when there is no other to be had: give one to
 * `setToken`. `warning`: something failed, and is tried again. `retrying`: what is tried again has changed. `presence`: `online` is
 * null when it is not known any more.
 */
export type ChatEvents = {
    expiring: {
        expires_at: string;
    };
    unauthorized: ChatError;
    warning: ChatError;
    retrying: readonly import("./types.js").Retried[];
    presence: Participant & {
        online: boolean | null;
        last_seen_at: string | null;
    };
};
import { Emitter } from "./emitter.js";
import { Conversation } from "./conversation.js";
import { Inbox } from "./inbox.js";
import { HttpClient } from "./http-client.js";
import { TokenProvider } from "./token-provider.js";
import { PresenceCache } from "./presence-cache.js";
import { ChatError } from "./errors.js";
