// Creates and updates elements with the tools of `<ehr-chat>`, and adds the icons that only the console has.

import { drawIcon, h, reconcileChildren, setText } from "/sdk/element/dom.js";

export { h, reconcileChildren, setText };

const ICONS = {
  checks: ["M2.500 13l4.500 4.500L16 7", "M11.500 16.500l1 1L22 7"],
  plus: ["M12 5v14", "M5 12h14"],
  settings: ["M4 7h10", "M18 7h2", "M16 5v4", "M4 17h2", "M10 17h10", "M8 15v4"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "M16 16l4.500 4.500"],
};

export const icon = (name) => drawIcon(name, ICONS[name]);
