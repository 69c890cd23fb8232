// All texts in German. A test compares the keys and the placeholders with those of `en.js`.

/** @type {import("./index.js").Texts} */
export const de = {
  // The conversation
  "conversation.label": "Unterhaltung mit {name}",
  "conversation.messages": "Nachrichten mit {name}",
  "conversation.back": "Zurück zu den Unterhaltungen",
  "conversation.empty": "Noch keine Nachrichten. Schreiben Sie die erste.",
  "conversation.loading": "Wird geladen…",
  "conversation.none": "Keine Unterhaltung ist geöffnet.",
  "conversation.earlier": "Frühere Nachrichten",
  "conversation.earlierProblem": "Frühere Nachrichten können nicht geladen werden: {problem}. Erneut versuchen",
  "conversation.newMessages": "Neue Nachrichten",
  "conversation.unread": { one: "{count} ungelesene Nachricht", other: "{count} ungelesene Nachrichten" },
  "conversation.markAllRead": "Alle als gelesen markieren",
  "conversation.markAllReadProblem": "Die Nachrichten können nicht als gelesen markiert werden: {problem}.",
  "conversation.newest": "Neueste",
  "conversation.jump": "Zur neuesten Nachricht springen",
  "conversation.jumpUnseen": { one: "{count} neue", other: "{count} neue" },
  "conversation.waiting": { one: "{count} Nachricht wartet auf den Versand", other: "{count} Nachrichten warten auf den Versand" },
  "conversation.typing": "{name} schreibt…",
  "conversation.incomplete": "Einige Nachrichten können nicht geladen werden. Die Seite versucht es erneut; Sie können Nachrichten senden.",
  "conversation.degraded": "Die Live-Übertragung ist unterbrochen. Neue Nachrichten kommen einige Sekunden später an; Sie können Nachrichten senden.",
  "conversation.reconnecting": "Die Verbindung ist unterbrochen. Die Seite sendet Ihre Nachrichten, sobald sie wieder besteht.",
  "conversation.offline": "Sie sind offline. Die Seite sendet Ihre Nachrichten, sobald die Verbindung wieder besteht.",
  "conversation.blocked": "Dieses Netz blockiert die Live-Übertragung: {problem}. Neue Nachrichten kommen einige Sekunden später an; Sie können Nachrichten senden.",
  "conversation.blockedUnknown": "ein Proxy oder eine Regel lehnt sie ab",
  "conversation.refused": "Sie können diese Unterhaltung nicht sehen: {problem}",
  "conversation.refusedUnknown": "kein Zugriff",

  // A message
  "message.author": "{name}:",
  "message.you": "Sie",
  "message.sending": "Wartet auf den Versand",
  "message.failed": "Nicht gesendet",
  "message.sent": "Gesendet",
  "message.delivered": "Zugestellt",
  "message.read": "Gelesen",
  "message.problem": "Nicht gesendet: {problem}",
  "message.problemUnknown": "abgelehnt",
  "message.retry": "Erneut versuchen",
  "message.discard": "Verwerfen",
  "message.showMore": "Mehr anzeigen",
  "message.showLess": "Weniger anzeigen",

  // The form to write a message with
  "composer.label": "Nachricht an {name}",
  "composer.placeholder": "Nachricht schreiben",
  "composer.send": "Senden",
  "composer.count": "{count} von {limit} Zeichen",

  // People
  "person.staff": "Personal",
  "person.patient": "Patient",
  "person.born": "geb. {date}",
  "person.record": "Akte {number}",
  "person.online": "Online",
  "person.lastSeenToday": "Zuletzt gesehen {time}",
  "person.lastSeen": "Zuletzt gesehen {day}, {time}",
};
