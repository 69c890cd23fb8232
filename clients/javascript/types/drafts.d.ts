/**
 * The store that the page asks for.
 * @param {unknown} option
 * @returns {DraftStore | null}
 */
export function openDraftStore(option: unknown): DraftStore | null;
/** @typedef {import("./types.js").DraftStore} DraftStore */
/** @typedef {import("./types.js").Participant} Participant */
/**
 * @typedef {object} Owner
 * @property {(peer: Participant, draft: string) => void} onChange
 * @property {(error: ChatError) => void} onFailed The store failed. The drafts stay in memory.
 */
export class Drafts {
    /**
     * @param {DraftStore | null} store null keeps the drafts in memory alone.
     * @param {{ base: string, me: Participant, location_id: string, clock: import("./types.js").Clock }} scope
     */
    constructor(store: DraftStore | null, { base, me, location_id, clock }: {
        base: string;
        me: Participant;
        location_id: string;
        clock: import("./types.js").Clock;
    });
    /** @type {Owner} */
    owner: Owner;
    /** The draft for a participant; empty when there is none. @param {Participant} peer */
    get(peer: Participant): string;
    /** @param {Participant} peer @param {string} text The empty text removes the draft. */
    set(peer: Participant, text: string): void;
    /** The text was sent. Another draft stays: a page may send without the field. @param {Participant} peer @param {string} text */
    removeSent(peer: Participant, text: string): void;
    /** Removes the drafts of this owner, in all locations, and takes no more. */
    removeAll(): void;
    /** Takes no more drafts. A view that closes late must not store what a sign-out removed. Stored drafts stay. */
    close(): void;
    #private;
}
export type DraftStore = import("./types.js").DraftStore;
export type Participant = import("./types.js").Participant;
export type Owner = {
    onChange: (peer: Participant, draft: string) => void;
    /**
     * The store failed. The drafts stay in memory.
     */
    onFailed: (error: ChatError) => void;
};
import { ChatError } from "./errors.js";
