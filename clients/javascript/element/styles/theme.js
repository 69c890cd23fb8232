// The variables of a theme. A page sets `--ehr-chat-NAME` on the element or on any ancestor. The defaults are pairs, for light and dark:
// `color-scheme` chooses. Text on its ground has a contrast of 4.5 or more in both.

/** Each variable with its default. */
export const THEME = {
  background: "light-dark(#f5f8f9, #10181c)",
  surface: "light-dark(#ffffff, #141d22)",
  bubble: "light-dark(#ffffff, #1d292f)",
  "bubble-mine": "light-dark(#d3ebee, #143f46)",
  hover: "light-dark(#eaf1f3, #1c282e)",
  line: "light-dark(#d5dfe3, #2a3940)",
  edge: "light-dark(#8496a0, #61757f)",
  text: "light-dark(#13232b, #e3edf1)",
  "text-soft": "light-dark(#4d616b, #9fb4be)",
  "text-mine": "light-dark(#13232b, #e3edf1)",
  "text-mine-soft": "light-dark(#3c5761, #a8c9d0)",
  accent: "light-dark(#0b6e78, #55c4cb)",
  "accent-strong": "light-dark(#085660, #7fdbe0)",
  "on-accent": "light-dark(#ffffff, #06201f)",
  link: "light-dark(#0a5fb0, #86c8ff)",
  read: "light-dark(#0a5fb0, #86c8ff)",
  good: "light-dark(#17693f, #7ddba8)",
  warning: "light-dark(#7a4a00, #ffcb7d)",
  "warning-ground": "light-dark(#fff4dc, #2e2513)",
  bad: "light-dark(#ab2219, #ff9d93)",
  "bad-ground": "light-dark(#fdeceb, #331a19)",
  font: "\"Inter\", \"Segoe UI\", system-ui, -apple-system, \"Helvetica Neue\", \"Noto Sans\", \"Liberation Sans\", Arial, sans-serif",
  "font-size": ".9375rem",
  radius: ".9rem",
  gap: "1rem",
};

/** Short names for the other sheets: `var(--accent)`. */
export const themeRules = `:host {\n${Object.entries(THEME).map(([name, value]) => `  --${name}: var(--ehr-chat-${name}, ${value});`).join("\n")}\n}\n`;
