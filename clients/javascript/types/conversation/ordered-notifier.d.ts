/** @typedef {import("../types.js").Message} Message */
export class OrderedNotifier {
    /**
     * @param {import("../types.js").Clock} clock
     * @param {() => number} getFirstMissingSeq `seq` of the first message that is still loading; Infinity when none is.
     * @param {(message: Message) => void} notify
     */
    constructor(clock: import("../types.js").Clock, getFirstMissingSeq: () => number, notify: (message: Message) => void);
    /** @param {Message} message */
    add(message: Message): void;
    /** Reports the waiting messages before this `seq`. @param {number} [firstMissingSeq] */
    flush(firstMissingSeq?: number): void;
    #private;
}
export type Message = import("../types.js").Message;
