/** The page: shows a case, and answers to pointer, wheel and keys. */
import type { PageData, SideKind } from "./data.js";
import { draw } from "./draw.js";
import { type Layout, layOut } from "./layout.js";
import {
  type PanelActions,
  details,
  exposedDetails,
  figureCards,
  legend,
  longestWaits,
  timeByClass,
} from "./panel.js";
import { AXIS, type Box, GUTTER, type Selection, boxAt, describe } from "./scene.js";
import { Viewport } from "./viewport.js";

const byId = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

/** Zoom of one notch of a wheel or one key; the share of the stretch that a key moves by. */
const ZOOM_STEP = 1.25;
const PAN_STEP = 0.15;
/** Pointer movements shorter than this are a click. */
const CLICK_PIXELS = 4;

class Page {
  readonly #data = JSON.parse(byId("data").textContent ?? "") as PageData;
  readonly #canvas = byId<HTMLCanvasElement>("canvas");
  readonly #tip = byId("tip");
  readonly #viewport = new Viewport();
  #shown = this.#data.cases[0];
  #layout: Layout = { tracks: [], groups: [], height: 0 };
  #boxes: Box[] = [];
  #selected: Selection | undefined;
  #wait: Box | undefined;
  #hovered: Selection | undefined;
  #isDrawing = false;

  readonly #actions: PanelActions = {
    show: (start, end) => {
      const room = Math.max(0.05, (end - start) * 1.5);
      this.#viewport.show(start - room, end + room);
      this.#redraw();
    },
    select: (selection) => this.#select(selection),
  };

  start(): void {
    byId("legend").append(...legend());
    const select = byId<HTMLSelectElement>("case");
    this.#data.cases.forEach(({ title }, i) => select.append(new Option(title, String(i))));
    byId("cases").hidden = this.#data.cases.length < 2;
    byId("only").textContent = this.#data.cases.length < 2 ? this.#shown.title : "";
    select.addEventListener("change", () => this.#show(Number(select.value)));
    for (const id of ["measured", "predicted", "arrows"])
      byId(id).addEventListener("change", () => {
        this.#layOut();
        this.#redraw();
      });
    byId("fit").addEventListener("click", () => this.#fit());
    byId("in").addEventListener("click", () => this.#zoom(0.5, 1 / ZOOM_STEP));
    byId("out").addEventListener("click", () => this.#zoom(0.5, ZOOM_STEP));
    this.#listen();
    this.#show(0);
  }

  #listen(): void {
    const canvas = this.#canvas;
    let drag: { x: number; y: number; moved: number } | undefined;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
          this.#panPixels(event.deltaX || event.deltaY);
        else if (event.offsetX < GUTTER) this.#scroll(event.deltaY);
        else this.#zoom(this.#share(event.offsetX), event.deltaY > 0 ? ZOOM_STEP : 1 / ZOOM_STEP);
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, moved: 0 };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag === undefined) return this.#hover(event);
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      drag = { x: event.clientX, y: event.clientY, moved: drag.moved + Math.abs(dx) + Math.abs(dy) };
      if (drag.moved < CLICK_PIXELS) return;
      this.#tip.hidden = true;
      canvas.classList.add("dragging");
      this.#scroll(-dy);
      this.#panPixels(-dx);
    });
    canvas.addEventListener("pointerup", (event) => {
      canvas.classList.remove("dragging");
      if (drag !== undefined && drag.moved < CLICK_PIXELS) this.#click(event);
      drag = undefined;
    });
    canvas.addEventListener("pointercancel", () => (drag = undefined));
    canvas.addEventListener("pointerleave", () => this.#leave());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    window.addEventListener("resize", () => {
      this.#layOut();
      this.#redraw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  #key(event: KeyboardEvent): void {
    const { span } = this.#viewport;
    const keys: Record<string, () => void> = {
      ArrowLeft: () => this.#viewport.pan(-span * PAN_STEP),
      ArrowRight: () => this.#viewport.pan(span * PAN_STEP),
      ArrowUp: () => this.#scroll(-40),
      ArrowDown: () => this.#scroll(40),
      "+": () => this.#viewport.zoom(0.5, 1 / ZOOM_STEP),
      "=": () => this.#viewport.zoom(0.5, 1 / ZOOM_STEP),
      "-": () => this.#viewport.zoom(0.5, ZOOM_STEP),
      "0": () => this.#fit(),
      n: () => this.#step(1),
      p: () => this.#step(-1),
      Enter: () => this.#showSelected(),
      Escape: () => this.#select(undefined),
    };
    const action = keys[event.key];
    if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
    this.#redraw();
  }

  #show(index: number): void {
    this.#shown = this.#data.cases[index];
    this.#selected = this.#hovered = this.#wait = undefined;
    this.#viewport.scroll = 0;
    const kinds = this.#shown.sides.map((side) => side.kind as string);
    for (const id of ["measured", "predicted"])
      byId(id).parentElement?.toggleAttribute("hidden", !kinds.includes(id));
    byId("figures").replaceChildren(...figureCards(this.#shown));
    this.#layOut();
    this.#fit();
    this.#fillPanel();
  }

  #layOut(): void {
    const kinds = (["measured", "predicted"] as SideKind[]).filter(
      (id) => byId<HTMLInputElement>(id).checked,
    );
    this.#layout = layOut(this.#shown, new Set(kinds), this.#canvas.clientHeight - AXIS);
    this.#viewport.scrollBy(0, this.#excess);
  }

  get #excess(): number {
    return this.#layout.height - (this.#canvas.clientHeight - AXIS);
  }

  #fit(): void {
    this.#viewport.fit(Math.max(...this.#shown.sides.map((side) => side.summary.stepMs)));
    this.#redraw();
  }

  #zoom(share: number, factor: number): void {
    this.#viewport.zoom(share, factor);
    this.#redraw();
  }

  #panPixels(pixels: number): void {
    this.#viewport.pan((pixels / (this.#canvas.clientWidth - GUTTER)) * this.#viewport.span);
    this.#redraw();
  }

  #scroll(pixels: number): void {
    this.#viewport.scrollBy(pixels, this.#excess);
    this.#redraw();
  }

  #share(x: number): number {
    return Math.min(1, Math.max(0, (x - GUTTER) / (this.#canvas.clientWidth - GUTTER)));
  }

  #hover(event: PointerEvent): void {
    const box = boxAt(this.#boxes, event.offsetX, event.offsetY);
    const before = this.#hovered;
    this.#hovered = box?.event === undefined ? undefined : { side: box.side, event: box.event };
    this.#tip.hidden = box === undefined;
    if (box !== undefined) {
      this.#tip.textContent = describe(box, this.#shown);
      const { offsetWidth, offsetHeight } = this.#tip;
      this.#tip.style.left = `${Math.min(event.clientX + 14, innerWidth - offsetWidth - 8)}px`;
      this.#tip.style.top = `${Math.min(event.clientY + 14, innerHeight - offsetHeight - 8)}px`;
    }
    if (before?.event !== this.#hovered?.event || before?.side !== this.#hovered?.side) this.#redraw();
  }

  #leave(): void {
    this.#tip.hidden = true;
    this.#hovered = undefined;
    this.#redraw();
  }

  #click(event: PointerEvent): void {
    const box = boxAt(this.#boxes, event.offsetX, event.offsetY);
    this.#select(box?.event === undefined ? undefined : { side: box.side, event: box.event }, box);
  }

  #select(selection: Selection | undefined, box?: Box): void {
    this.#selected = selection;
    this.#wait = box?.exposed === undefined ? undefined : box;
    this.#fillPanel();
    this.#redraw();
  }

  /** The next or previous operator on the selected track, the first of the first track when nothing is selected. */
  #step(by: number): void {
    const { tracks } = this.#layout;
    const current = this.#selected;
    const track =
      tracks.find(
        (t) => current !== undefined && t.side === current.side && t.events.includes(current.event),
      ) ?? tracks[0];
    if (track === undefined) return;
    const at = current === undefined ? -1 : track.events.indexOf(current.event);
    const next = track.events[Math.min(track.events.length - 1, Math.max(0, at + by))];
    this.#select({ side: track.side, event: next });
    const [, , start, end] = track.side.events[next];
    const { from, to, span } = this.#viewport;
    if (start < from || end > to) this.#viewport.pan(start - from - span / 4);
  }

  #showSelected(): void {
    if (this.#selected === undefined) return;
    const [, , start, end] = this.#selected.side.events[this.#selected.event];
    this.#actions.show(start, end);
  }

  #fillPanel(): void {
    const selected =
      this.#selected !== undefined
        ? details(this.#shown, this.#selected, this.#actions)
        : this.#wait?.exposed !== undefined
          ? exposedDetails(this.#wait.side, this.#wait.exposed)
          : undefined;
    byId("selection").replaceChildren(
      selected ?? byId<HTMLTemplateElement>("nothing").content.cloneNode(true),
    );
    byId("step").replaceChildren(
      ...this.#shown.sides.map((side) => longestWaits(side, this.#actions)),
      timeByClass(this.#shown),
    );
  }

  /** At most once per frame. */
  #redraw(): void {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      const style = getComputedStyle(document.documentElement);
      const inks = new Map<string, string>();
      const ink = (name: string): string => {
        let value = inks.get(name);
        if (value === undefined) inks.set(name, (value = style.getPropertyValue(name).trim()));
        return value;
      };
      const scene = {
        shown: this.#shown,
        layout: this.#layout,
        viewport: this.#viewport,
        selected: this.#selected,
        hovered: this.#hovered,
        arrows: byId<HTMLInputElement>("arrows").checked,
      };
      this.#boxes = draw(this.#canvas, scene, ink);
    });
  }

  /** What is drawn, for those who cannot see it: tests. */
  view(): object {
    const { from, to, scroll } = this.#viewport;
    const boxes = this.#boxes.map(({ side, ...box }) => ({ ...box, side: side.kind }));
    return { from, to, scroll, boxes, selected: this.#selected?.event };
  }
}

const page = new Page();
page.start();
Object.assign(window, { timelinePage: page });
