export class Announcer {
    /** @param {import("../strings/index.js").Translate} t */
    constructor(t: import("../strings/index.js").Translate);
    element: HTMLDivElement;
    /** @param {string} text */
    announce(text: string): void;
    #private;
}
