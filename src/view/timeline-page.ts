/** Style and script of the timeline page; the script runs in the browser and needs nothing but its data. */
export const PAGE_STYLE = `
body { margin: 0; font: 13px system-ui, sans-serif; color: #1c2430; background: #fff; }
header { display: flex; gap: 1rem; align-items: center; padding: .5rem 1rem; border-bottom: 1px solid #d5dbe3; }
main { display: flex; height: calc(100vh - 3rem); }
canvas { flex: 1; min-width: 0; cursor: grab; outline: none; }
aside { width: 17rem; padding: 1rem; border-left: 1px solid #d5dbe3; overflow: auto; }
aside table { border-collapse: collapse; width: 100%; }
aside td, aside th { padding: .2rem .3rem; text-align: right; } aside td:first-child { text-align: left; }
#tip { position: fixed; background: #1c2430; color: #fff; padding: .3rem .5rem; border-radius: 3px; pointer-events: none; white-space: pre; }
`;

export const PAGE_SCRIPT = `
const steps = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("canvas"), tip = document.getElementById("tip"), panel = document.getElementById("panel");
const pen = canvas.getContext("2d");
const COLORS = { attention: "#3b6ea5", mlp: "#4f9d69", expert: "#7a5ba8", shared: "#2f8f9d", head: "#8a6d3b", dispatch: "#c0504d", combine: "#d9822b", reduce: "#999999" };
const LEFT = 150, ROW = 22, TOP = 26;
let step = steps[0], from = 0, to = 1, boxes = [];
function whole() { from = 0; to = Math.max(step.measured.summary.stepMs, step.predicted.summary.stepMs) * 1.02 || 1; }
function color(name) { for (const key in COLORS) if (name.includes(key)) return COLORS[key]; return "#b8c2cc"; }
function rows() {
  const list = [];
  for (const kind of ["measured", "predicted"])
    for (let rank = 0; rank < step[kind].numRanks; rank++)
      for (const stream of ["compute", "network"]) list.push({ kind, rank, stream });
  return list;
}
function draw() {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio; canvas.height = height * ratio; pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height); pen.font = "11px system-ui, sans-serif"; boxes = [];
  const x = (ms) => LEFT + (ms - from) / (to - from) * (width - LEFT - 10);
  const places = rows().map((row, i) => ({ ...row, y: TOP + i * (ROW + 4) + (row.kind === "predicted" ? 18 : 0) }));
  pen.save(); pen.beginPath(); pen.rect(LEFT, 0, width - LEFT, height); pen.clip();
  for (const p of places) {
    const side = step[p.kind];
    if (p.stream === "compute") for (const [rank, waiting, a, b] of side.exposed) if (rank === p.rank) {
      pen.fillStyle = "rgba(217,130,43,.28)"; pen.fillRect(x(a), p.y, x(b) - x(a), 2 * ROW + 4);
      boxes.push({ x: x(a), y: p.y, w: x(b) - x(a), h: ROW, text: "exposed: waiting for " + waiting + "\\n" + (b - a).toFixed(3) + " ms" });
    }
    for (const [rank, stream, name, a, b, bytes, pass] of side.events) {
      if (rank !== p.rank || stream !== p.stream || b < from || a > to) continue;
      const w = Math.max(.5, x(b) - x(a));
      pen.fillStyle = color(name); pen.globalAlpha = pass === "backward" ? .75 : 1; pen.fillRect(x(a), p.y, w, ROW); pen.globalAlpha = 1;
      if (w > 46) { pen.fillStyle = "#fff"; pen.fillText(name.slice(0, w / 6.2), x(a) + 3, p.y + 15); }
      boxes.push({ x: x(a), y: p.y, w, h: ROW, text: name + "\\n" + a.toFixed(3) + " – " + b.toFixed(3) + " ms (" + (b - a).toFixed(3) + ")" + (bytes ? "\\n" + bytes + " bytes sent" : "") });
    }
  }
  pen.restore(); pen.fillStyle = "#1c2430";
  for (const p of places) pen.fillText(p.kind + " r" + p.rank + " " + p.stream, 8, p.y + 15);
  for (let i = 0; i <= 8; i++) { const ms = from + (to - from) * i / 8; pen.fillText(ms.toFixed(to - from > 20 ? 0 : 2) + " ms", x(ms) - 10, 14); }
  document.body.dataset.drawn = String(boxes.length);
}
function figures() {
  const line = (name, key, unit, scale) => "<tr><td>" + name + "</td><td>" + (step.measured.summary[key] * scale).toFixed(1) + unit + "</td><td>" + (step.predicted.summary[key] * scale).toFixed(1) + unit + "</td></tr>";
  panel.innerHTML = "<table><tr><th></th><th>measured</th><th>predicted</th></tr>" + line("step", "stepMs", " ms", 1) + line("compute", "computeMs", " ms", 1) + line("communication", "communicationMs", " ms", 1) + line("exposed", "exposedMs", " ms", 1) + line("hidden", "overlapShare", " %", 100) + "</table><p>Shaded: the compute stream waits for the network.</p>";
}
function show(i) { step = steps[i]; whole(); figures(); draw(); }
document.getElementById("step").onchange = (e) => show(+e.target.value);
document.getElementById("reset").onclick = () => { whole(); draw(); };
canvas.onwheel = (e) => { e.preventDefault(); const share = Math.max(0, (e.offsetX - LEFT) / (canvas.clientWidth - LEFT - 10)), at = from + share * (to - from), f = e.deltaY > 0 ? 1.25 : .8; from = at - (at - from) * f; to = at + (to - at) * f; draw(); };
let drag = null;
canvas.onpointerdown = (e) => { drag = e.clientX; canvas.setPointerCapture(e.pointerId); };
canvas.onpointerup = () => { drag = null; };
canvas.onpointermove = (e) => {
  if (drag !== null) { const ms = (drag - e.clientX) / (canvas.clientWidth - LEFT - 10) * (to - from); from += ms; to += ms; drag = e.clientX; draw(); return; }
  const hit = boxes.findLast((b) => e.offsetX >= b.x && e.offsetX <= b.x + b.w && e.offsetY >= b.y && e.offsetY <= b.y + b.h);
  tip.hidden = !hit; if (hit) { tip.textContent = hit.text; tip.style.left = e.clientX + 12 + "px"; tip.style.top = e.clientY + 12 + "px"; }
};
addEventListener("resize", draw);
show(0);
`;
