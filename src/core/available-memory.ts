/** Memory that this process can still take: of the machine, and of the control groups that it is in. */
import { readFileSync } from "node:fs";
import { freemem } from "node:os";

export interface AvailableMemory {
  readonly bytes: number;
  /** Where the limit comes from, for people. */
  readonly source: string;
}

/** What is asked of the system; tests give other answers. */
export interface MemoryReaders {
  /** A file's text; undefined when it cannot be read. */
  readonly read: (path: string) => string | undefined;
  readonly freeBytes: () => number;
}

const SYSTEM: MemoryReaders = {
  read(path) {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return undefined;
    }
  },
  freeBytes: freemem,
};

/** One generation of control groups: where they are mounted, and the files that say how much is taken. */
interface Generation {
  /** The process's group in a line of /proc/self/cgroup. */
  readonly line: RegExp;
  readonly mounts: readonly string[];
  readonly limit: string;
  readonly usage: string;
  /** Page cache within the usage that the kernel gives back before anything is killed: a key of memory.stat. */
  readonly reclaimable: string;
}

const GENERATIONS: readonly Generation[] = [
  {
    line: /^0::(.*)$/m,
    mounts: ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: "inactive_file",
  },
  {
    line: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m,
    mounts: ["/sys/fs/cgroup/memory"],
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
  },
];

/** Version 1 says that there is no limit with a number that no machine has. */
const UNLIMITED = 2 ** 60;

/** The tightest of what the machine has free and what each control group leaves, from the process's own up to the root. */
export function availableMemory(readers: MemoryReaders = SYSTEM): AvailableMemory {
  const groups = GENERATIONS.flatMap((generation) => groupLimits(generation, readers));
  return [machineMemory(readers), ...groups].reduce((a, b) => (b.bytes < a.bytes ? b : a));
}

function machineMemory({ read, freeBytes }: MemoryReaders): AvailableMemory {
  const kibibytes = read("/proc/meminfo")?.match(/^MemAvailable:\s+(\d+) kB/m)?.[1];
  return kibibytes === undefined
    ? { bytes: freeBytes(), source: "free on this machine" }
    : { bytes: Number(kibibytes) * 1024, source: "available on this machine" };
}

function groupLimits(
  { line, mounts, limit, usage, reclaimable }: Generation,
  { read }: MemoryReaders,
): AvailableMemory[] {
  const own = read("/proc/self/cgroup")?.match(line)?.[1];
  if (own === undefined) return [];
  const number = (path: string): number => Number(read(path)?.trim() || NaN);
  return mounts.flatMap((mount) =>
    ancestors(own).flatMap((group) => {
      const folder = `${mount}${group}`;
      const most = number(`${folder}/${limit}`);
      // "max" is no number; in a container, groups outside it are not to be seen.
      if (!(most < UNLIMITED)) return [];
      const statistics = read(`${folder}/memory.stat`) ?? "";
      const cache = Number(new RegExp(`^${reclaimable} (\\d+)$`, "m").exec(statistics)?.[1] ?? 0);
      const used = number(`${folder}/${usage}`) || 0;
      const bytes = Math.max(0, Math.min(most, most - used + cache));
      return [
        { bytes, source: `left by the limit of ${(most / 1e9).toFixed(1)} GB of cgroup ${group || "/"}` },
      ];
    }),
  );
}

/** "/a/b" → "/a/b", "/a", "". */
function ancestors(group: string): string[] {
  const parts = group.split("/").filter((part) => part !== "" && part !== "..");
  return Array.from({ length: parts.length + 1 }, (_, i) =>
    parts
      .slice(0, parts.length - i)
      .map((part) => `/${part}`)
      .join(""),
  );
}

/** Most memory that this process has held so far. What the kernel reports with the times a process took may be its parent's. */
export function peakResidentBytes({ read }: Pick<MemoryReaders, "read"> = SYSTEM): number {
  const kibibytes = read("/proc/self/status")?.match(/^VmHWM:\s+(\d+) kB/m)?.[1];
  return (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes)) * 1024;
}
