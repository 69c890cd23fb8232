// What a browser gives to a page and Node.js does not: events of the window, the network as the platform sees it, and an origin.

/** Gives the globals of a page until the test ends. */
export function openPage(t, { onLine = true, origin } = {}) {
  const events = new EventTarget();
  const page = {
    navigator: { onLine },
    setOnline(value) {
      page.navigator.onLine = value;
      events.dispatchEvent(new Event(value ? "online" : "offline"));
    },
  };
  const globals = {
    navigator: page.navigator,
    addEventListener: events.addEventListener.bind(events),
    removeEventListener: events.removeEventListener.bind(events),
    ...(origin ? { location: { origin } } : {}),
  };
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => {
      if (before) Object.defineProperty(globalThis, name, before);
      else delete globalThis[name];
    });
  }
  return page;
}
