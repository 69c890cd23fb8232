// Registers `<ehr-chat>`, the conversation view as a custom element. Also exports what a page around it may share with it: texts, dates,
// and the directory of people.

import { EhrChat } from "./ehr-chat.js";

export { EhrChat };
export { createAvatar } from "./people/avatar.js";
export { PeopleDirectory } from "./people/people-directory.js";
export { createLanguage } from "./strings/index.js";

/** @typedef {import("./people/people-directory.js").Person} Person */
/** @typedef {import("./people/people-directory.js").Resolve} Resolve */
/** @typedef {import("./people/people-directory.js").Description} Description */
/** @typedef {import("./ehr-chat.js").Strings} Strings */
/** @typedef {import("./strings/index.js").TextKey} TextKey */

if (!customElements.get("ehr-chat")) customElements.define("ehr-chat", EhrChat);
