export class PresenceCache {
    /**
     * @param {Pick<import("../context.js").Services, "http" | "location_id" | "clock" | "random">} context
     * @param {(participant: Participant) => void} onChange
     */
    constructor(context: Pick<import("../context.js").Services, "http" | "location_id" | "clock" | "random">, onChange: (participant: Participant) => void);
    /** @param {Participant} participant @returns {Presence | null} */
    get(participant: Participant): Presence | null;
    /** What the server reports, or the cached presence when the request fails. @param {Participant} participant @returns {Promise<Presence | null>} */
    fetch(participant: Participant): Promise<Presence | null>;
    /** @param {Participant} participant @returns {Promise<void>} */
    load(participant: Participant): Promise<void>;
    /** Takes a `presence` frame of a socket. @param {any} frame */
    applyFrame(frame: any): void;
    /** The presence is unknown from now on. @param {Participant} participant */
    forget(participant: Participant): void;
    /**
     * Keeps the presence current while a conversation is open.
     * @param {Participant} participant
     * @param {{ onFailed: (error: ChatError) => void, onRecovered: () => void }} owner
     */
    watch(participant: Participant, owner: {
        onFailed: (error: ChatError) => void;
        onRecovered: () => void;
    }): PresenceWatch;
    #private;
}
export type Participant = import("../types.js").Participant;
export type Presence = import("../types.js").Presence;
export type ChatError = import("../errors.js").ChatError;
import { PresenceWatch } from "./presence-watch.js";
