import type { Command } from "commander";
import { BOUNDS } from "../../core/bounds.js";
import { InputError } from "../../core/errors.js";
import { trainBpe } from "../../data/bpe.js";
import { readCorpus } from "../../data/corpus.js";
import { DEFAULT_ENCODING } from "../../data/encoding.js";
import { loadTokenizer, saveTokenizer } from "../../data/tokenizer.js";
import { newestCheckpoint } from "../../storage/checkpoint-names.js";
import { CORPUS, ENCODING, VOCABULARY, encodingName, numberIn, print } from "../options.js";
import { openTerminal } from "../terminal.js";

const tokenId = numberIn(BOUNDS.tokenId);
const WHERE = "tokenizer.json, or a run, checkpoint or other directory that holds it";

interface TrainFlags {
  readonly out: string;
  readonly corpus: string;
  readonly encoding: string;
  readonly vocabSize: number;
  readonly json?: boolean;
}

export function addTokenizer(program: Command): void {
  const tokenizer = program.command("tokenizer").description("train a byte-level BPE tokenizer, or use one");
  tokenizer
    .command("train")
    .description("train on a corpus; writes a Hugging Face tokenizer.json")
    .requiredOption("-o, --out <file>", "file to write")
    .option("--corpus <source>", CORPUS, "sotu")
    .option("--encoding <name>", ENCODING, encodingName, DEFAULT_ENCODING)
    .option("--vocab-size <n>", "tokens, the 256 bytes and end of text included", VOCABULARY, 2048)
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      "\nExample:\n  scmoe tokenizer train --corpus book.txt --vocab-size 4096 -o tokenizer.json",
    )
    .action((flags: TrainFlags) => {
      const terminal = openTerminal();
      const { train } = readCorpus(flags.corpus, { encoding: flags.encoding, say: terminal.say });
      const model = trainBpe(train, flags.vocabSize, (share) =>
        terminal.progress(`training the tokenizer: ${(share * 100).toFixed(0)} %`),
      );
      terminal.close();
      saveTokenizer(model, flags.out);
      const result = { file: flags.out, vocabSize: model.vocabulary.size, merges: model.merges.length };
      print(flags, result, `${result.file}: ${result.vocabSize} tokens`);
    });
  tokenizer
    .command("encode")
    .description("token ids of a text")
    .argument("<tokenizer>", WHERE)
    .argument("<text>")
    .option("--json", "print the ids as JSON")
    .addHelpText("after", '\nExample:\n  scmoe tokenizer encode runs/first "My fellow citizens"')
    .action((path: string, text: string, flags: { json?: boolean }) => {
      const ids = loadTokenizer(locate(path)).encode(text);
      print(flags, ids, ids.join(" "));
    });
  tokenizer
    .command("decode")
    .description("text of token ids")
    .argument("<tokenizer>", WHERE)
    .argument("<ids...>", "whole numbers", (text: string, before: number[] | undefined) => [
      ...(before ?? []),
      tokenId(text),
    ])
    .option("--json", "print the text as JSON")
    .addHelpText("after", "\nExample:\n  scmoe tokenizer decode runs/first 44 89 390")
    .action((path: string, ids: number[], flags: { json?: boolean }) => {
      const loaded = loadTokenizer(locate(path));
      const unknown = ids.find((id) => id >= loaded.vocabSize);
      if (unknown !== undefined)
        throw new InputError(`Token ${unknown} is beyond the tokenizer's ${loaded.vocabSize} tokens`);
      const text = loaded.decode(ids);
      print(flags, text, text);
    });
}

/** A run's tokenizer lies in its newest checkpoint. */
function locate(path: string): string {
  return newestCheckpoint(path) ?? path;
}
