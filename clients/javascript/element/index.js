// The conversation view as a custom element, and what a page around it shares with it: texts and dates.

export { createLanguage } from "./strings/index.js";
