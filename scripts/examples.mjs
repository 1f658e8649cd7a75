// Compiles the examples against the built package, by its own name, and runs each; every example checks itself.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";

const root = new URL("..", import.meta.url).pathname;
/** @type {(command: string, ...args: string[]) => void} */
function run(command, ...args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

run(`${root}node_modules/.bin/tsc`, "-p", "examples");
for (const file of readdirSync(`${root}examples`).filter((name) => name.endsWith(".ts"))) {
  console.log(`== ${file}`);
  run(process.execPath, `dist/examples/${file.replace(/\.ts$/, ".js")}`);
}
