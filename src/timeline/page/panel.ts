/** The side panel: figures of the step, what is selected, the longest waits, time by kind of operator. */
import { COLOURS, type PageCase, type PageSide, byteCount, colourOf, milliseconds } from "./data.js";
import type { TimelineSummary } from "../timeline.js";
import type { Selection } from "./scene.js";

type Child = Node | string;

function element(
  tag: string,
  attributes: Readonly<Record<string, string>>,
  ...children: Child[]
): HTMLElement {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const FIGURES: readonly {
  readonly label: string;
  readonly hint: string;
  readonly text: (s: TimelineSummary) => string;
}[] = [
  { label: "Step", hint: "until the slowest rank is done", text: (s) => milliseconds(s.stepMs) },
  { label: "Compute", hint: "sum of operators, mean over ranks", text: (s) => milliseconds(s.computeMs) },
  {
    label: "Communication",
    hint: "time with a transfer under way, mean over ranks",
    text: (s) => milliseconds(s.communicationMs),
  },
  {
    label: "Exposed",
    hint: "time that compute waits for transfers under way, mean over ranks",
    text: (s) => milliseconds(s.exposedMs),
  },
  {
    label: "Late",
    hint: "time that compute waits for ranks that have not come to a transfer yet, mean over ranks",
    text: (s) => milliseconds(s.lateMs),
  },
  {
    label: "Hidden",
    hint: "share of communication behind compute",
    text: (s) => (s.communicationMs > 0 ? `${(s.overlapShare * 100).toFixed(1)} %` : "–"),
  },
];

/** Cards: the first side large, the second beneath. */
export function figureCards(shown: PageCase): HTMLElement[] {
  return FIGURES.map(({ label, hint, text }) =>
    element(
      "div",
      { class: `card ${label.toLowerCase()}`, title: hint },
      element("span", { class: "name" }, label),
      element("strong", {}, text(shown.sides[0].summary)),
      ...shown.sides
        .slice(1)
        .map((side) => element("span", { class: "second" }, `${side.kind} ${text(side.summary)}`)),
    ),
  );
}

export function legend(): HTMLElement[] {
  const items = COLOURS.map(({ key, label }) =>
    element("span", {}, element("i", { style: `background: var(--${key})` }), label),
  );
  const mark = (name: string, label: string): HTMLElement =>
    element("span", {}, element("i", { class: name }), label);
  return [...items, mark("foot", "backward pass"), mark("hatch", "exposed: compute waits for the network")];
}

export interface PanelActions {
  /** Shows a stretch of time with room around it. */
  show(startMs: number, endMs: number): void;
  select(selection: Selection): void;
}

/** What is selected: its times on every side, and where its rows come from and go to. */
export function details(shown: PageCase, selected: Selection, actions: PanelActions): HTMLElement {
  const [rank, index, , , bytes] = selected.side.events[selected.event];
  const operator = shown.operators[index];
  const rows: [string, string][] = [
    ["rank", String(rank)],
    ["stream", operator.stream],
    ["pass", operator.pass],
  ];
  for (const side of shown.sides) {
    const event = counterpart(selected, side);
    if (event === undefined) continue;
    const [, , start, end] = side.events[event];
    rows.push([side.kind, milliseconds(end - start)], ["", `${start.toFixed(3)} – ${end.toFixed(3)} ms`]);
  }
  if (bytes > 0) {
    const [, , start, end] = selected.side.events[selected.event];
    rows.push(
      ["sent", byteCount(bytes)],
      ["rate", `${((bytes * 8) / (end - start) / 1e6).toFixed(2)} Gbit/s`],
    );
  }
  const links = selected.side.flows
    .filter((flow) => flow.includes(selected.event))
    .map(([from, to]) => {
      const other = from === selected.event ? to : from;
      const name = shown.operators[selected.side.events[other][1]].name;
      return button(`${from === selected.event ? "→" : "←"} ${name}`, () =>
        actions.select({ side: selected.side, event: other }),
      );
    });
  return section(
    operator.name,
    swatch(colourOf(operator)),
    table(rows),
    ...(links.length > 0 ? [element("div", { class: "links" }, ...links)] : []),
  );
}

/** The same run of the same operator on another side: the k-th of its rank. */
function counterpart(selected: Selection, side: PageSide): number | undefined {
  const [rank, index] = selected.side.events[selected.event];
  const runs = (of: PageSide): number[] =>
    of.events
      .map((_, i) => i)
      .filter((i) => of.events[i][0] === rank && of.events[i][1] === index)
      .sort((a, b) => of.events[a][2] - of.events[b][2]);
  return runs(side)[runs(selected.side).indexOf(selected.event)];
}

export function exposedDetails(side: PageSide, index: number): HTMLElement {
  const [rank, waitingFor, start, end] = side.exposed[index];
  return section(
    "Waiting for the network",
    table([
      ["rank", String(rank)],
      ["side", side.kind],
      ["next operator", waitingFor],
      ["waited", milliseconds(end - start)],
      ["", `${start.toFixed(3)} – ${end.toFixed(3)} ms`],
    ]),
  );
}

export function longestWaits(side: PageSide, actions: PanelActions): HTMLElement {
  const longest = [...side.exposed].sort((a, b) => b[3] - b[2] - (a[3] - a[2])).slice(0, 5);
  if (longest.length === 0) return section("Longest waits", element("p", {}, "none: compute never waited"));
  const rows = longest.map(([rank, waitingFor, start, end]) => [
    button(waitingFor, () => actions.show(start, end)),
    `rank ${rank}`,
    milliseconds(end - start),
  ]);
  return section(`Longest waits, ${side.kind}`, table(rows));
}

/** Milliseconds of each class, mean over ranks. */
export function timeByClass(shown: PageCase): HTMLElement {
  const sums = shown.sides.map((side) => {
    const total = new Map<string, number>();
    for (const [, index, start, end] of side.events) {
      const key = colourOf(shown.operators[index]);
      total.set(key, (total.get(key) ?? 0) + (end - start) / shown.numRanks);
    }
    return total;
  });
  const present = COLOURS.filter(({ key }) => sums.some((s) => s.has(key)));
  const rows = present.map(({ key, label }) => [
    element("span", {}, swatch(key), label),
    ...sums.map((total) => (total.get(key) ?? 0).toFixed(2)),
  ]);
  const head = row(["", ...shown.sides.map(({ kind }) => kind)], "th");
  return section("Time by operator, ms per rank", table(rows, head));
}

function section(title: string, ...children: Child[]): HTMLElement {
  return element("section", {}, element("h2", {}, title), ...children);
}

/** @param cell "td", or "th" for a head */
function row(cells: readonly Child[], cell = "td"): HTMLElement {
  return element("tr", {}, ...cells.map((child) => element(cell, {}, child)));
}

function table(rows: readonly (readonly Child[])[], ...head: HTMLElement[]): HTMLElement {
  return element("table", {}, ...head, ...rows.map((cells) => row(cells)));
}

function swatch(colour: string): HTMLElement {
  return element("i", { class: "swatch", style: `background: var(--${colour})` });
}

function button(text: string, onClick: () => void): HTMLElement {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", onClick);
  return made;
}
