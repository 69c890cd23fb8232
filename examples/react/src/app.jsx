import { useEffect, useState } from "react";

import { useChat, useConversation, useInbox } from "./ehr-chat-react.js";

// Development only. In production ask the token endpoint of your own server, as examples/token-endpoint shows.
async function token() {
  const response = await fetch("/dev/token", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ sub: "doc123", role: "user", location_id: "loc1" }),
  });
  return (await response.json()).token;
}

const keyOf = (peer) => peer.user_id ?? peer.contact_id;

export function App() {
  const { chat, error } = useChat({ token });
  const [peer, setPeer] = useState({ contact_id: "pat456" });
  useEffect(() => {
    const warn = (event) => { if (chat?.pending) event.preventDefault(); };
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [chat]);
  if (error) return <p role="alert">{error.message}</p>;
  return (
    <main className="chat">
      <Inbox chat={chat} selected={peer} onSelect={setPeer} />
      <Conversation key={keyOf(peer)} chat={chat} peer={peer} />
    </main>
  );
}

function Inbox({ chat, selected, onSelect }) {
  const { rows, hasMore, loadMore } = useInbox(chat);
  return (
    <ul className="inbox" aria-label="Conversations">
      {rows.map((row) => (
        <li key={row.conversation_id}>
          <button type="button" aria-current={keyOf(row.peer) === keyOf(selected) || undefined} onClick={() => onSelect(row.peer)}>
            <bdi>{keyOf(row.peer)}</bdi> {row.unread_count > 0 && <strong>{row.unread_count} new</strong>}
          </button>
        </li>
      ))}
      {hasMore && <li><button type="button" onClick={loadMore}>More</button></li>}
    </ul>
  );
}

function Conversation({ chat, peer }) {
  const { messages, state, draft, hasMore, peerTyping, send, retry, loadOlder, markRead, typing, setDraft } = useConversation(chat, peer);
  const [written, setWritten] = useState(null); // the SDK tells of drafts too late for the caret of an input
  const text = written ?? draft;
  useEffect(() => { // a message in a background tab is not read
    const mark = () => { if (document.visibilityState === "visible") markRead(messages); };
    mark();
    document.addEventListener("visibilitychange", mark);
    return () => document.removeEventListener("visibilitychange", mark);
  }, [messages, markRead]);

  function write(event) {
    setWritten(event.target.value);
    setDraft(event.target.value);
    typing();
  }
  function submit(event) {
    event.preventDefault();
    send(text);
    setWritten(null); // the SDK keeps the draft of a message that it does not take
  }
  return (
    <section className="conversation" aria-label={`Conversation with ${keyOf(peer)}`}>
      <p role="status">{peerTyping ? "typing…" : state}</p>
      <ul className="messages">
        {hasMore && <li><button type="button" onClick={loadOlder}>Older messages</button></li>}
        {messages.map((message) => (
          <li key={message.key} className={message.mine ? "mine" : ""}>
            <bdi>{message.content}</bdi> {message.mine && <small>{message.status}</small>}
            {message.status === "failed" && <button type="button" onClick={() => retry(message)}>Send again</button>}
          </li>
        ))}
      </ul>
      <form onSubmit={submit}>
        <input aria-label="Message" autoComplete="off" dir="auto" value={text} onChange={write} disabled={!chat} />
        <button type="submit" disabled={!chat || !text.trim()}>Send</button>
      </form>
    </section>
  );
}
