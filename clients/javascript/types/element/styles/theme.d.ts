/** Each variable with its default. */
export const THEME: {
    background: string;
    surface: string;
    bubble: string;
    "bubble-mine": string;
    hover: string;
    line: string;
    edge: string;
    text: string;
    "text-soft": string;
    "text-mine": string;
    "text-mine-soft": string;
    accent: string;
    "accent-strong": string;
    "on-accent": string;
    link: string;
    read: string;
    good: string;
    warning: string;
    "warning-ground": string;
    bad: string;
    "bad-ground": string;
    font: string;
    "font-size": string;
    radius: string;
    gap: string;
};
/** Short names for the other sheets: `var(--accent)`. */
export const themeRules: string;
