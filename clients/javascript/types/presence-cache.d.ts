export class PresenceCache {
    /**
     * @param {Pick<import("./chat.js").Context, "http" | "location_id" | "clock" | "random">} context
     * @param {(who: Participant) => void} onChange
     */
    constructor(context: Pick<import("./chat.js").Context, "http" | "location_id" | "clock" | "random">, onChange: (who: Participant) => void);
    /** @param {Participant} who @returns {Presence | null} */
    get(who: Participant): Presence | null;
    /** What the server says; what is known when it says nothing. @param {Participant} who @returns {Promise<Presence | null>} */
    fetch(who: Participant): Promise<Presence | null>;
    /** @param {Participant} who @returns {Promise<void>} */
    load(who: Participant): Promise<void>;
    /** A frame of a socket. @param {any} frame */
    applyFrame(frame: any): void;
    /** Nobody knows. @param {Participant} who */
    forget(who: Participant): void;
    /**
     * Keeps it true for as long as a conversation is open.
     * @param {Participant} who
     * @param {{ onFailed: (error: ChatError) => void, onRecovered: () => void }} owner
     */
    watch(who: Participant, owner: {
        onFailed: (error: ChatError) => void;
        onRecovered: () => void;
    }): PresenceWatch;
    #private;
}
export class PresenceWatch {
    /**
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {{ load: () => Promise<void>, forget: () => void, onWatch: (isWatched: boolean) => void, onFailed: (error: ChatError) => void, onRecovered: () => void }} owner
     */
    constructor(context: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, owner: {
        load: () => Promise<void>;
        forget: () => void;
        onWatch: (isWatched: boolean) => void;
        onFailed: (error: ChatError) => void;
        onRecovered: () => void;
    });
    open(): void;
    /**
     * Frames tell of every change from now on, or they do not.
     * @param {boolean} on
     * @param {boolean} mayPoll Whether it is worth asking now and then while they do not.
     */
    setFramesAvailable(on: boolean, mayPoll: boolean): void;
    /** How it stands is not known at the moment. */
    refetch(): void;
    /** @param {boolean} hadFailed */
    shortenWait(hadFailed: boolean): void;
    close(): void;
    #private;
}
export type Participant = import("./types.js").Participant;
export type Presence = import("./types.js").Presence;
export type ChatError = import("./errors.js").ChatError;
