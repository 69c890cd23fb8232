/** @satisfies {Record<string, import("./index.js").Text>} */
export const en: {
    "conversation.label": string;
    "conversation.messages": string;
    "conversation.back": string;
    "conversation.empty": string;
    "conversation.loading": string;
    "conversation.none": string;
    "conversation.earlier": string;
    "conversation.earlierProblem": string;
    "conversation.newMessages": string;
    "conversation.unread": {
        one: string;
        other: string;
    };
    "conversation.markAllRead": string;
    "conversation.markAllReadProblem": string;
    "conversation.newest": string;
    "conversation.jump": string;
    "conversation.jumpUnseen": {
        one: string;
        other: string;
    };
    "conversation.waiting": {
        one: string;
        other: string;
    };
    "conversation.typing": string;
    "conversation.incomplete": string;
    "conversation.degraded": string;
    "conversation.reconnecting": string;
    "conversation.offline": string;
    "conversation.blocked": string;
    "conversation.blockedOrigin": string;
    "conversation.tryNow": string;
    "conversation.marking": string;
    "conversation.announceMany": {
        one: string;
        other: string;
    };
    "conversation.refused": string;
    "conversation.refusedUnknown": string;
    "message.author": string;
    "message.you": string;
    "message.sending": string;
    "message.failed": string;
    "message.sent": string;
    "message.delivered": string;
    "message.read": string;
    "message.problem": string;
    "message.problemUnknown": string;
    "message.retry": string;
    "message.discard": string;
    "message.showMore": string;
    "message.showLess": string;
    "composer.label": string;
    "composer.placeholder": string;
    "composer.send": string;
    "composer.count": string;
    "person.staff": string;
    "person.patient": string;
    "person.born": string;
    "person.record": string;
    "person.identifier": string;
    "person.online": string;
    "person.lastSeenToday": string;
    "person.lastSeen": string;
};
