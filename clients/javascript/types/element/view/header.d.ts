export class Header {
    /**
     * @param {import("./context.js").Context} context
     * @param {import("ehr-chat-client").Participant} peer
     * @param {() => void} onBack
     */
    constructor(context: import("./context.js").Context, peer: import("ehr-chat-client").Participant, onBack: () => void);
    heading: HTMLHeadingElement;
    element: HTMLElement;
    /** @param {import("ehr-chat-client").Presence | null} presence */
    update(presence: import("ehr-chat-client").Presence | null): void;
    #private;
}
