import * as element from "ehr-chat-client/element";
import { chat } from "./chat.js";

globalThis.element = element;
globalThis.chat = chat;
