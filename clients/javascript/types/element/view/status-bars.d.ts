export function isRefused({ state, error }: Conversation): boolean;
export class StatusBars {
    /**
     * @param {Context} context
     * @param {Conversation} conversation
     * @param {() => void} onLeaveBar The focus leaves a bar that disappears.
     */
    constructor(context: Context, conversation: Conversation, onLeaveBar: () => void);
    banner: HTMLDivElement;
    unread: HTMLDivElement;
    waiting: HTMLParagraphElement;
    /** @param {{ unreadCount: number, isAllInView: boolean }} unread */
    update({ unreadCount, isAllInView }: {
        unreadCount: number;
        isAllInView: boolean;
    }): void;
    #private;
}
export type Context = import("./context.js").Context;
export type Conversation = import("ehr-chat-client").Conversation;
export type TextKey = import("../strings/index.js").TextKey;
