// Only compiled: a page with the element.

import { connect } from "ehr-chat-client";
import { EhrChat, type Description, type Resolve } from "ehr-chat-client/element";

export async function show(token: string): Promise<void> {
  const element = new EhrChat();
  const resolve: Resolve = (person) => ({ name: person.user_id ?? person.contact_id ?? "" } satisfies Partial<Description>);
  element.resolve = resolve;
  element.chat = await connect({ url: "https://chat.example.org", token });
  element.peer = { contact_id: "pat456" };
  document.body.append(element);
}
