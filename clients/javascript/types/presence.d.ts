export class PresenceBook {
    /**
     * @param {Pick<import("./client.js").Context, "http" | "location_id">} context
     * @param {(who: Participant) => void} changed
     */
    constructor(context: Pick<import("./client.js").Context, "http" | "location_id">, changed: (who: Participant) => void);
    /** @param {Participant} who @returns {import("./types.js").Presence | null} */
    of(who: Participant): import("./types.js").Presence | null;
    /** @param {Participant} who @returns {Promise<import("./types.js").Presence | null>} */
    ask(who: Participant): Promise<import("./types.js").Presence | null>;
    /** A frame of a socket. @param {any} frame */
    heard(frame: any): void;
    #private;
}
export type Participant = import("./types.js").Participant;
