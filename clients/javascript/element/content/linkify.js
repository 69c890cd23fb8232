// Finds links and phone numbers in the text of a message. A link is http, https or tel; nothing else becomes one. Dates, doses and
// blood pressures are no phone numbers.

/** @typedef {{ text: string, href: string | null }} Segment `href` is null for plain text. */

// Characters that change the direction of text end an address: they could show it in another order.
const URL_PATTERN = /(?<![\p{L}\p{N}@/.-])(?:https?:\/\/|www\.)[^\s<>"“”„«»\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]+/giu;
// With a country code; with a leading 0; or in groups of 3, 3 and 4 digits.
const PHONE_PATTERN = /(?<![\p{L}\p{N}+#./:,-])(?:\+\d(?:[ ./()-]{0,2}\d){6,16}|\(?0[1-9](?:[ ./()-]{0,2}\d){6,12}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\p{L}\p{N}%]|[.,:/-]\d)/gu;
const DATE_PATTERN = /^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}/;
const MIN_DIGITS = 8;
const MAX_DIGITS = 15;
const CLOSING = new Map([[")", "("], ["]", "["], ["}", "{"]]);
const PUNCTUATION = ".,:;!?'’*_~…";

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
  const unopened = countUnopened(url);
  let end = url.length;
  for (; end > 0; end--) {
    const last = url[end - 1];
    const count = unopened.get(last) ?? 0;
    if (!PUNCTUATION.includes(last) && count <= 0) break;
    if (unopened.has(last)) unopened.set(last, count - 1);
  }
  return url.slice(0, end);
}

/** By how many the closing brackets of each kind outnumber the opening ones. @param {string} url */
function countUnopened(url) {
  return new Map([...CLOSING].map(([closing, opening]) => [closing, url.split(closing).length - url.split(opening).length]));
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
