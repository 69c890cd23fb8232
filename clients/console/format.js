// Formats times in the language of the browser.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export const formatTime = (text) => clock.format(new Date(text));
export const formatFullTime = (text) => full.format(new Date(text));

/** Equal for all times of one day in the reader's time zone. */
export function dayKey(text) {
  const date = new Date(text);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}

function daysAgo(text) {
  const midnight = (date) => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(new Date()) - midnight(new Date(text))) / 86_400_000);
}

const capital = (text) => text.charAt(0).toLocaleUpperCase() + text.slice(1);

/** For the day headings of a conversation. */
export function formatDay(text) {
  const ago = daysAgo(text);
  return capital(ago === 0 || ago === 1 ? relative.format(-ago, "day") : day.format(new Date(text)));
}

/** For the rows of the inbox: the time if it is today, else the day. */
export function relativeTime(text) {
  const ago = daysAgo(text);
  if (ago === 0) return formatTime(text);
  if (ago === 1) return capital(relative.format(-1, "day"));
  return ago < 7 ? weekday.format(new Date(text)) : short.format(new Date(text));
}

export function formatLastSeen(text) {
  return daysAgo(text) === 0 ? `Last seen ${formatTime(text)}` : `Last seen ${relativeTime(text)}, ${formatTime(text)}`;
}
