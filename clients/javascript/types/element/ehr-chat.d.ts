/** @typedef {import("ehr-chat-client").Chat} Chat */
/** @typedef {import("ehr-chat-client").Conversation} Conversation */
/** @typedef {import("ehr-chat-client").Participant} Participant */
/** @typedef {import("./people/people-directory.js").Resolve} Resolve */
/** @typedef {Partial<import("./strings/index.js").Texts>} Strings */
/** @typedef {ReturnType<typeof createLanguage> & { lang: string, strings: string }} Language */
export class EhrChat extends HTMLElement {
    static observedAttributes: string[];
    /** @param {Chat | null} chat */
    set chat(chat: Chat | null);
    /** The connected chat. The page keeps it, and closes it. @returns {Chat | null} */
    get chat(): Chat | null;
    /** @param {Participant | null} peer */
    set peer(peer: Participant | null);
    /** Whom the conversation is with: `{ user_id }` or `{ contact_id }`. Null closes the conversation. @returns {Participant | null} */
    get peer(): Participant | null;
    set resolve(resolve: import("./people/people-directory.js").Resolve | null);
    /**
     * Gives name, birth date and record number of a participant, at once or as a promise. Another function answers the next questions, and
     * the answers of the former one stay.
     */
    get resolve(): import("./people/people-directory.js").Resolve | null;
    set people(people: PeopleDirectory | null);
    /** A directory that the page shares with its own views, in place of `resolve`. */
    get people(): PeopleDirectory | null;
    set strings(strings: Partial<import("./strings/index.js").Texts>);
    /** Texts that replace those of the language. */
    get strings(): Partial<import("./strings/index.js").Texts>;
    /** The open conversation, or null. */
    get conversation(): import("ehr-chat-client").Conversation | null;
    connectedCallback(): void;
    disconnectedCallback(): void;
    attributeChangedCallback(): void;
    /** Moves the focus to where the reader writes, or to the name on a touch screen. @override */
    override focus(): void;
    #private;
}
export type Chat = import("ehr-chat-client").Chat;
export type Conversation = import("ehr-chat-client").Conversation;
export type Participant = import("ehr-chat-client").Participant;
export type Resolve = import("./people/people-directory.js").Resolve;
export type Strings = Partial<import("./strings/index.js").Texts>;
export type Language = ReturnType<typeof createLanguage> & {
    lang: string;
    strings: string;
};
import { PeopleDirectory } from "./people/people-directory.js";
import { createLanguage } from "./strings/index.js";
