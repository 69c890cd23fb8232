// Creates and updates elements. Text is set as text and never parsed, so the content of a message cannot become markup.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element with attributes (`on…`: listeners, `dataset`, `class`) and children. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  clock: ["M12 7v5l3 2", "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z"],
  check: ["M5 13l4.500 4.500L19 7"],
  checks: ["M2.500 13l4.500 4.500L16 7", "M11.500 16.500l1 1L22 7"],
  alert: ["M12 8v5", "M12 16.500v.01", "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z"],
  back: ["M15 5l-7 7 7 7"],
  down: ["M12 5v14", "M6 13l6 6 6-6"],
  send: ["M4 12l16-8-6 16-3-6z"],
  plus: ["M12 5v14", "M5 12h14"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "M16 16l4.500 4.500"],
};

/** Creates an icon. Screen readers skip it, so the text beside it must say what it means. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  for (const d of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** Makes `parent` hold exactly these children. Children that are in place do not move. */
export function reconcileChildren(parent, children) {
  let at = parent.firstChild;
  for (const element of children) {
    if (element === at) at = at.nextSibling;
    else parent.insertBefore(element, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/** Sets text only if it differs, so that screen readers do not repeat it. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
