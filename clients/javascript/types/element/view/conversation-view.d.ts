export class ConversationView {
    /**
     * @param {Context} context
     * @param {Conversation} conversation
     * @param {() => void} onBack
     */
    constructor(context: Context, conversation: Conversation, onBack: () => void);
    element: HTMLElement;
    /** The composer, or on a touch screen the name: there the keyboard would cover half of the conversation. */
    focus(): void;
    close(): void;
    #private;
}
export type Message = import("ehr-chat-client").Message;
export type Conversation = import("ehr-chat-client").Conversation;
export type Context = import("./context.js").Context;
