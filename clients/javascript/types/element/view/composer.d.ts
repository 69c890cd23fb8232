export class Composer {
    /**
     * @param {Context} context
     * @param {import("ehr-chat-client").Conversation} conversation
     * @param {(content: string) => Promise<unknown>} onSend
     */
    constructor(context: Context, conversation: import("ehr-chat-client").Conversation, onSend: (content: string) => Promise<unknown>);
    element: HTMLFormElement;
    focus(): void;
    /** @param {string} name */
    setPeerName(name: string): void;
    /** @param {boolean} isEnabled */
    setEnabled(isEnabled: boolean): void;
    /** Another view of the same conversation may have changed the draft. */
    showDraft(): void;
    #private;
}
export type Context = import("./context.js").Context;
