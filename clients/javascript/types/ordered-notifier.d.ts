/** @typedef {import("./types.js").Message} Message */
export class OrderedNotifier {
    /**
     * @param {import("./types.js").Clock} clock
     * @param {() => number} firstMissing `seq` of one that is still to come: what is behind it waits. Infinity when none is.
     * @param {(message: Message) => void} notify
     */
    constructor(clock: import("./types.js").Clock, firstMissing: () => number, notify: (message: Message) => void);
    /** @param {Message} message */
    add(message: Message): void;
    /** @param {number} [bound] */
    flush(bound?: number): void;
    #private;
}
export type Message = import("./types.js").Message;
