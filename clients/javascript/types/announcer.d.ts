/** @typedef {import("./types.js").Message} Message */
export class Announcer {
    /**
     * @param {import("./types.js").Clock} clock
     * @param {() => boolean} mustWait Whether older ones may still come; `flush()` once they cannot.
     * @param {(message: Message) => void} tell
     */
    constructor(clock: import("./types.js").Clock, mustWait: () => boolean, tell: (message: Message) => void);
    /** @param {Message} message */
    add(message: Message): void;
    flush(): void;
    #private;
}
export type Message = import("./types.js").Message;
