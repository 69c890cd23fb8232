/** @typedef {import("./types.js").Message} Message */
export class Announcer {
    /**
     * @param {import("./types.js").Clock} clock
     * @param {() => number} bound `seq` of one that is still to come: what is behind it waits. Infinity when none is.
     * @param {(message: Message) => void} tell
     */
    constructor(clock: import("./types.js").Clock, bound: () => number, tell: (message: Message) => void);
    /** @param {Message} message */
    add(message: Message): void;
    /** @param {number} [bound] */
    flush(bound?: number): void;
    #private;
}
export type Message = import("./types.js").Message;
