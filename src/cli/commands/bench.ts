import type { Command } from "commander";
import { addBenchComm } from "./bench-comm.js";
import { addBenchCompare } from "./bench-compare.js";
import { addBenchDecode } from "./bench-decode.js";
import { addBenchBlock, addBenchStep } from "./bench-kernels.js";
import { addBenchServe } from "./bench-serve.js";

export function addBench(program: Command): void {
  const bench = program
    .command("bench")
    .description("measure this machine: block, step, decode, server, communicator; compare architectures");
  for (const add of [
    addBenchBlock,
    addBenchStep,
    addBenchDecode,
    addBenchServe,
    addBenchComm,
    addBenchCompare,
  ])
    add(bench);
}
