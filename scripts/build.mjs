// Builds dist/: TypeScript, then the WebAssembly routines and the timeline page when their sources are newer.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, statSync } from "node:fs";

const bin = (name) => new URL(`../node_modules/.bin/${name}`, import.meta.url).pathname;
const root = new URL("..", import.meta.url).pathname;
function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}
const newer = (source, target) => !existsSync(target) || statSync(source).mtimeMs > statSync(target).mtimeMs;

// Installed without its development tools, as by `npm ci --omit=dev`: there is nothing to build with.
if (process.argv.includes("--if-possible") && !existsSync(bin("tsc"))) process.exit(0);
run(bin("tsc"), ["-p", "tsconfig.json"]);
const routines = ["routines", "gradients", "arrays"].map((name) => `${root}src/engine/assembly/${name}.ts`);
const wasm = `${root}dist/engine/routines.wasm`;
if (routines.some((file) => existsSync(file) && newer(file, wasm))) {
  mkdirSync(`${root}dist/engine`, { recursive: true });
  run(bin("asc"), [
    ...routines,
    "-o",
    wasm,
    "-O3",
    "--noAssert",
    "--runtime",
    "stub",
    "--importMemory",
    "--sharedMemory",
    "--initialMemory",
    "1",
    "--maximumMemory",
    "65536",
    "--enable",
    "simd",
    "--enable",
    "threads",
    "--use",
    "abort=",
  ]);
}
run(process.execPath, [`${root}scripts/build-mpi.mjs`, "--if-possible"]);
