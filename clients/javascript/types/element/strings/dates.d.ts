/** Equal for all times of one day in the viewer's time zone. @param {string} time */
export function dayKey(time: string): string;
export class Dates {
    /**
     * @param {string | undefined} locale The browser's, if there is none.
     * @param {Translate} t
     */
    constructor(locale: string | undefined, t: Translate);
    /** @param {string} time */
    formatTime(time: string): string;
    /** Day and time to the second. @param {string} time */
    formatFullTime(time: string): string;
    /** For headings: "Today", "Yesterday", or the day. @param {string} time */
    formatDay(time: string): string;
    /** For rows of a list: the time if it is today, else a short day. @param {string} time */
    formatRelative(time: string): string;
    /** @param {string} time */
    formatLastSeen(time: string): string;
    /** @param {string} date `YYYY-MM-DD`. Any other text stays as it is: the EHR may know no more than a year. */
    formatBirthDate(date: string): string;
    #private;
}
export type Translate = import("./index.js").Translate;
