/** @template {{ [name: string]: unknown }} Events */
export class Emitter<Events extends {
    [name: string]: unknown;
}> {
    /** @param {readonly (keyof Events & string)[]} names The events that exist. */
    constructor(names: readonly (keyof Events & string)[]);
    /**
     * Calls `listener` for each event `name`, until the page calls the returned function.
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {(detail: Events[Name]) => void} listener
     * @returns {() => void}
     */
    on<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void;
    /**
     * A listener that throws disturbs neither the other listeners nor the SDK. Its error surfaces as an uncaught one.
     * @protected
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {Events[Name]} detail
     */
    protected emit<Name extends keyof Events>(name: Name, detail: Events[Name]): void;
    #private;
}
