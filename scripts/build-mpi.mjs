// Builds the MPI communicator with the MPI of this machine. `--if-possible`: without mpicxx, say nothing and do nothing.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync } from "node:fs";

const root = new URL("..", import.meta.url).pathname;
const folder = `${root}native/mpi`;
const library = `${root}dist/native/libscmoe_mpi.so`;
const optional = process.argv.includes("--if-possible");

const compiler = process.env.MPICXX ?? "mpicxx";
const hasCompiler = spawnSync(compiler, ["--version"], { stdio: "ignore" }).status === 0;
if (!hasCompiler) {
  if (optional) process.exit(0);
  console.error(
    `scmoe: ${compiler} not found; install MPI (Debian: apt-get install g++ libopenmpi-dev openmpi-bin), then run: npm run build:mpi`,
  );
  process.exit(1);
}
const newest = Math.max(...readdirSync(folder).map((file) => statSync(`${folder}/${file}`).mtimeMs));
if (optional && existsSync(library) && statSync(library).mtimeMs > newest) process.exit(0);
mkdirSync(`${root}dist/native`, { recursive: true });
const args = [
  "-O2",
  "-std=c++17",
  "-shared",
  "-fPIC",
  "-Wall",
  `${folder}/scmoe_mpi.cc`,
  "-o",
  library,
  "-pthread",
];
const { status } = spawnSync(compiler, args, { stdio: optional ? "ignore" : "inherit" });
// A broken MPI must not break the build of everything else.
process.exit(optional ? 0 : (status ?? 1));
