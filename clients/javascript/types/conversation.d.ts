/** @typedef {import("./types.js").Message} Message */
/** @typedef {import("./types.js").ServerMessage} ServerMessage */
/** @typedef {import("./types.js").Work} Work */
/**
 * @typedef {{
 *   change: void,
 *   message: Message,
 *   state: import("./types.js").State,
 *   error: ChatError,
 * }} ConversationEvents
 * `change`: something to show has changed; at most once a turn. `message`: one from the other side, or from another of one's own
 * windows, that came after the conversation was opened; once each, by `seq`. `error`: the server refuses to give the messages, or
 * a frame; where that can be tried again it is.
 */
/** @extends {Emitter<ConversationEvents>} */
export class Conversation extends Emitter<ConversationEvents> {
    /**
     * @param {import("./chat.js").Context} context
     * @param {import("./types.js").Participant} peer
     */
    constructor(context: import("./chat.js").Context, peer: import("./types.js").Participant);
    /** The other side. */
    peer: import("./types.js").Participant;
    /** What to show: by `seq`, then what is on its way. The same array until something changes. @returns {readonly Message[]} */
    get messages(): readonly Message[];
    /** Whether the newest messages have been loaded. */
    get loaded(): boolean;
    /** Whether there are older ones, for `loadOlder()` to load. */
    get hasMore(): boolean;
    /** @returns {import("./types.js").State} */
    get state(): import("./types.js").State;
    /** Why the state is not `live`, as far as is known. */
    get error(): ChatError | null;
    /** What has failed and is being tried again, and why. The same array until something changes. */
    get retrying(): readonly import("./types.js").Retried[];
    /** Whether the other side is typing. */
    get peerTyping(): boolean;
    /** The other side's presence; null when the server does not tell. */
    get presence(): import("./types.js").Presence | null;
    /** Messages that the server does not have yet. */
    get pending(): number;
    /**
     * Sends. The message is in `messages` at once; it is tried until the server has it, in the order of the calls.
     * @param {string} text 1 to 8,000 characters. Half a character (a lone surrogate, as of an emoji that was cut) becomes U+FFFD.
     * @returns {Promise<Message>} Resolves once the server has it. Whoever shows `messages` need not wait for it.
     */
    send(text: string): Promise<Message>;
    /**
     * Tries a failed message again, as the same message.
     * @param {Message} message
     * @returns {Promise<Message>}
     */
    retry(message: Message): Promise<Message>;
    /**
     * Takes a message back that has failed, waits behind others, or has been kept from the server at every try so far.
     * @param {Message} message
     * @returns {boolean} false when the server may have it already, from this try or an earlier one: it stays, and is tried again.
     */
    discard(message: Message): boolean;
    /**
     * Loads the page before the oldest message in `messages`, and adds it there.
     * @returns {Promise<boolean>} Whether it can add more: there are still older ones, and room for them.
     */
    loadOlder(): Promise<boolean>;
    /**
     * Tells the other side that these were read: the given ones, or all received ones in `messages`.
     * @param {readonly Message[]} [which]
     * @returns {Promise<void>} Resolves once the server has noted it.
     */
    markRead(which?: readonly Message[]): Promise<void>;
    /** Tells the other side that somebody types here. Call it on every keystroke; it is passed on now and then. */
    typing(): void;
    /**
     * Ends the use that one call of `chat.conversation` began. With the last use the connection ends; messages on their way are
     * still sent.
     */
    close(): void;
    /** For `Chat`: somebody else uses it as well; or it is back from `close()`, before the last message was sent. @internal */
    reopen(): void;
    /** For `Chat`: ends everything. @internal */
    destroy(): void;
    /** For `Chat`: the network or a token is back. @internal */
    retryNow(): void;
    /** For `Chat`: other work has succeeded. @internal @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    /** For `Chat`: a fresh token. @internal @param {string} token */
    updateToken(token: string): void;
    /** For `Chat`: presence has changed. @internal @param {import("./types.js").Participant} who */
    onPresenceChange(who: import("./types.js").Participant): void;
    #private;
}
export type Message = import("./types.js").Message;
export type ServerMessage = import("./types.js").ServerMessage;
export type Work = import("./types.js").Work;
/**
 * `change`: something to show has changed; at most once a turn. `message`: one from the other side, or from another of one's own
 * windows, that came after the conversation was opened; once each, by `seq`. `error`: the server refuses to give the messages, or
 * a frame; where that can be tried again it is.
 */
export type ConversationEvents = {
    change: void;
    message: Message;
    state: import("./types.js").State;
    error: ChatError;
};
import { Emitter } from "./emitter.js";
import { ChatError } from "./errors.js";
