import type { Command } from "commander";
import { type CommOptions, type CommResult, commJob } from "../../bench/comm.js";
import { type Link, formatLink, parseLink } from "../../comm/link.js";
import { launcherSize } from "../../comm/mpi/library.js";
import { BOUNDS } from "../../core/bounds.js";
import { launch } from "../../launch/launch.js";
import { RANKS, numberIn, percent, print } from "../options.js";
import { SPEAKS, openTerminal } from "../terminal.js";

interface Flags {
  readonly ranks?: number;
  readonly link?: string;
  readonly bytes: number;
  readonly rounds: number;
  readonly overlap: number;
  readonly json?: boolean;
}

/** `bench comm`: All-to-All against link and memcpy, and beside kernels. */
export function addBenchComm(bench: Command): void {
  bench
    .command("comm")
    .description(
      "check the communicator, then measure it: All-to-All against link and memcpy, and beside kernels",
    )
    .option("-n, --ranks <n>", "ranks, as threads, default 2 (under mpirun: MPI's)", RANKS)
    .option(
      "--link <rate,latency>",
      "threads: the link to model; under mpirun: the rate hosts are known to have",
    )
    .option("--bytes <n>", "bytes per rank of the All-to-All", numberIn(BOUNDS.messageBytes), 4 * 2 ** 20)
    .option("--rounds <n>", "measured rounds", numberIn(BOUNDS.rounds), 15)
    .option("--overlap <ms>", "length of the All-to-All beside kernels", numberIn(BOUNDS.milliseconds), 40)
    .option("--json", "print the result as JSON")
    .action(async (flags: Flags) => {
      const link = flags.link === undefined ? null : parseLink(flags.link);
      const isMpi = launcherSize() !== undefined;
      const options: CommOptions = {
        bytesPerRank: flags.bytes,
        rounds: flags.rounds,
        link,
        overlapMs: flags.overlap,
      };
      const terminal = openTerminal();
      const { result } = await launch(commJob, options, {
        ranks: flags.ranks ?? (isMpi ? undefined : 2),
        link: isMpi ? undefined : (link ?? undefined),
        onEvent: terminal.onEvent,
      }).finally(terminal.close);
      if (SPEAKS) print(flags, result, describeComm(result));
    });
}

function describeComm({ kind, ranks, checks, link, allToAll: a, overlap }: CommResult): string {
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(2)} MiB`;
  const rate = (bytesPerMs: number): string => formatRate({ bytesPerMs, latencyMs: 0 });
  const lines = [
    `${kind}, ${ranks} ranks${link === null ? "" : `, link ${formatLink(link)}`}: ${checks.length} checks passed`,
    `All-to-All of ${mib(a.bytesPerRank)} per rank: ${a.ms.toFixed(2)} ms, ${rate(a.bytesPerMs)} leave each rank${a.shareOfLink === null ? "" : `, ${percent(a.shareOfLink)} of the link`}`,
    `per rank ${(a.movedPerMs / 1e6).toFixed(2)} GB/s, memcpy on all ranks at once ${(a.memcpyPerMs / 1e6).toFixed(2)} GB/s: ${percent(a.shareOfMemcpy)}`,
  ];
  if (overlap !== null)
    lines.push(
      `beside kernels (${mib(overlap.bytesPerRank)} per rank): kernels ${overlap.computeMs.toFixed(1)} ms, All-to-All ${overlap.communicationMs.toFixed(1)} ms, both ${overlap.bothMs.toFixed(1)} ms = ${overlap.ratio.toFixed(2)} × the longer (first quartiles: ${overlap.undisturbedRatio.toFixed(2)}); processor time added ${overlap.extraCpuMs.toFixed(1)} ms`,
    );
  return lines.join("\n");
}

function formatRate(link: Link): string {
  return formatLink(link).split(",")[0];
}
