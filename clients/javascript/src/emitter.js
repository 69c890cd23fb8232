// `on(name, listener)` for the objects of the public interface. Listeners run synchronously, in the order of their calls of `on`.

import { invalidArgument } from "./errors.js";

/** @template {{ [name: string]: unknown }} Events */
export class Emitter {
  /** @type {Map<keyof Events, Set<(detail: any) => void>>} */
  #listeners = new Map();
  #names;

  /** @param {readonly (keyof Events & string)[]} names The events that exist. */
  constructor(names) {
    this.#names = names;
  }

  /**
   * Calls `listener` for each event `name`, until the page calls the returned function.
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   * @returns {() => void}
   */
  on(name, listener) {
    if (!this.#names.includes(/** @type {any} */ (name))) throw invalidArgument(`there is no such event: there are ${this.#names.map((one) => `\`${one}\``).join(", ")}`);
    if (typeof listener !== "function") throw invalidArgument("a listener is a function");
    const listeners = this.#listeners.get(name) ?? new Set();
    listeners.add(listener);
    this.#listeners.set(name, listeners);
    return () => void this.#listeners.get(name)?.delete(listener);
  }

  /**
   * A listener that throws disturbs neither the other listeners nor the SDK. Its error surfaces as an uncaught one.
   * @protected
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} detail
   */
  emit(name, detail) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/** @param {unknown} error */
function reportError(error) {
  if (globalThis.reportError) globalThis.reportError(error);
  else setTimeout(() => { throw error; }); // Node.js
}
