import { describe, expect, it } from "vitest";
import { availableMemory, peakResidentBytes } from "./available-memory.js";

const GB = 1e9;
const MEMINFO = "MemTotal:       16000000 kB\nMemFree:  1000 kB\nMemAvailable:    8000000 kB\n";

function available(files: Record<string, string>) {
  return availableMemory({ read: (path) => files[path], freeBytes: () => 3 * GB });
}

describe("available memory", () => {
  it("is what the machine says, or what is free where it says nothing", () => {
    expect(available({ "/proc/meminfo": MEMINFO })).toEqual({
      bytes: 8_000_000 * 1024,
      source: "available on this machine",
    });
    expect(available({})).toEqual({ bytes: 3 * GB, source: "free on this machine" });
  });

  it("is what a control group leaves, page cache not counted; no limit is none", () => {
    const files = {
      "/proc/meminfo": MEMINFO,
      "/proc/self/cgroup": "0::/job/step\n",
      "/sys/fs/cgroup/job/step/memory.max": `${2 * GB}\n`,
      "/sys/fs/cgroup/job/step/memory.current": `${1.5 * GB}\n`,
      "/sys/fs/cgroup/job/step/memory.stat": `anon 1\ninactive_file ${0.25 * GB}\nactive_file 7\n`,
      "/sys/fs/cgroup/job/memory.max": "max\n",
    };
    expect(available(files)).toEqual({
      bytes: 0.75 * GB,
      source: "left by the limit of 2.0 GB of cgroup /job/step",
    });
    expect(available({ ...files, "/sys/fs/cgroup/job/step/memory.max": "max\n" }).bytes).toBe(
      8_000_000 * 1024,
    );
  });

  it("is what the tightest ancestor leaves, whose other children take memory too", () => {
    const found = available({
      "/proc/meminfo": MEMINFO,
      "/proc/self/cgroup": "0::/job/step\n",
      "/sys/fs/cgroup/job/step/memory.max": `${4 * GB}`,
      "/sys/fs/cgroup/job/step/memory.current": "0",
      "/sys/fs/cgroup/job/memory.max": `${5 * GB}`,
      "/sys/fs/cgroup/job/memory.current": `${4.5 * GB}`,
    });
    expect(found).toEqual({ bytes: 0.5 * GB, source: "left by the limit of 5.0 GB of cgroup /job" });
  });

  it("knows version 1, a container that sees its own group as the root, and a group that is full", () => {
    const files = {
      "/proc/meminfo": MEMINFO,
      "/proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${GB}`,
      "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${0.9 * GB}`,
      "/sys/fs/cgroup/memory/memory.stat": `inactive_file 5\ntotal_inactive_file ${0.2 * GB}\n`,
    };
    expect(available(files)).toEqual({ bytes: 0.3 * GB, source: "left by the limit of 1.0 GB of cgroup /" });
    const full = { ...files, "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${1.5 * GB}` };
    expect(available(full).bytes).toBe(0);
    const unlimited = { ...files, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712" };
    expect(available(unlimited).bytes).toBe(8_000_000 * 1024);
  });
});

it("a process's peak is its own", () => {
  expect(peakResidentBytes({ read: () => "VmPeak:  9 kB\nVmHWM:\t  1000 kB\n" })).toBe(1_024_000);
  const before = process.resourceUsage().maxRSS * 1024;
  expect(peakResidentBytes({ read: () => undefined })).toBeGreaterThanOrEqual(before);
});
