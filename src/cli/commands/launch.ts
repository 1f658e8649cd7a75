import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { BOUNDS } from "../../core/bounds.js";
import { EnvironmentError } from "../../core/errors.js";
import { launchLine, shellLine } from "../../launch/line.js";
import { numberIn } from "../options.js";

interface Flags {
  readonly hosts?: string;
  readonly ranksPerHost: number;
  readonly slurm?: boolean;
  readonly run?: boolean;
}

export function addLaunch(program: Command): void {
  program
    .command("launch")
    .description("print (or run) the mpirun or srun line that starts a command's ranks on several hosts")
    .option("--hosts <list>", "hosts, e.g. a,b or a:4,b:4 (ranks on each)")
    .option("--ranks-per-host <n>", "ranks on a host that does not say", numberIn(BOUNDS.launchedRanks), 1)
    .option("--slurm", "srun instead of mpirun; without --hosts, the allocation's nodes")
    .option("--run", "run the line instead of printing it")
    .argument("<command...>", "what every rank runs, e.g. train --out runs/hosts")
    .passThroughOptions()
    .addHelpText(
      "after",
      `
Node, this package at the same path and the same MPI must be on every host; the run directory must be shared.
  scmoe launch --hosts a,b --ranks-per-host 2 --run -- train --out /shared/run`,
    )
    .action(async (command: string[], flags: Flags) => {
      const line = launchLine({
        hosts: (flags.hosts ?? "").split(",").filter((host) => host !== ""),
        ranksPerHost: flags.ranksPerHost,
        slurm: flags.slurm ?? false,
        asRoot: process.getuid?.() === 0,
        command: [process.execPath, fileURLToPath(new URL("../main.js", import.meta.url)), ...command],
      });
      if (!flags.run) process.stdout.write(`${shellLine(line)}\n`);
      else process.exitCode = await run(line);
    });
}

/** Runs a line in the foreground; its signals are the launcher's, its exit code ours. */
function run([program, ...args]: readonly string[]): Promise<number> {
  const child = spawn(program, args, { stdio: "inherit" });
  // The launcher gets Ctrl-C itself and ends its ranks; this process only waits for it.
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore);
  const forward = (): boolean => child.kill("SIGTERM");
  process.on("SIGTERM", forward);
  return new Promise((resolve, reject) => {
    child.on("error", (error: NodeJS.ErrnoException) =>
      reject(
        new EnvironmentError(
          error.code === "ENOENT"
            ? `${program} is not installed (or not in PATH); leave out --run to see the line`
            : `Cannot run ${program}: ${error.message}`,
        ),
      ),
    );
    child.on("exit", (code) => {
      process.off("SIGINT", ignore);
      process.off("SIGTERM", forward);
      resolve(code ?? 1);
    });
  });
}
