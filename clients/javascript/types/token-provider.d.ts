/** @typedef {"first" | "expiring" | "refused"} Reason */
export class TokenProvider {
    /**
     * @param {string | import("./types.js").TokenSource} source
     * @param {{ clock: import("./clock.js").FullClock, random: () => number }} context
     */
    constructor(source: string | import("./types.js").TokenSource, { clock, random }: {
        clock: import("./clock.js").FullClock;
        random: () => number;
    });
    /** The token in force; empty when there is none yet. */
    get token(): string;
    /** From now on, tokens of others are not taken. @param {import("./types.js").Participant | null} owner */
    setOwner(owner: import("./types.js").Participant | null): void;
    /**
     * `onChange`: a token took the place of another. `onRelease`: work that waits for a token should be tried.
     * @param {{ onChange: (token: string) => void, onRelease: () => void }} listener
     */
    addListener(listener: {
        onChange: (token: string) => void;
        onRelease: () => void;
    }): void;
    /** @returns {Promise<string>} */
    getToken(): Promise<string>;
    /**
     * Another token than `used`, or null when there is none to be had now.
     * @param {string} used
     * @param {"expiring" | "refused"} reason
     * @returns {Promise<string | null>}
     */
    renew(used: string, reason: "expiring" | "refused"): Promise<string | null>;
    /**
     * Milliseconds until `used` may be renewed though it has not been refused.
     * @param {string} used
     */
    getRenewalDelay(used: string): number;
    /** A token that came on its own. The same one again says that it is good: what waits is tried. @param {string} given */
    setToken(given: string): void;
    /** The server has answered to it. @param {string} token */
    markAccepted(token: string): void;
    /** The server has refused it. @param {string} token */
    markRefused(token: string): void;
    /**
     * Something in between has refused a request. It may check tokens itself.
     * @returns {boolean} Whether another token is worth a try.
     */
    countForeignRefusal(): boolean;
    close(): void;
    #private;
}
export type Reason = "first" | "expiring" | "refused";
