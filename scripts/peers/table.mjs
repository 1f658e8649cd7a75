// Joins what compare.sh or block.sh measured to one Markdown table.
//
//   node scripts/peers/table.mjs compare FOLDER RATE     peer-*.json: lines of expert_parallel.py; ours-*.json: of `bench compare --json`
//   node scripts/peers/table.mjs block FOLDER            eager-, compiled-, ours-WIDTH-TURN.json: of block.py and `bench block --json`
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";

const [, , what, folder, rate] = process.argv;
const tables = { compare: compareTable, block: blockTable };
if (!Object.hasOwn(tables, what) || folder === undefined) {
  process.stderr.write("usage: table.mjs compare FOLDER RATE | table.mjs block FOLDER\n");
  process.exit(64);
}
process.stdout.write(`${tables[what]().join("\n")}\n`);

/** Values of all files whose name begins so: one per file, or one per line. */
function read(prefix, split = (text) => [text]) {
  const files = readdirSync(folder).filter((name) => name.startsWith(prefix));
  return files.flatMap((name) =>
    split(readFileSync(join(folder, name), "utf8")).map((text) => JSON.parse(text)),
  );
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function compareTable() {
  const lines = read("peer-", (text) => text.trim().split("\n"));
  const { torch, mkl, ranks, exchange, micro_batches, wire_gradients } = lines.find(
    (line) => "torch" in line,
  );
  const peers = lines.filter((line) => "ms" in line);
  const ours = read("ours-").flatMap(({ rows }) => rows);
  const like = (rows, { arch, mode }) => rows.filter((row) => row.arch === arch && row.mode === mode);
  const ourMs = (one) => median(like(ours, one).flatMap(({ roundsMs }) => roundsMs));
  const cases = ours.filter((row, i) => ours.findIndex((other) => like([other], row).length > 0) === i);
  const found = cases.map((one) => {
    const rounds = like(peers, one);
    const peerMs = median(rounds.map(({ ms }) => ms));
    const waited = median(rounds.map(({ ms, waitedMs }) => waitedMs / ms));
    const ms = ourMs(one);
    const exposed = median(like(ours, one).map((row) => row.exposedMs / row.stepMs));
    const top2 = ourMs({ arch: "top2", mode: one.mode });
    const figures = [peerMs.toFixed(0), percent(waited), ms.toFixed(0), percent(exposed)];
    return [one.arch, one.mode, ...figures, (peerMs / ms).toFixed(2), (top2 / ms).toFixed(2)];
  });
  const rounds = like(peers, cases[0]).length;
  const steps = cases.some(({ mode }) => mode === "step")
    ? `; a step has ${micro_batches} micro-batches, gradients travel as ${wire_gradients}`
    : "";
  return [
    ...markdown(
      [
        "architecture",
        "mode",
        "PyTorch ms",
        "waiting",
        "ours ms",
        "exposed",
        "PyTorch / ours",
        "× our top-2",
      ],
      found,
    ),
    "",
    `Medians of ${rounds} rounds, in turn, ${ranks} hosts, ${rate}${steps}; PyTorch's rows by ${exchange}. ${setting(torch, mkl)}, ${mpi()}.`,
  ];
}

function blockTable() {
  const peers = { eager: read("eager-"), compiled: read("compiled-") };
  const ours = read("ours-");
  const widths = [...new Set(ours.map(({ width }) => width))].toSorted((a, b) => a - b);
  const rows = widths.map((width) => {
    const of = (runs, key) => median(runs.filter((run) => run.width === width).map((run) => run[key]));
    const ms = (key) => {
      const [eager, compiled, own] = [peers.eager, peers.compiled, ours].map((runs) => of(runs, key));
      return [eager.toFixed(1), compiled.toFixed(1), own.toFixed(1), ratio(eager, own), ratio(compiled, own)];
    };
    const gemm = [peers.eager, ours].map((runs) => of(runs, "gemmGflopPerSecond").toFixed(0));
    return [width, ...ms("forwardMs"), ...ms("totalMs"), gemm.join(", ")];
  });
  const times = (name) => [`${name} ms: eager`, "compiled", "ours", "eager / ours", "compiled / ours"];
  const [{ torch, mkl }] = peers.eager;
  return [
    ...markdown(
      ["D", ...times("forward"), ...times("forward + backward"), "bare products, GFLOP/s: PyTorch, ours"],
      rows,
    ),
    "",
    `Medians of ${ours.length / widths.length} runs, in turn, one thread. ${setting(torch, mkl)}.`,
  ];
}

function ratio(peer, own) {
  return (peer / own).toFixed(2);
}

function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

function markdown(header, rows) {
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
}

function setting(torch, mkl) {
  const date = new Date().toISOString().slice(0, 10);
  const [{ model }] = cpus();
  return `${date}, ${cpus().length} × ${model.trim()}, Node ${process.versions.node}, PyTorch ${torch} (MKL's kernels ${mkl})`;
}

function mpi() {
  try {
    return execFileSync("mpirun", ["--version"], { encoding: "utf8" }).replace(
      /^mpirun \((.*)\) (.*)$[^]*/m,
      "$1 $2",
    );
  } catch {
    return "no MPI";
  }
}
