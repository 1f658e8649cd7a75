import type { Command } from "commander";
import { type ExportOptions, exportModel } from "../../api/export.js";
import { BOUNDS } from "../../core/bounds.js";
import { numberIn, print } from "../options.js";
import { openTerminal } from "../terminal.js";

interface Flags extends Pick<ExportOptions, "dtype"> {
  readonly checkpoint?: string;
  readonly shardSize: number;
  readonly json?: boolean;
}

export function addExport(program: Command): void {
  program
    .command("export")
    .description("write a model as models are published, for transformers and whatever reads such folders")
    .argument("<dir>", "run directory, checkpoint, or published folder")
    .argument("<out>", "folder to write: new or empty")
    .option("--dtype <type>", "f32 or bf16, of matrices; selection biases stay f32", "f32")
    .option("--checkpoint <step>", "of a run: after that step, or a name or path (default: its newest)")
    .option("--shard-size <gb>", "GB of a file at most", numberIn(BOUNDS.shardGb), 5)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe export runs/first models/first
  scmoe export runs/first models/first-bf16 --dtype bf16
  scmoe export runs/first models/early --checkpoint 200`,
    )
    .action(async (model: string, out: string, { json, shardSize: shardGb, ...flags }: Flags) => {
      const terminal = openTerminal({ stops: true, stopping: "nothing is left of what was written" });
      const { onEvent, signal } = terminal;
      const result = await exportModel({ model, out, shardGb, ...flags, onEvent, signal }).finally(
        terminal.close,
      );
      const { architecture, bytes, files, dtype } = result;
      const size = bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
      print(
        { json },
        result,
        `${out}: ${architecture ?? "scmoe's own form"}, ${size} of ${dtype} in ${files} ${files === 1 ? "file" : "files"}, from ${result.from}`,
      );
    });
}
