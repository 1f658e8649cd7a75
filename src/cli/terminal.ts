/** What the person at the terminal sees of a job, and how they stop it. */
import { launcherRank, launcherSize } from "../comm/mpi/library.js";
import { exitAtOnce } from "../core/exit.js";

/** Lines and one progress line on stderr; stdout stays free for results. */
export interface Terminal {
  /** An empty line: none is shown. */
  readonly progress: (line: string) => void;
  /** A line that stays. */
  readonly say: (line: string) => void;
  /** Draws what a job emits; figures are for programs. */
  readonly onEvent: (event: { readonly kind: string; readonly line?: string }) => void;
  /** Aborted by the first Ctrl-C; only with `stops`. */
  readonly signal: AbortSignal;
  readonly close: () => void;
}

export interface TerminalOptions {
  readonly quiet?: boolean | undefined;
  /** Ctrl-C asks the job to stop. Otherwise it ends the process. */
  readonly stops?: boolean;
  /** What the job does when it is asked to stop. */
  readonly stopping?: string;
}

const CLEAR = "\r\u001b[2K";
/** Without a terminal, one progress line every so often, so that logs show life but stay short. */
const LOG_INTERVAL_MS = 10_000;

/** Among the ranks of an MPI launcher, the first speaks for all. */
export const SPEAKS = launcherSize() === undefined || launcherRank() === 0;

export function openTerminal({
  quiet = false,
  stops = false,
  stopping = "finishing the step and saving",
}: TerminalOptions = {}): Terminal {
  const { say, progress } = quiet || !SPEAKS ? SILENT : drawing();
  const { signal, release } = stops
    ? onCtrlC((hint) => say(`Interrupted: ${stopping}; ${hint}`))
    : { signal: new AbortController().signal, release: () => undefined };
  return {
    progress,
    say,
    onEvent({ kind, line = "" }) {
      if (kind === "message") say(line);
      else if (kind === "progress") progress(line);
    },
    signal,
    close() {
      release();
      progress("");
    },
  };
}

type Drawing = Record<"say" | "progress", (line: string) => void>;

const SILENT: Drawing = { say: () => undefined, progress: () => undefined };

function drawing(): Drawing {
  const { stderr } = process;
  let shown = "";
  let lastMs = -Infinity;
  const clear = (): void => {
    if (shown !== "") stderr.write(CLEAR);
    shown = "";
  };
  return {
    say(line) {
      clear();
      stderr.write(`${line}\n`);
    },
    progress(line) {
      if (line === "") clear();
      else if (stderr.isTTY) {
        shown = line.slice(0, (stderr.columns || 80) - 1);
        stderr.write(CLEAR + shown);
      } else if (performance.now() - lastMs > LOG_INTERVAL_MS) {
        lastMs = performance.now();
        stderr.write(`${line}\n`);
      }
    },
  };
}

/** First Ctrl-C asks, the second leaves at once: files are only ever replaced whole, so nothing is harmed. */
function onCtrlC(say: (line: string) => void): { signal: AbortSignal; release: () => void } {
  // An MPI launcher keeps SIGTERM for itself, and hands on SIGUSR2.
  const signals = ["SIGINT", launcherSize() === undefined ? "SIGTERM" : "SIGUSR2"] as const;
  const controller = new AbortController();
  const onSignal = (): void => {
    if (controller.signal.aborted) exitAtOnce(130);
    controller.abort();
    say("press Ctrl-C again to exit at once");
  };
  for (const signal of signals) process.on(signal, onSignal);
  return {
    signal: controller.signal,
    release: () => signals.forEach((signal) => process.off(signal, onSignal)),
  };
}
