/** Processes of this machine, found by what they were started with. */
import { readFileSync, readdirSync } from "node:fs";

/** Those that have this argument, among them the launcher of MPI ranks. */
export function processesWith(argument: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && argumentsOf(Number(name)).includes(argument))
    .map(Number);
}

/** Process of an MPI rank that was started with this argument. */
export function pidOfRank(argument: string, rank: number): number | undefined {
  const pids = processesWith(argument);
  return pids.find((pid) => !isLauncher(pid) && environmentOf(pid).includes(`OMPI_COMM_WORLD_RANK=${rank}`));
}

function isLauncher(pid: number): boolean {
  return argumentsOf(pid)[0]?.endsWith("mpirun") ?? false;
}

const argumentsOf = (pid: number): string[] => stringsOf(`/proc/${pid}/cmdline`);
const environmentOf = (pid: number): string[] => stringsOf(`/proc/${pid}/environ`);

function stringsOf(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\0");
  } catch {
    // The process has ended meanwhile.
    return [];
  }
}
