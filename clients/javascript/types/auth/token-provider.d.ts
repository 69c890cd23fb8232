/** @typedef {"first" | "expiring" | "refused"} Reason */
/** @typedef {import("../types.js").Participant} Participant */
/**
 * @typedef {object} Listener
 * @property {(token: string) => void} onChange Another token is in force.
 * @property {() => void} onRelease Work that waits for a token should run.
 */
export class TokenProvider {
    /**
     * @param {string | import("../types.js").TokenSource} source
     * @param {{ clock: import("../time/clock.js").FullClock, random: () => number }} context
     */
    constructor(source: string | import("../types.js").TokenSource, { clock, random }: {
        clock: import("../time/clock.js").FullClock;
        random: () => number;
    });
    /** The token in force; empty before the first one. */
    get token(): string;
    /** From now on the provider rejects tokens of other participants. @param {Participant | null} owner */
    setOwner(owner: Participant | null): void;
    /** @param {Listener} listener */
    addListener(listener: Listener): void;
    /** The token in force, or the first one from the source. @returns {Promise<string>} */
    getToken(): Promise<string>;
    /**
     * Another token than `used`, or null when the source has none now.
     * @param {string} used
     * @param {"expiring" | "refused"} reason
     * @returns {Promise<string | null>}
     */
    renew(used: string, reason: "expiring" | "refused"): Promise<string | null>;
    /**
     * Milliseconds until `used` may be renewed although the server has not refused it.
     * @param {string} used
     */
    getRenewalDelay(used: string): number;
    /** A token from the page. The same token again means that it is valid, so waiting work runs. @param {string} given */
    setToken(given: string): void;
    /** The server answered a request with this token. @param {string} token */
    markAccepted(token: string): void;
    /** The server refused this token. @param {string} token */
    markRefused(token: string): void;
    /**
     * An intermediary refused a request. It may check tokens itself.
     * @returns {boolean} Whether another token is worth an attempt.
     */
    countForeignRefusal(): boolean;
    close(): void;
    #private;
}
export type Reason = "first" | "expiring" | "refused";
export type Participant = import("../types.js").Participant;
export type Listener = {
    /**
     * Another token is in force.
     */
    onChange: (token: string) => void;
    /**
     * Work that waits for a token should run.
     */
    onRelease: () => void;
};
