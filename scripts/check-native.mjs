// Runs the ranks of native/mpi against a stand-in for MPI (test/native) under ThreadSanitizer, and under AddressSanitizer with
// UndefinedBehaviorSanitizer and LeakSanitizer: `npm run check:native -- [--seconds N] [--seed FIRST] [--cases N]`. Needs a
// C++ compiler with sanitizers, no MPI; without one it says "skipped".
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = new URL("..", import.meta.url).pathname;
const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "20" },
    seed: { type: "string", default: "1" },
    cases: { type: "string", default: "1000000" },
  },
});
for (const [name, value] of Object.entries(options))
  if (!/^\d+$/.test(value)) {
    console.error(`scmoe: --${name} ${value}: not a number`);
    process.exit(2);
  }

const compilers = process.env.CXX === undefined ? ["g++", "clang++"] : [process.env.CXX];
const SANITIZERS = {
  ThreadSanitizer: ["-fsanitize=thread", "-O1"],
  AddressSanitizer: ["-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all", "-O0"],
};
const environment = {
  ...process.env,
  TSAN_OPTIONS: "exitcode=66",
  ASAN_OPTIONS: "detect_leaks=1:detect_stack_use_after_return=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
};
const REPORT = /WARNING: ThreadSanitizer|ERROR: (?:Address|Leak)Sanitizer|: runtime error: /g;
// Threads and a wait with a deadline: what sanitizers have failed at.
const PROBE = `#include <condition_variable>
#include <thread>
int main() {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::thread thread([&] { std::lock_guard<std::mutex> lock(mutex); done = true; changed.notify_all(); });
  std::unique_lock<std::mutex> lock(mutex);
  changed.wait_for(lock, std::chrono::seconds(9), [&] { return done; });
  lock.unlock();
  thread.join();
}
`;

/** @type {(command: readonly string[]) => Promise<{ code: number | string; output: string }>} */
function run([command, ...args]) {
  return new Promise((resolve) => {
    const settings = { env: environment, maxBuffer: 1 << 28 };
    execFile(command, args, settings, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? 1), output: stdout + stderr });
    });
  });
}

const directory = mkdtempSync(join(tmpdir(), "scmoe-check-native-"));
const flags = ["-std=c++17", "-g1", "-Wall", "-Wextra", "-Werror", `-I${root}test/native`, "-pthread"];

/**
 * The first compiler that has the sanitizer, and what to start its programs with: some kernels place memory where
 * ThreadSanitizer does not expect it unless told not to.
 * @type {(name: string, sanitizer: readonly string[]) => Promise<{ compiler: string; prefix: string[] } | undefined>}
 */
async function toolsFor(name, sanitizer) {
  const source = join(directory, `probe-${name}.cc`);
  const program = join(directory, `probe-${name}`);
  writeFileSync(source, PROBE);
  for (const compiler of compilers) {
    if ((await run([compiler, "-std=c++17", ...sanitizer, source, "-o", program, "-pthread"])).code !== 0)
      continue;
    for (const prefix of [[], ["setarch", "-R"]])
      if ((await run([...prefix, program])).code === 0) return { compiler, prefix };
  }
  return undefined;
}

/** @type {(name: string, sanitizer: readonly string[]) => Promise<boolean>} */
async function check(name, sanitizer) {
  const tools = await toolsFor(name, sanitizer);
  if (tools === undefined) {
    console.log(`${name}: skipped: none of ${compilers.join(", ")} builds programs with it that run here`);
    return true;
  }
  const { compiler, prefix } = tools;
  const program = join(directory, name);
  const sources = ["test/native/check.cc", "test/native/fake_mpi.cc", "native/mpi/scmoe_mpi.cc"].map(
    (file) => root + file,
  );
  const built = await run([compiler, ...flags, ...sanitizer, ...sources, "-o", program]);
  if (built.code !== 0) {
    console.error(`${built.output}${name}: ${compiler} failed`);
    return false;
  }
  const cases = ["--seed", options.seed, "--cases", options.cases, "--seconds", options.seconds];
  const runs = [
    { args: cases, wanted: 0 },
    { args: ["--abort", "returns"], wanted: 7 },
    { args: ["--abort", "hangs"], wanted: 7 },
  ];
  let summary = "";
  let reports = 0;
  let isGood = true;
  for (const { args, wanted } of runs) {
    const { code, output } = await run([...prefix, program, ...args]);
    const found = output.match(REPORT)?.length ?? 0;
    reports += found;
    if (args === cases) summary = output.trim().split("\n").at(-1) ?? "";
    if (found === 0 && code === wanted) continue;
    isGood = false;
    console.error(`${output}${name}: check ${args.join(" ")}: exit code ${code}, wanted ${wanted}`);
  }
  console.log(`${name} (${compiler}): ${reports} reports; ${summary}`);
  return isGood;
}

try {
  const results = await Promise.all(
    Object.entries(SANITIZERS).map(([name, sanitizer]) => check(name, sanitizer)),
  );
  process.exitCode = results.every(Boolean) ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}
