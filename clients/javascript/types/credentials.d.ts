export class Credentials {
    /** @param {string | import("./types.js").TokenSource} source */
    constructor(source: string | import("./types.js").TokenSource);
    /** Calls `listener` with each token that takes the place of another. @param {(token: string) => void} listener */
    onChange(listener: (token: string) => void): void;
    /** @returns {Promise<string>} */
    current(): Promise<string>;
    /**
     * Another token than `used`, or null when there is none to be had.
     * @param {string} used
     * @param {"expiring" | "refused"} reason
     * @returns {Promise<string | null>}
     */
    renew(used: string, reason: "expiring" | "refused"): Promise<string | null>;
    /** A token that came on its own. @param {string} token */
    set(token: string): void;
    #private;
}
