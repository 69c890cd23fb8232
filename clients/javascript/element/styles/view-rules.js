// The looks of the view around the messages: controls, header, bars, composer.

export const viewRules = `
:host {
  display: flex; flex-direction: column; box-sizing: border-box; min-width: 0; min-height: 0; block-size: 100%; max-block-size: 100dvh;
  container-type: inline-size; background: var(--background); color: var(--text); font: 400 var(--font-size)/1.5 var(--font);
}
:host([hidden]) { display: none }
*, ::before, ::after { box-sizing: border-box }
[hidden] { display: none !important }
h2, h3, p { margin: 0; padding: 0 }
.soft { color: var(--text-soft) }
.sr-only { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap }
.icon { width: 1.25em; height: 1.25em; flex: none; fill: none; stroke: currentcolor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }

button, textarea { font: inherit; color: inherit }
button { cursor: pointer; border: 1px solid transparent; border-radius: .5rem; padding: .5rem .9rem; min-height: 2.5rem; background: none }
button:disabled, textarea:disabled { opacity: .55; cursor: not-allowed }
.primary { background: var(--accent); color: var(--on-accent); font-weight: 600 }
.primary:hover:not(:disabled) { background: var(--accent-strong) }
.quiet { color: var(--accent); font-weight: 500 }
.quiet:hover:not(:disabled) { background: var(--hover) }
.round { padding: 0; width: 2.5rem; flex: none; display: grid; place-items: center; border-radius: 50% }
textarea {
  display: block; width: 100%; min-width: 0; min-height: 2.5rem; resize: none; padding: .5rem 1rem; border: 1px solid var(--edge);
  border-radius: 1.25rem; background: var(--surface); line-height: 1.45;
}
textarea::placeholder { color: var(--text-soft); opacity: 1 }

.conversation { flex: 1; min-height: 0; display: flex; flex-direction: column; position: relative }
header { display: flex; align-items: center; gap: .75rem; padding: .6rem var(--gap); background: var(--surface); border-block-end: 1px solid var(--line) }
.names { min-width: 0; flex: 1 }
h2 { width: fit-content; max-width: 100%; font-size: 1.0625em; font-weight: 650; line-height: 1.3; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: start; unicode-bidi: isolate }
h2:focus { outline: none }
.about { display: flex; flex-wrap: wrap; column-gap: .4rem; font-size: .8125rem; line-height: 1.35 }
.about > * { overflow-wrap: anywhere }
.about > :empty { display: none }
.about > :not(:empty) + :not(:empty)::before { content: "·"; margin-inline-end: .4rem; color: var(--text-soft) }
.is-online { color: var(--good) }
.back { display: none; margin-inline-start: -.5rem }
:host([back]) .back { display: grid }
.back:dir(rtl) .icon, .primary:dir(rtl) .icon-send { transform: scaleX(-1) }

.avatar { width: 2.5rem; height: 2.5rem; flex: none; display: grid; place-items: center; border-radius: 50%; font-size: .8125rem; font-weight: 600; color: light-dark(#fff, #0b1518) }
.tone-0 { background: light-dark(#0f6d74, #6cc5cb) }
.tone-1 { background: light-dark(#37568f, #a3bcf0) }
.tone-2 { background: light-dark(#75508e, #cdaee4) }
.tone-3 { background: light-dark(#8a4a5f, #eaadc0) }
.tone-4 { background: light-dark(#7a5618, #e2bf82) }
.tone-5 { background: light-dark(#3d6b35, #a6d39c) }

.banner, .unread-bar { display: flex; align-items: center; justify-content: space-between; flex-wrap: wrap; gap: 0 .75rem; padding: .35rem var(--gap); font-size: .875rem; border-block-end: 1px solid var(--line) }
.banner { background: var(--warning-ground); color: var(--warning) }
.banner p { flex: 1 1 16rem; padding-block: .25rem }
.banner.bad { background: var(--bad-ground); color: var(--bad) }
.banner .quiet { color: inherit; text-decoration: underline; text-underline-offset: .2em }
.banner .quiet, .unread-bar .quiet { min-height: 2rem; padding: .2rem .6rem }
:host([no-status]) .banner:not(.bad), :host([no-status]) .waiting { display: none }
.unread-bar { background: var(--surface); color: var(--text) }
.unread-bar > span { font-weight: 600 }

.stage { position: relative; flex: 1; min-height: 0; display: flex }
.nothing { margin: auto; padding: 2rem; text-align: center }
.jump {
  position: absolute; inset-inline-end: 1rem; inset-block-end: .75rem; display: flex; align-items: center; gap: .4rem; padding: .3rem .8rem; min-height: 2.25rem;
  border-radius: 1.2rem; border-color: var(--line); background: var(--bubble); color: var(--accent); font-size: .8125rem; font-weight: 600;
  box-shadow: 0 2px 8px rgb(0 0 0 / 18%);
}
.typing { min-height: 1.6rem; padding: 0 clamp(.75rem, 3cqi, 2rem); font-size: .8125rem }
.waiting { padding: 0 clamp(.75rem, 3cqi, 2rem) .25rem; font-size: .8125rem; font-weight: 500; color: var(--warning) }
.waiting:empty { display: none }
.compose { display: grid; grid-template-columns: 1fr auto; align-items: end; gap: .1rem .5rem; padding: .65rem var(--gap); background: var(--surface); border-block-start: 1px solid var(--line) }
.count { grid-column: 1 / -1; font-size: .75rem; text-align: end }
.count:empty { display: none }
.count.bad { color: var(--bad) }

@container (max-width: 26rem) {
  .about { flex-direction: column }
  .about > :not(:empty) + :not(:empty)::before { content: none }
}
@media (max-height: 30rem) {
  header, .compose { padding-block: .3rem }
  .typing:empty { min-height: .5rem }
}
@media (prefers-reduced-motion: no-preference) {
  button { transition: background-color .12s, border-color .12s }
}
`;
