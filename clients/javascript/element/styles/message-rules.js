// The looks of the messages. What is around a row is padding of the row, so that its height holds all of it.

export const messageRules = `
.messages {
  position: relative; flex: 1; min-width: 0; overflow-y: auto; overflow-anchor: none; overscroll-behavior: contain;
  padding: .5rem clamp(.75rem, 3cqi, 2rem) .75rem; display: flex; flex-direction: column;
}
.messages:focus-visible { outline-offset: -3px }
.rows { margin-block-start: auto }
.older { align-self: center; flex: none; font-size: .8125rem }
.row { display: flex; flex-direction: column; padding-block-start: .65rem; contain: layout style }
.row.joined { padding-block-start: .25rem }
.day {
  align-self: center; margin-block: .5rem .65rem; padding: .1rem .75rem; border-radius: 1rem; border: 1px solid var(--line); background: var(--surface);
  color: var(--text-soft); font-size: .75rem; font-weight: 500;
}
.unread-line { display: flex; align-items: center; gap: .75rem; margin-block-end: .65rem; color: var(--accent); font-size: .75rem; font-weight: 600 }
.unread-line::before, .unread-line::after { content: ""; flex: 1; border-block-start: 1px solid currentcolor; opacity: .5 }
.message {
  align-self: flex-start; max-width: min(85%, 36rem); min-width: 5.5rem; padding: .5rem .8rem .35rem; border: 1px solid var(--line); background: var(--bubble);
  border-radius: var(--radius); border-end-start-radius: .25rem;
}
.message.mine { align-self: flex-end; border-color: transparent; background: var(--bubble-mine); color: var(--text-mine); border-radius: var(--radius); border-end-end-radius: .25rem }
.message p { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; text-align: start }
.message a { color: var(--link); text-underline-offset: .15em; overflow-wrap: anywhere }
.fold { min-height: 2rem; padding: .2rem 0; font-size: .8125rem; text-decoration: underline; text-underline-offset: .2em }
footer { display: flex; align-items: center; justify-content: flex-end; gap: .3rem; font-size: .6875rem; line-height: 1.3; color: var(--text-soft); font-variant-numeric: tabular-nums }
.message.mine footer { color: var(--text-mine-soft) }
.tick { display: inline-grid }
.tick .icon { width: 1rem; height: 1rem; stroke-width: 2.25 }
.tick .icon-read { width: 1.15rem; height: 1.15rem; fill: var(--read); stroke: var(--bubble-mine) }
.tick .icon-read path:first-child { stroke: var(--read) }
.message[data-state="failed"] { background: var(--bad-ground); border-color: var(--bad); color: var(--text) }
.message[data-state="failed"] .tick, .unsent { color: var(--bad) }
.unsent { margin-block-start: .25rem; font-size: .8125rem }
.unsent .actions { display: flex; justify-content: flex-end; gap: .25rem }
.unsent button { min-height: 2rem; padding: .2rem .6rem; color: inherit; text-decoration: underline; text-underline-offset: .2em }
@media (forced-colors: active) {
  .message { border-color: CanvasText }
  .tick .icon-read { fill: CanvasText; stroke: Canvas }
}
`;
