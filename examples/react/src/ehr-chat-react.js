// React hooks for the SDK. Copy this file into your application.
//
// Each hook opens what it shows while its component is mounted, and closes it afterwards. What a hook returns stays the same object until
// something changes. Its functions stay the same for as long as the hook shows the same conversation or inbox.

import { connect } from "ehr-chat-client";
import { useMemo, useState, useSyncExternalStore } from "react";

/**
 * Connects once. Only the options of the first call count. Give the component a `key`, such as the id of the person who is signed in, so
 * that another person gets another connection.
 * @param {import("ehr-chat-client").Options} options Those of `connect`.
 * @returns {{ chat: import("ehr-chat-client").Chat | null, error: import("ehr-chat-client").ChatError | null }} Both are null until the
 *   first token is there.
 */
export function useChat(options) {
  const [store] = useState(() => new ChatStore(options));
  return useStore(store);
}

/**
 * One conversation, while the component is mounted.
 * @param {import("ehr-chat-client").Chat | null} chat
 * @param {{ user_id: string } | { contact_id: string }} peer
 */
export function useConversation(chat, peer) {
  const [[kind, id]] = Object.entries(peer);
  return useStore(useMemo(() => new SourceStore({
    open: chat && (() => chat.conversation({ [kind]: id })),
    read: (conversation) => ({
      messages: conversation?.messages ?? NOTHING,
      state: conversation?.state ?? "connecting",
      error: conversation?.error ?? null,
      loaded: conversation?.loaded ?? false,
      hasMore: conversation?.hasMore ?? false,
      peerTyping: conversation?.peerTyping ?? false,
      presence: conversation?.presence ?? null,
      draft: conversation?.draft ?? "",
    }),
    actions: ["send", "retry", "discard", "loadOlder", "markRead", "typing", "setDraft"],
  }), [chat, kind, id]));
}

/**
 * All conversations of the participant, newest activity first.
 * @param {import("ehr-chat-client").Chat | null} chat
 */
export function useInbox(chat) {
  return useStore(useMemo(() => new SourceStore({
    open: chat && (() => chat.inbox()),
    read: (inbox) => ({
      rows: inbox?.rows ?? NOTHING,
      unread: inbox?.unread ?? 0,
      state: inbox?.state ?? "connecting",
      error: inbox?.error ?? null,
      loaded: inbox?.loaded ?? false,
      hasMore: inbox?.hasMore ?? false,
    }),
    actions: ["loadMore"],
  }), [chat]));
}

const NOTHING = Object.freeze([]);
const NOT_CONNECTED = Object.freeze({ chat: null, error: null });

const useStore = (store) => useSyncExternalStore(store.subscribe, store.getSnapshot);

/** Opens a conversation or an inbox when React subscribes, and closes it when React unsubscribes. */
class SourceStore {
  #open;
  #read;
  #actions;
  #snapshot;
  #source = null;

  constructor({ open, read, actions }) {
    this.#open = open;
    this.#read = read;
    this.#actions = Object.fromEntries(actions.map((name) => [name, (...values) => this.#source?.[name](...values)]));
    this.#snapshot = this.#take();
  }

  getSnapshot = () => this.#snapshot;

  subscribe = (notify) => {
    if (!this.#open) return () => {};
    const source = this.#open();
    this.#source = source;
    const update = () => {
      this.#snapshot = this.#take();
      notify();
    };
    const stops = ["change", "state", "error"].map((name) => source.on(name, update));
    update();
    return () => {
      for (const stop of stops) stop();
      source.close();
      this.#source = null;
    };
  };

  #take() {
    return Object.freeze({ ...this.#read(this.#source), ...this.#actions });
  }
}

/** Connects when React subscribes. React's strict mode subscribes twice in development, and the first connection is closed again. */
class ChatStore {
  #options;
  #snapshot = NOT_CONNECTED;

  constructor(options) {
    this.#options = options;
  }

  getSnapshot = () => this.#snapshot;

  subscribe = (notify) => {
    let isSubscribed = true;
    let opened = null;
    const show = (chat, error) => {
      this.#snapshot = Object.freeze({ chat, error });
      notify();
    };
    connect(this.#options).then(
      (chat) => {
        if (!isSubscribed) return chat.close();
        opened = chat;
        show(chat, null);
      },
      (error) => { if (isSubscribed) show(null, error); },
    );
    return () => {
      isSubscribed = false;
      opened?.close();
      this.#snapshot = NOT_CONNECTED;
    };
  };
}
