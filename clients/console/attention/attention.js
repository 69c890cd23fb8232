// Draws the user's attention to a new message: with a sound and a desktop notification, unless the message is on the screen.

import { getSetting } from "../settings.js";
import { t } from "../language.js";
import { Notifications } from "./notifications.js";
import { playSound } from "./sound.js";

export class Attention {
  #notifications = new Notifications();
  #owner;

  /**
   * @param {{ isOnScreen: (peer: object) => boolean, getName: (peer: object) => string, show: (peer: object) => void }} owner
   */
  constructor(owner) {
    this.#owner = owner;
  }

  /** @param {{ peer: object, conversation_id: string, message: import("/sdk/index.js").Message }} event */
  onMessage({ peer, conversation_id, message }) {
    if (message.mine || message.read_at || this.#owner.isOnScreen(peer)) return;
    if (getSetting("sound") === "on") playSound();
    const name = this.#owner.getName(peer);
    this.#notifications.show(conversation_id, {
      anonymous: t("console.notificationAnonymous"), from: t("console.notificationFrom", { name }), content: message.content,
    }, () => this.#owner.show(peer));
  }

  /** The conversation has no unread message any more. */
  onRead(conversation_id) {
    this.#notifications.close(conversation_id);
  }

  close() {
    this.#notifications.closeAll();
  }
}
