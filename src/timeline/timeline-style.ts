/** Style sheet of the timeline page. Every colour is a variable, because the canvas draws with them, too. */
export const TIMELINE_STYLE = `
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --track: #eef1f5; --rule: #dde2ea;
  --text: #1a2230; --faint: #5f6b7d; --on-bar: #ffffff; --accent: #2f62b5;
  --attention: #3f6fb5; --mlp: #2f8a63; --shared: #1f8796; --expert: #7b54b3; --routing: #6f7c8f;
  --head: #8b6b3e; --dispatch: #b8542a; --combine: #c07c14; --reduction: #7d6a74; --other: #98a3b3;
  --backward: rgba(10, 16, 28, .42); --exposed: #d3263f; --arrow: rgba(26, 34, 48, .45);
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161d; --card: #1a2029; --track: #212935; --rule: #313b4a;
    --text: #e8ecf2; --faint: #97a3b4; --on-bar: #ffffff; --accent: #86aef0;
    --attention: #4a7fcb; --mlp: #35936c; --shared: #23909f; --expert: #8c66c6; --routing: #667386;
    --head: #947448; --dispatch: #c65f33; --combine: #bd7d1f; --reduction: #8a7781; --other: #5d6878;
    --backward: rgba(0, 0, 0, .45); --exposed: #ff5d73; --arrow: rgba(232, 236, 242, .5);
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; height: 100vh; display: flex; flex-direction: column; background: var(--page); color: var(--text);
  font: 13px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; font-variant-numeric: tabular-nums; }
header { display: flex; flex-wrap: wrap; gap: .6rem 1.1rem; align-items: center; padding: .7rem 1.1rem .2rem; }
h1 { font-size: 15px; margin: 0; font-weight: 650; letter-spacing: -.01em; }
h1 span { color: var(--faint); font-weight: 400; margin-left: .5rem; }
label { display: inline-flex; align-items: center; gap: .35rem; color: var(--faint); }
select, button { font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--rule);
  border-radius: 6px; padding: .22rem .6rem; }
select { max-width: 24rem; } button { cursor: pointer; } button:hover { border-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.space { flex: 1; }
.buttons { display: flex; gap: .3rem; }
#figures { display: flex; flex-wrap: wrap; gap: .6rem; padding: .5rem 1.1rem; }
.card { flex: 1 1 9rem; background: var(--card); border: 1px solid var(--rule); border-radius: 9px; padding: .45rem .8rem .5rem; }
.card .name { display: block; color: var(--faint); font-size: 12px; }
.card strong { font-size: 19px; font-weight: 620; letter-spacing: -.02em; margin-right: .5rem; white-space: nowrap; }
.card .second { color: var(--faint); font-size: 12px; white-space: nowrap; }
.card.exposed strong { color: var(--exposed); }
#legend { display: flex; flex-wrap: wrap; gap: .2rem .95rem; padding: .15rem 1.1rem .55rem; color: var(--faint); font-size: 12px; }
#legend i, .swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: .4rem; vertical-align: -1px; }
#legend .hatch { border-radius: 1px; border: 1px solid var(--exposed);
  background: repeating-linear-gradient(135deg, var(--exposed) 0 1px, transparent 1px 4px); }
#legend .foot { background: linear-gradient(var(--other) 60%, var(--text) 60%); }
main { flex: 1; min-height: 0; display: flex; border-top: 1px solid var(--rule); }
#canvas { flex: 1; min-width: 0; height: 100%; background: var(--card); cursor: grab; touch-action: none; }
#canvas:focus-visible { outline-offset: -2px; } #canvas.dragging { cursor: grabbing; }
aside { width: 19.5rem; padding: .2rem 1.1rem 1rem; border-left: 1px solid var(--rule); overflow: auto; background: var(--page); }
section { position: relative; } section > .swatch { position: absolute; right: 0; top: 3px; }
h2 { font-size: 13px; font-weight: 620; margin: 1rem 0 .3rem; overflow-wrap: anywhere; padding-right: 1.2rem; }
aside p { margin: .2rem 0; color: var(--faint); }
aside table { border-collapse: collapse; width: 100%; }
aside td, aside th { padding: .16rem 0 .16rem .5rem; text-align: right; border-bottom: 1px solid var(--rule); font-weight: 400; }
aside th { color: var(--faint); } aside td:first-child { text-align: left; padding-left: 0; color: var(--faint); }
aside td:not(:first-child), aside th { white-space: nowrap; }
aside td button { padding: 0; border: 0; background: none; color: var(--accent); text-align: left; }
.links { display: flex; flex-wrap: wrap; gap: .3rem; margin-top: .5rem; }
kbd { font: 11px ui-monospace, monospace; border: 1px solid var(--rule); border-bottom-width: 2px; border-radius: 4px; padding: 0 .3rem; background: var(--card); }
.keys { line-height: 1.9; }
#tip { position: fixed; z-index: 2; background: var(--text); color: var(--page); padding: .3rem .55rem; border-radius: 6px;
  pointer-events: none; white-space: pre; font-size: 12px; max-width: 28rem; }
@media (max-width: 760px) { aside { display: none; } }
`;
