// What the parts of one view share. Types only.

/**
 * @typedef {object} Context
 * @property {import("ehr-chat-client").Chat} chat
 * @property {import("../people/people-directory.js").PeopleDirectory} people
 * @property {import("../strings/index.js").Translate} t
 * @property {import("../strings/dates.js").Dates} dates
 */

export {};
