/** Which process wrote something, so that another can tell whether it still lives. */
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

/** A process, and where its number means something. */
export interface ProcessIdentity {
  readonly host: string;
  readonly pid: number;
  /** Start time of the process as the system counts it: a number may be given again. Empty where it is not known. */
  readonly processStart: string;
  /** Of the kernel and its process numbers: two processes see each other when it is equal. */
  readonly machine: string;
}

export function thisProcess(): ProcessIdentity {
  const { pid } = process;
  return { host: hostname(), pid, processStart: startOf(pid) ?? "", machine: machineId() };
}

/** Whether a process of this machine has ended: there is none of its number, or another has it. */
export function hasEnded({ pid, processStart }: Pick<ProcessIdentity, "pid" | "processStart">): boolean {
  const start = startOf(pid);
  return start === undefined || (processStart !== "" && start !== processStart);
}

/** The kernel's boot and the namespace of its process numbers; elsewhere than on Linux the host's name. */
function machineId(): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

/** When a process started, in the system's own count; empty where that is not known, undefined when there is none. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold anything; 20 fields follow up to the start time. A zombie has ended.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    if (existsSync("/proc/self/stat")) return undefined;
  }
  try {
    process.kill(pid, 0);
    return "";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM" ? "" : undefined;
  }
}
