export class PeopleDirectory {
    /**
     * @param {Resolve | null} resolve
     * @param {{ language: { t: import("../strings/index.js").Translate, dates: import("../strings/dates.js").Dates }, now?: () => number }} options
     */
    constructor(resolve: Resolve | null, { language, now }: {
        language: {
            t: import("../strings/index.js").Translate;
            dates: import("../strings/dates.js").Dates;
        };
        now?: () => number;
    });
    /**
     * Calls `listener` when an answer arrives, until the caller calls the returned function.
     * @param {"change"} _name
     * @param {() => void} listener
     */
    on(_name: "change", listener: () => void): () => undefined;
    /** What is known of a person now. @param {Participant} person @returns {Description} */
    get(person: Participant): Description;
    #private;
}
export type Participant = import("ehr-chat-client").Participant;
/**
 * `birth_date`: `YYYY-MM-DD`.
 */
export type Person = {
    name?: string;
    about?: string;
    birth_date?: string;
    record_number?: string;
};
export type Resolve = (person: Participant) => Person | null | undefined | Promise<Person | null | undefined>;
/**
 * What to show of a person. `details` names what tells people of the same name apart; it is empty for an unknown person, whose `name` is
 * the identifier.
 */
export type Description = {
    name: string;
    about: string;
    born: string;
    record: string;
    details: string;
};
export type Entry = {
    key: string;
    person: Participant;
    answer: Person | null;
    askAgainAt: number;
};
