#!/usr/bin/env node
// Committed, so that npm finds the command, and may run it, in a clone that is not built yet.
import { existsSync } from "node:fs";

const main = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(main)) await import(main.href);
else {
  process.stderr.write("scmoe: this clone is not built; run: npm run build\n");
  process.exitCode = 1;
}
