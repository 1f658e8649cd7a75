#!/usr/bin/env node
/** The command line. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted, 141 nobody reads on. */
import { CommanderError } from "commander";
import { launcherRank, launcherSize } from "../comm/mpi/library.js";
import { EnvironmentError, exitCodeOf } from "../core/errors.js";
import { exitAtOnce } from "../core/exit.js";
import { oneLine } from "../core/shown.js";
import { explain } from "../storage/files.js";
import { commandLine } from "./command-line.js";

/** Among the ranks of an MPI launcher, only rank 0 explains usage. */
const rank = launcherSize() === undefined ? 0 : launcherRank();

// A reader such as `head` that has seen enough ends this command as it ends others: quietly, with the code of SIGPIPE.
for (const stream of [process.stdout, process.stderr])
  stream.on("error", (error: NodeJS.ErrnoException) => {
    const isClosed = error.code === "EPIPE" || error.code === "ECONNRESET";
    exitAtOnce(
      isClosed ? 141 : report(new EnvironmentError(`Cannot write the output: ${explain(error)}`), ""),
    );
  });

try {
  await commandLine({ speaks: rank === 0 }).parseAsync();
} catch (thrown) {
  // Under a launcher every rank refuses the same bad input: rank 0 says it, and the launcher ends the others unless
  // theirs is a trouble of their own.
  if (rank > 0) await new Promise((resolve) => setTimeout(resolve, 2_000));
  process.exitCode = report(thrown as Error, rank > 0 ? `rank ${rank}: ` : "");
}

function report(error: Error, label: string): number {
  // Commander has printed its own line; help and version are not failures.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const exitCode = exitCodeOf(error);
  const line = oneLine(error.message.split("\n")[0]);
  if (exitCode !== undefined) {
    process.stderr.write(`scmoe: ${label}${line}\n`);
    return exitCode;
  }
  const isDebugging = process.env.SCMOE_DEBUG !== undefined;
  process.stderr.write(
    isDebugging
      ? `scmoe: ${label}internal error: ${error.stack ?? line}\n`
      : `scmoe: ${label}internal error: ${line}; please report it with the output under SCMOE_DEBUG=1\n`,
  );
  return 1;
}
