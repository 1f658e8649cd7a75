/** `scmoe train` on threads or under MPI, to be killed. */
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { pidOfRank, processesWith } from "../../processes.js";
import type { Dice } from "../fuzz/dice.js";
import { lockToken } from "./traces.js";

export interface Where {
  readonly launcher: "threads" | "mpi";
  readonly ranks: number;
}

export interface End {
  /** Null when it was killed. */
  readonly code: number | null;
  readonly stderr: string;
}

export interface Command {
  readonly isEnded: () => boolean;
  readonly ended: Promise<End>;
  /** SIGKILL: to the process, or under MPI to one of the ranks or the launcher. @returns whom */
  readonly kill: (dice: Dice) => string;
}

// The campaign runs as dist/campaign/NAME.mjs.
const CLI = new URL("../cli/main.js", import.meta.url).pathname;
/** For a rank to notice that its launcher is gone. */
const ORPHANS_MS = 60_000;
const DEADLINE_S = 5;
const RUN_MS = 180_000;

/** Resolves when it holds the lock of its directory, or has ended. @param run absolute: processes are found by it */
export async function startTrain(
  { launcher, ranks }: Where,
  run: string,
  args: readonly string[],
): Promise<Command> {
  const before = lockToken(run);
  const line = [CLI, "train", "-q", "--deadline", String(DEADLINE_S), ...args];
  const isMpi = launcher === "mpi";
  const [program, ...rest] = isMpi
    ? ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", String(ranks), process.execPath, ...line]
    : [process.execPath, ...line, "-n", String(ranks)];
  const root = { OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" };
  const child = spawn(program, rest, {
    env: { ...process.env, ...root },
    stdio: ["ignore", "ignore", "pipe"],
    timeout: RUN_MS,
    killSignal: "SIGKILL",
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const isEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const ended = new Promise<End>((resolve) =>
    child.on("exit", (code) => setImmediate(() => resolve({ code, stderr }))),
  );
  const isLocked = (): boolean => ![undefined, before].includes(lockToken(run));
  while (!isEnded() && !isLocked()) await sleep(2);
  const pids = isMpi ? Array.from({ length: ranks }, (_, rank) => pidOfRank(run, rank)) : [];
  const kill = (dice: Dice): string => {
    const rank = isMpi ? dice.below(ranks + 1) : ranks;
    const pid = pids[rank];
    if (pid === undefined) {
      child.kill("SIGKILL");
      return isMpi ? "mpirun" : "process";
    }
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended by itself meanwhile.
    }
    return "rank";
  };
  return { isEnded, ended, kill };
}

/** Waits until no process of a run is left. @returns after how many ms; undefined when some stay (they are ended) */
export async function untilGone(run: string): Promise<number | undefined> {
  const start = performance.now();
  for (;;) {
    const left = processesWith(run);
    const ms = performance.now() - start;
    if (left.length === 0) return ms;
    if (ms > ORPHANS_MS) {
      for (const pid of left) process.kill(pid, "SIGKILL");
      return undefined;
    }
    await sleep(20);
  }
}
