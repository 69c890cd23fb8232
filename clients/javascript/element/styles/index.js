// One sheet for all elements of a page. A constructed sheet is no inline style, so `style-src 'self'` allows it.

import { messageRules } from "./message-rules.js";
import { themeRules } from "./theme.js";
import { viewRules } from "./view-rules.js";

/** @type {CSSStyleSheet | null} */
let sheet = null;

export function getSheet() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(themeRules + viewRules + messageRules);
  }
  return sheet;
}
