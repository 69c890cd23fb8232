// All texts of the conversation view (`<ehr-chat>`) and of the console, in English. This file defines the keys; each other language has
// the same ones. `{name}` is a placeholder. A text with a number has one form for each plural category of its language: `{ one, other }`.

/** @satisfies {Record<string, import("./index.js").Text>} */
export const en = {
  // The conversation
  "conversation.label": "Conversation with {name}",
  "conversation.messages": "Messages with {name}",
  "conversation.back": "Back to the conversations",
  "conversation.empty": "No messages yet. Write the first one.",
  "conversation.loading": "Loading…",
  "conversation.none": "No conversation is open.",
  "conversation.earlier": "Earlier messages",
  "conversation.earlierProblem": "Earlier messages cannot be loaded: {problem}. Try again",
  "conversation.newMessages": "New messages",
  "conversation.unread": { one: "{count} unread message", other: "{count} unread messages" },
  "conversation.markAllRead": "Mark all as read",
  "conversation.markAllReadProblem": "The messages cannot be marked as read: {problem}.",
  "conversation.newest": "Newest",
  "conversation.jump": "Jump to the newest message",
  "conversation.jumpUnseen": { one: "{count} new", other: "{count} new" },
  "conversation.waiting": { one: "{count} message is waiting to be sent", other: "{count} messages are waiting to be sent" },
  "conversation.typing": "{name} is typing…",
  "conversation.incomplete": "Some messages cannot be loaded. The page tries again; you can send messages.",
  "conversation.degraded": "Live updates are interrupted. New messages arrive a few seconds late; you can send messages.",
  "conversation.reconnecting": "The connection is interrupted. The page sends your messages when it is back.",
  "conversation.offline": "You are offline. The page sends your messages when the connection is back.",
  "conversation.blocked": "This network blocks live updates. New messages arrive a few seconds late; you can send messages.",
  "conversation.blockedOrigin": "The chat does not allow this page. Ask the operator of the chat.",
  "conversation.tryNow": "Try now",
  "conversation.marking": "{count} of {total} messages marked as read…",
  "conversation.announceMany": { one: "{count} new message", other: "{count} new messages" },
  "conversation.refused": "You cannot see this conversation: {problem}",
  "conversation.refusedUnknown": "no access",

  // A message
  "message.author": "{name}:",
  "message.you": "You",
  "message.sending": "Waiting to be sent",
  "message.failed": "Not sent",
  "message.sent": "Sent",
  "message.delivered": "Delivered",
  "message.read": "Read",
  "message.problem": "Not sent: {problem}",
  "message.problemUnknown": "refused",
  "message.retry": "Try again",
  "message.discard": "Discard",
  "message.showMore": "Show more",
  "message.showLess": "Show less",

  // The form to write a message with
  "composer.label": "Message to {name}",
  "composer.placeholder": "Write a message",
  "composer.send": "Send",
  "composer.count": "{count} of {limit} characters",

  // People
  "person.staff": "Staff",
  "person.patient": "Patient",
  "person.born": "born {date}",
  "person.record": "record {number}",
  "person.identifier": "ID {id}",
  "person.online": "Online",
  "person.lastSeenToday": "Last seen {time}",
  "person.lastSeen": "Last seen {day}, {time}",
};
