export class Reloader {
    /**
     * @param {{ clock: import("./types.js").Clock, random: () => number }} context
     * @param {(glance: boolean) => Promise<void>} load `glance`: it is only a poll.
     * @param {(error: import("./errors.js").ChatError) => void} failed It is not tried again by itself; after a 401 by `hurry`.
     * @param {() => void} [rested] Nothing is being loaded any more, or not until a failure has been waited for.
     */
    constructor({ clock, random }: {
        clock: import("./types.js").Clock;
        random: () => number;
    }, load: (glance: boolean) => Promise<void>, failed: (error: import("./errors.js").ChatError) => void, rested?: () => void);
    /** Whether it is loading, and not waiting to. */
    loading: boolean;
    /** @param {boolean} [glance] */
    now(glance?: boolean): void;
    /** @param {boolean} on */
    poll(on: boolean): void;
    endPause(): void;
    hurry(): void;
    close(): void;
    #private;
}
