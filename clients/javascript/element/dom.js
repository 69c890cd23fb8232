// Creates and updates elements. Text is set as text and never parsed, so the content of a message cannot become markup. Styles come from
// sheets only, so a strict content security policy can stay strict.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Creates an element with attributes (`on…`: listeners, `dataset`) and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/** Delivered and read differ by shape: two open ticks, and two ticks in a filled disc. */
const ICONS = {
  clock: ["M12 7v5l3 2", "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z"],
  check: ["M5 13l4.500 4.500L19 7"],
  checks: ["M2.500 13l4.500 4.500L16 7", "M11.500 16.500l1 1L22 7"],
  read: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z", "M5.500 12.500l3 3L14 9", "M11 14.500l1 1L18.500 9"],
  alert: ["M12 8v5", "M12 16.500v.01", "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z"],
  back: ["M15 5l-7 7 7 7"],
  down: ["M12 5v14", "M6 13l6 6 6-6"],
  send: ["M4 12l16-8-6 16-3-6z"],
};

/** @param {keyof typeof ICONS} name */
export const icon = (name) => drawIcon(name, ICONS[name]);

/**
 * Creates an icon. Screen readers skip it, so the text beside it must say what it means.
 * @param {string} name
 * @param {readonly string[]} paths In a square of 24.
 */
export function drawIcon(name, paths) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon", `icon-${name}`);
  for (const d of paths) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/**
 * Hands the values that a page set before the element was defined to the setters, which they hide.
 * @param {object} element
 * @param {readonly string[]} names
 */
export function upgradeProperties(element, names) {
  const properties = /** @type {Record<string, unknown>} */ (element);
  for (const name of names) {
    if (!Object.hasOwn(properties, name)) continue;
    const value = properties[name];
    delete properties[name];
    properties[name] = value;
  }
}

/**
 * Makes `parent` hold exactly these children. Children that are in place do not move.
 * @param {Element} parent
 * @param {readonly Node[]} children
 */
export function reconcileChildren(parent, children) {
  let at = parent.firstChild;
  const wanted = new Set(children);
  for (const child of children) {
    while (at && at !== child && !wanted.has(at)) at = removeAndGetNext(at);
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
  while (at) at = removeAndGetNext(at);
}

/** @param {ChildNode} node */
function removeAndGetNext(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

/**
 * Sets text only if it differs, so that screen readers do not repeat it.
 * @param {Node} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
