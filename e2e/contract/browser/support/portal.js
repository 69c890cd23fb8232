// A portal that embeds `<ehr-chat>`, as an integrator builds it: another page, with a strict content security policy and scripts of its own.

import { open } from "./browser.js";
import { token } from "../../sdk/system.js";

const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'";
const PAGE = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Portal</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/portal.css"><script type="module" src="/portal.js"></script></head>
<body><main data-pane="me"><h1>Portal</h1><ehr-chat></ehr-chat></main></body></html>`;
const STYLE = ":root { color-scheme: light dark } html, body { height: 100%; margin: 0 } main { height: 100%; display: flex; flex-direction: column } h1 { margin: 0; font-size: 1rem }";

/**
 * Opens the portal. `window.element` is the element, `window.chat` the chat.
 * @param {{ me: object, peer: object, script?: string, style?: string, connect?: string }} portal `script` runs before the peer is set.
 * @param {object} [options] Of `open`.
 */
export function openPortal({ me, peer, script = "", style = "", connect = "" }, options = {}) {
  const code = `
    import { connect } from "/sdk/index.js";
    import "/sdk/element.js";
    window.chat = await connect({ token: ${JSON.stringify(token(me))}, ${connect} });
    window.element = document.querySelector("ehr-chat");
    element.chat = chat;
    ${script}
    element.peer = ${JSON.stringify(peer)};`;
  const routes = {
    "/portal": { contentType: "text/html", headers: { "content-security-policy": POLICY }, body: PAGE },
    "/portal.js": { contentType: "text/javascript", body: code },
    "/portal.css": { contentType: "text/css", body: STYLE + style },
  };
  return open("/portal", { routes, ...options });
}
