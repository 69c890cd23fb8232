// The text of a message as elements: links, and "show more" for long ones.

import { h, setText } from "../dom.js";
import { fold } from "./fold.js";
import { linkify } from "./linkify.js";

/** @typedef {import("../strings/index.js").Translate} Translate */

/**
 * Creates the element. `isFoldable` tells whether the message is long enough to be cut.
 * @param {string} content
 * @param {Translate} t
 * @param {{ isOpen: boolean, onToggle: (isOpen: boolean) => void }} fold Whether a long message is shown whole.
 */
export function createContent(content, t, { isOpen, onToggle }) {
  const segments = linkify(content);
  const head = fold(segments);
  const text = h("p", { part: "content", dir: "auto" });
  if (!head) {
    text.append(...toNodes(segments));
    return { element: h("div", { class: "content" }, text), isFoldable: false };
  }
  const button = h("button", { type: "button", class: "quiet fold", part: "button", onclick: () => { show(!isWhole); onToggle(isWhole); } });
  let isWhole = false;
  /** @param {boolean} next */
  function show(next) {
    isWhole = next;
    text.replaceChildren(...toNodes(isWhole || !head ? segments : head), ...(isWhole ? [] : ["…"]));
    button.setAttribute("aria-expanded", String(isWhole));
    setText(button, t(isWhole ? "message.showLess" : "message.showMore"));
  }
  show(isOpen);
  return { element: h("div", { class: "content" }, text, button), isFoldable: true };
}

/** @param {readonly import("./linkify.js").Segment[]} segments */
function toNodes(segments) {
  return segments.map(({ text, href }) => (href === null ? document.createTextNode(text) : createLink(text, href)));
}

/** @param {string} text @param {string} href */
function createLink(text, href) {
  const isPhone = href.startsWith("tel:");
  return h("a", { href, part: "link", dir: isPhone ? "ltr" : "auto", rel: "noopener noreferrer", target: isPhone ? null : "_blank" }, text);
}
