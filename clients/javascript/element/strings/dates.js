// Times and days, in the viewer's time zone and in the locale of the texts.

/** @typedef {import("./index.js").Translate} Translate */

const DAY_MS = 86_400_000;

export class Dates {
  #t;
  #clock;
  #weekday;
  #day;
  #short;
  #full;
  #birth;
  #relative;

  /**
   * @param {string | undefined} locale The browser's, if there is none.
   * @param {Translate} t
   */
  constructor(locale, t) {
    this.#t = t;
    this.#clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
    this.#weekday = new Intl.DateTimeFormat(locale, { weekday: "long" });
    this.#day = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
    this.#short = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
    this.#full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
    this.#birth = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" }); // a birth date has no time and no zone
    this.#relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  }

  /** @param {string} time */
  formatTime(time) {
    return this.#clock.format(new Date(time));
  }

  /** Day and time to the second. @param {string} time */
  formatFullTime(time) {
    return this.#full.format(new Date(time));
  }

  /** For headings: "Today", "Yesterday", or the day. @param {string} time */
  formatDay(time) {
    const ago = daysAgo(time);
    return capitalize(ago === 0 || ago === 1 ? this.#relative.format(-ago, "day") : this.#day.format(new Date(time)));
  }

  /** For rows of a list: the time if it is today, else a short day. @param {string} time */
  formatRelative(time) {
    const ago = daysAgo(time);
    if (ago === 0) return this.formatTime(time);
    if (ago === 1) return capitalize(this.#relative.format(-1, "day"));
    return ago > 0 && ago < 7 ? this.#weekday.format(new Date(time)) : this.#short.format(new Date(time));
  }

  /** @param {string} time */
  formatLastSeen(time) {
    if (daysAgo(time) === 0) return this.#t("person.lastSeenToday", { time: this.formatTime(time) });
    return this.#t("person.lastSeen", { day: this.formatRelative(time), time: this.formatTime(time) });
  }

  /** @param {string} date `YYYY-MM-DD`. Any other text stays as it is: the EHR may know no more than a year. */
  formatBirthDate(date) {
    const time = /^\d{4}-\d{2}-\d{2}$/.test(date) ? Date.parse(date) : Number.NaN;
    return Number.isNaN(time) ? date : this.#birth.format(time);
  }
}

/** Equal for all times of one day in the viewer's time zone. @param {string} time */
export function dayKey(time) {
  const date = new Date(time);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}

/** @param {string} time */
function daysAgo(time) {
  /** @param {Date} date */
  const midnight = (date) => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(new Date()) - midnight(new Date(time))) / DAY_MS);
}

/** @param {string} text */
function capitalize(text) {
  return text.charAt(0).toLocaleUpperCase() + text.slice(1);
}
