export class PresenceBook {
    /**
     * @param {Pick<import("./client.js").Context, "http" | "location_id" | "clock" | "random">} context
     * @param {(who: Participant) => void} changed
     */
    constructor(context: Pick<import("./client.js").Context, "http" | "location_id" | "clock" | "random">, changed: (who: Participant) => void);
    /** @param {Participant} who @returns {Presence | null} */
    of(who: Participant): Presence | null;
    /** What the server says; what is known when it says nothing. @param {Participant} who @returns {Promise<Presence | null>} */
    ask(who: Participant): Promise<Presence | null>;
    /** @param {Participant} who @returns {Promise<void>} */
    load(who: Participant): Promise<void>;
    /** A frame of a socket. @param {any} frame */
    heard(frame: any): void;
    /** Nobody knows. @param {Participant} who */
    forget(who: Participant): void;
    /**
     * Keeps it true for as long as a conversation is open.
     * @param {Participant} who
     * @param {{ failed: (error: ChatError) => void, worked: () => void }} owner
     */
    watch(who: Participant, owner: {
        failed: (error: ChatError) => void;
        worked: () => void;
    }): PresenceWatch;
    #private;
}
export class PresenceWatch {
    /**
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {{ load: () => Promise<void>, forget: () => void, watched: (isWatched: boolean) => void, failed: (error: ChatError) => void, worked: () => void }} owner
     */
    constructor(context: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, owner: {
        load: () => Promise<void>;
        forget: () => void;
        watched: (isWatched: boolean) => void;
        failed: (error: ChatError) => void;
        worked: () => void;
    });
    open(): void;
    /**
     * Frames tell of every change from now on, or they do not.
     * @param {boolean} on
     * @param {boolean} mayAsk Whether it is worth asking now and then while they do not.
     */
    told(on: boolean, mayAsk: boolean): void;
    /** How it stands is not known at the moment. */
    ask(): void;
    /** @param {boolean} hadFailed */
    nudge(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type Participant = import("./types.js").Participant;
export type Presence = import("./types.js").Presence;
export type ChatError = import("./errors.js").ChatError;
