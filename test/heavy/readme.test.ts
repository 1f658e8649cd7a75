/** Every command of the README's code blocks, in its order, as a reader would type it. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, it } from "vitest";
import { CLI, scmoe, temporaryDirectory } from "../helpers.js";

const ROOT = dirname(fileURLToPath(new URL("../../package.json", import.meta.url)));
const dir = temporaryDirectory();

/** Not run here: `.ci/run` is what installs, tests and starts; the others are not commands of this machine. */
const ELSEWHERE = [/^npm (ci|start|test)\b/, /^npm run build:mpi$/, /path\/to\//, /launch .*--hosts a,b/];
/** Long work gets Ctrl-C once it has said this, and must go on from there. */
const INTERRUPT: readonly { readonly command: RegExp; readonly after: RegExp }[] = [
  { command: /scmoe train (?!.*--dry-run)/, after: / ([4-9]|\d\d)\/\d+ / },
];
/** The launcher ends its ranks in its own way. */
const LAUNCHER = /mpirun|hosts\.sh/;
/** Benchmarks measure one small round: here it matters that they run. */
const SHORTENED: readonly { readonly command: RegExp; readonly with: string }[] = [
  { command: /bench compare/, with: " --rounds 1 --width 64 --pairs 2 --sequence 64 --batch 2" },
];

const commands = [...readFileSync(join(ROOT, "README.md"), "utf8").matchAll(/```sh\n([^]*?)```/g)]
  .flatMap(([, block]) => block.split("\n"))
  .map((line) =>
    line
      .replace(/\s+#.*/, "")
      .replace(/^sudo /, "")
      .trim(),
  )
  .filter((line) => line !== "" && !ELSEWHERE.some((pattern) => pattern.test(line)));

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly isInterrupted: boolean;
}

/** In a shell of its own; Ctrl-C goes to all of its processes, as from a terminal. */
function run(line: string): Promise<Ended> {
  const command = SHORTENED.reduce(
    (text, { command: pattern, with: flags }) =>
      text.replace(/npx scmoe [^&]*/g, (part) => (pattern.test(part) ? `${part.trimEnd()}${flags} ` : part)),
    line,
  );
  const after = INTERRUPT.find((rule) => rule.command.test(line))?.after;
  return new Promise((resolve) => {
    // The trap: a shell that Ctrl-C kills would hide how the command ended.
    const child = spawn("sh", ["-c", `trap : INT; ${command}`], {
      cwd: dir,
      env: { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: "1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1" },
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [output, isInterrupted] = ["", false];
    const read = (text: Buffer): void => {
      output += String(text);
      if (isInterrupted || after?.test(output) !== true) return;
      isInterrupted = true;
      process.kill(-(child.pid as number), "SIGINT");
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("close", (code) => resolve({ code, output, isInterrupted }));
  });
}

beforeAll(() => {
  // What a reader has after `npm ci && npm start`, made in a few steps; and the config file that the README speaks of.
  mkdirSync(join(dir, "node_modules", ".bin"), { recursive: true });
  const script = `#!/bin/sh\nexec ${process.execPath} ${CLI} "$@"\n`;
  writeFileSync(join(dir, "node_modules", ".bin", "scmoe"), script, { mode: 0o755 });
  symlinkSync(join(ROOT, "scripts"), join(dir, "scripts"));
  writeFileSync(join(dir, "mine.yaml"), "model:\n  preset: tiny\ntrain:\n  steps: 10\n");
  const { code, stderr } = scmoe(["start", "--steps", "4", "--out", "runs/start"], dir);
  expect(code, stderr).toBe(0);
});

it("the README has commands", () => expect(commands.length).toBeGreaterThan(12));

it.each(commands)("%s", async (line) => {
  const { code, output, isInterrupted } = await run(line);
  expect(output).not.toMatch(/^\s+at .*\.js:\d+/m);
  if (isInterrupted && LAUNCHER.test(line)) expect(code).not.toBe(0);
  else expect(code, output).toBe(isInterrupted ? 130 : 0);
  const written = /(?:--out|-o|--calibration) (\S+)/.exec(line)?.[1];
  if (written !== undefined) expect(existsSync(join(dir, written)), `${written} of: ${line}`).toBe(true);
});
