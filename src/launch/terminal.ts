/** Lines and one progress line on stderr; stdout stays free for results. */
export interface Terminal {
  say(line: string): void;
  progress(line: string): void;
  close(): void;
}

const CLEAR = "\r\u001b[2K";
/** Without a terminal, one progress line every so often, so that logs show life but stay short. */
const LOG_INTERVAL_MS = 10_000;

export function createTerminal(quiet: boolean): Terminal {
  if (quiet) return { say: () => undefined, progress: () => undefined, close: () => undefined };
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
      if (stderr.isTTY) {
        shown = line.slice(0, (stderr.columns || 80) - 1);
        stderr.write(CLEAR + shown);
      } else if (performance.now() - lastMs > LOG_INTERVAL_MS) {
        lastMs = performance.now();
        stderr.write(`${line}\n`);
      }
    },
    close: clear,
  };
}
