/** A disk that fails once, at every operation of preparing, training, resuming and exporting: all go on after it, or say why not. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Mode, type Operation, breakDisk, mendDisk } from "../faults/faulty-disk.mjs";
import { type Scene, Stage, exportScene, prepareScene, resumeScene, trainScene } from "../faults/scenes.js";
import { type CampaignOptions, type CampaignResult, progressOf, repeatLine } from "./campaign.js";

/** One fault: at an operation, counted from 1, of a scene; without a rank, in this process. */
interface Fault {
  readonly scene: Scene;
  readonly at: number;
  readonly operation: Operation;
  readonly mode: Mode;
  readonly rank?: number | "main";
}

/** Steps through all faults, one after the other from the seed on, in an order that mixes scenes and modes. */
export async function campaign({ seed, cases, say }: CampaignOptions): Promise<CampaignResult> {
  const root = mkdtempSync(join(tmpdir(), "scmoe-io-faults-"));
  try {
    const stage = new Stage(root);
    await stage.prepare();
    const faults = await listFaults(stage, say);
    const count = cases ?? faults.length;
    const progress = progressOf(say, count);
    const failures: string[] = [];
    for (let i = 0; i < count; i++) {
      const fault = faults[((seed + i) * STRIDE) % faults.length];
      const problems = await play(stage, fault);
      if (problems.length > 0)
        failures.push(
          `${describe(fault)}: ${problems.slice(0, 3).join(" + ")}; ${repeatLine("io-faults", seed + i)}`,
        );
      progress(i + 1, failures.length);
    }
    say(`${count} faults left ${stage.numEnds} different directories behind`);
    return { cases: count, failures };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** A prime: steps of it through a list come to every place. */
const STRIDE = 7919;

function describe({ scene, at, operation, mode, rank }: Fault): string {
  const who = rank === undefined || rank === "main" ? "" : `, rank ${rank}`;
  return `${scene.name}${who}, operation ${at} (${operation.name} ${operation.path}), ${mode}`;
}

async function listFaults(stage: Stage, say: (line: string) => void): Promise<Fault[]> {
  const faults: Fault[] = [];
  const add = (
    scene: Scene,
    operations: readonly Operation[],
    how: Pick<Fault, "rank">,
    kinds: Kinds,
  ): void => {
    const before = faults.length;
    telling(operations).forEach(([i, operation]) => {
      const isLastChange = !operations.slice(i + 1).some(({ modes }) => modes.includes("kill"));
      const modes =
        operation.modes.includes("kill") && isLastChange ? [...operation.modes, KILL_AFTER] : operation.modes;
      for (const mode of modes)
        if (kinds === "all" || mode.startsWith("kill") === (kinds === "kills"))
          faults.push({ scene, at: i + 1, operation, mode, ...how });
    });
    const where = how.rank === undefined ? "" : `, ${kinds === "all" ? `rank ${how.rank}` : "killed"}`;
    say(`${scene.name}${where}: ${operations.length} operations, ${faults.length - before} faults`);
  };
  for (const scene of [prepareScene, trainScene(1), resumeScene(1), exportScene]) {
    stage.set(scene);
    breakDisk({ root: stage.work, at: 0, mode: "EIO" });
    await scene.here(stage.work).finally(() => add(scene, mendDisk(), {}, "errors"));
    const rank = scene === prepareScene || scene === exportScene ? "main" : 0;
    add(scene, countOperations(stage, scene, rank), { rank }, "kills");
  }
  for (const scene of [trainScene(2), resumeScene(2)])
    for (const rank of [0, 1]) add(scene, countOperations(stage, scene, rank), { rank }, "all");
  return faults;
}

/** Of many operations alike on one file, the first, one in the middle and the last. */
function telling(operations: readonly Operation[]): [index: number, Operation][] {
  const alike = new Map<string, [number, Operation][]>();
  for (const [i, operation] of operations.entries()) {
    const key = `${operation.name} ${operation.path}`;
    alike.set(key, [...(alike.get(key) ?? []), [i, operation]]);
  }
  return [...alike.values()]
    .flatMap((list) => [...new Set([0, list.length >> 1, list.length - 1])].map((i) => list[i]))
    .sort(([a], [b]) => a - b);
}

type Kinds = "errors" | "kills" | "all";
const KILL_AFTER: Mode = "kill after";

/** Of one rank of a command. */
function countOperations(stage: Stage, scene: Scene, rank: number | "main"): Operation[] {
  stage.set(scene);
  const log = join(stage.root, "operations.json");
  const { code, stderr } = stage.command(scene, { root: stage.work, at: 0, mode: "EIO", rank, log });
  if (code !== 0) throw new Error(`${scene.name} ends with ${code} undisturbed: ${stderr}`);
  return JSON.parse(readFileSync(log, "utf8")) as Operation[];
}

/** @returns what is wrong */
async function play(stage: Stage, fault: Fault): Promise<readonly string[]> {
  const { scene, at, mode, rank } = fault;
  stage.set(scene);
  const plan = { root: stage.work, at, mode };
  const said =
    rank === undefined ? await failHere(stage, scene, plan) : failCommand(stage, fault, { ...plan, rank });
  return [...said, ...(await stage.problems(scene))];
}

async function failHere(
  { work }: Stage,
  scene: Scene,
  plan: Parameters<typeof breakDisk>[0],
): Promise<readonly string[]> {
  breakDisk(plan);
  try {
    await scene.here(work);
    return [];
  } catch (thrown) {
    const error = thrown as Error & { exitCode?: number };
    if (error.exitCode !== 1 && error.exitCode !== 2)
      return [`an internal error: ${oneLine(error.stack ?? "")}`];
    return complaints(error.message, work);
  } finally {
    mendDisk();
  }
}

function failCommand(stage: Stage, { scene, mode }: Fault, plan: unknown): readonly string[] {
  const { code, signal, stderr } = stage.command(scene, plan);
  if (mode.startsWith("kill"))
    return signal === "SIGKILL" ? [] : [`was not killed: exit code ${code}, ${signal}, ${oneLine(stderr)}`];
  if (code === 0) return [];
  const lines = stderr.trimEnd().split("\n");
  if ((code !== 1 && code !== 2) || lines.length !== 1 || !lines[0].startsWith("scmoe: "))
    return [`exit code ${code}, ${signal}: ${oneLine(stderr)}`];
  return complaints(lines[0], /(run|cache|corpus|\bout\b)/);
}

/** @param place what the line must name */
function complaints(line: string, place: string | RegExp): string[] {
  const isNamed = typeof place === "string" ? line.includes(place) : place.test(line);
  const found = isNamed ? [] : ["does not say which file"];
  if (line.includes("\n")) found.push("more than one line");
  if (line.includes("internal error") || line.includes("injected")) found.push("not in words for people");
  return found.map((what) => `${what}: ${oneLine(line)}`);
}

function oneLine(text: string): string {
  return text.trim().split("\n").slice(0, 6).join(" | ");
}
