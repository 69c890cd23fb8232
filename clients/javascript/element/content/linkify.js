// Finds links and phone numbers in the text of a message. A link is http, https or tel; nothing else becomes one. Dates, doses and
// blood pressures are no phone numbers.

/** @typedef {{ text: string, href: string | null }} Segment `href` is null for plain text. */

const URL_PATTERN = /(?<![\p{L}\p{N}@/.-])(?:https?:\/\/|www\.)[^\s<>"“”„«»\u2066-\u2069\u200e\u200f]+/giu;
// With a country code; with a leading 0; or in groups of 3, 3 and 4 digits.
const PHONE_PATTERN = /(?<![\p{L}\p{N}+#./:,-])(?:\+\d(?:[ ./()-]{0,2}\d){6,16}|\(?0[1-9](?:[ ./()-]{0,2}\d){6,12}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\p{L}\p{N}%]|[.,:/-]\d)/gu;
const DATE_PATTERN = /^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}/;
const MIN_DIGITS = 8;
const MAX_DIGITS = 15;
const CLOSING = { ")": "(", "]": "[", "}": "{" };

/**
 * Splits a text. The texts of all segments, joined, are the given text.
 * @param {string} text
 * @returns {Segment[]}
 */
export function linkify(text) {
  /** @type {Segment[]} */
  const segments = [];
  let end = 0;
  for (const match of text.matchAll(URL_PATTERN)) {
    const link = trimUrl(match[0]);
    const href = toWebAddress(link);
    if (!href) continue;
    addPhones(segments, text.slice(end, match.index));
    segments.push({ text: link, href });
    end = match.index + link.length;
  }
  addPhones(segments, text.slice(end));
  return segments;
}

/** @param {Segment[]} segments @param {string} text */
function addPhones(segments, text) {
  let end = 0;
  for (const match of text.matchAll(PHONE_PATTERN)) {
    const href = toPhoneAddress(match[0]);
    if (!href) continue;
    if (match.index > end) segments.push({ text: text.slice(end, match.index), href: null });
    segments.push({ text: match[0], href });
    end = match.index + match[0].length;
  }
  if (end < text.length) segments.push({ text: text.slice(end), href: null });
}

/** Punctuation at the end belongs to the sentence; a bracket does if the address does not open it. @param {string} url */
function trimUrl(url) {
  for (let link = url; ; link = link.slice(0, -1)) {
    const last = /** @type {keyof typeof CLOSING} */ (link.at(-1));
    const isUnopened = last in CLOSING && link.split(last).length > link.split(CLOSING[last]).length;
    if (!/[.,:;!?'’*_~…]$/u.test(link) && !isUnopened) return link;
  }
}

/** Null for what is no address, and for one with a user name, which would hide the host. @param {string} link */
function toWebAddress(link) {
  try {
    const url = new URL(/^www\./i.test(link) ? `https://${link}` : link);
    const isSafe = (url.protocol === "https:" || url.protocol === "http:") && url.username === "" && url.password === "";
    return isSafe && /^(?:localhost|\[.*\]|.*[^.]\.[^.]+)$/i.test(url.hostname) ? url.href : null;
  } catch {
    return null;
  }
}

/** @param {string} phone */
function toPhoneAddress(phone) {
  if (DATE_PATTERN.test(phone)) return null;
  // "+49 (0)30": the 0 is dialled without the country code only.
  const digits = (phone.startsWith("+") ? phone.replace("(0)", "") : phone).replace(/\D/g, "");
  if (digits.length < MIN_DIGITS || digits.length > MAX_DIGITS) return null;
  return `tel:${phone.startsWith("+") ? "+" : ""}${digits}`;
}
