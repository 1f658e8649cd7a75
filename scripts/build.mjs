// Builds dist/: TypeScript, the script of the timeline page, and the WebAssembly routines when their sources are newer.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

/** @type {(name: string) => string} */
const bin = (name) => new URL(`../node_modules/.bin/${name}`, import.meta.url).pathname;
const root = new URL("..", import.meta.url).pathname;
/** @type {(command: string, args: string[]) => void} */
function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (result.status !== 0) process.exit(result.status ?? 1);
}
/** @type {(source: string, target: string) => boolean} */
const newer = (source, target) => !existsSync(target) || statSync(source).mtimeMs > statSync(target).mtimeMs;

run(bin("tsc"), ["-p", "tsconfig.json"]);

// A string inside a module: whatever writes the page needs neither a file system nor a bundler.
const page = await build({
  entryPoints: [`${root}src/timeline/page/main.ts`],
  bundle: true,
  format: "iife",
  platform: "browser",
  target: "es2022",
  minify: true,
  write: false,
});
const script = JSON.stringify(page.outputFiles[0].text);
writeFileSync(`${root}dist/timeline/page-script.js`, `export const PAGE_SCRIPT = ${script};\n`);

// What a moved source left behind would still be found here, and not in a fresh checkout.
for (const file of readdirSync(`${root}dist`, { recursive: true, encoding: "utf8" })) {
  const [, name] = /^(.+?)(?:\.d\.ts|\.js|\.js\.map)$/.exec(file) ?? [];
  if (name !== undefined && name !== "timeline/page-script" && !existsSync(`${root}src/${name}.ts`))
    rmSync(`${root}dist/${file}`);
}

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
