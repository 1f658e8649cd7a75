import type { Command } from "commander";
import { InputError } from "../../core/errors.js";
import { trainBpe } from "../../data/bpe.js";
import { readCorpus } from "../../data/corpus.js";
import { prepareData } from "../../data/prepare.js";
import { loadTokenizer, saveTokenizer } from "../../data/tokenizer.js";
import { createTerminal } from "../../launch/terminal.js";
import { printJson, wholeNumber } from "../options.js";

export function addDataCommands(program: Command): void {
  program
    .command("data")
    .description("prepare a corpus: tokenizer and token files, cached by content")
    .option("--corpus <source>", "sotu, a text file, or a directory of .txt files", "sotu")
    .option("--vocab-size <n>", "tokens of the tokenizer", wholeNumber, 2048)
    .option("--tokenizer <file>", "use this tokenizer.json")
    .option("--cache <dir>", "where prepared token files are kept", ".scmoe/cache")
    .option("--json", "print the result as JSON")
    .action(
      (flags: { corpus: string; vocabSize: number; tokenizer?: string; cache: string; json?: boolean }) => {
        const terminal = createTerminal(false);
        const data = prepareData({
          corpus: flags.corpus,
          vocabSize: flags.vocabSize,
          tokenizer: flags.tokenizer,
          cacheDirectory: flags.cache,
          onProgress: (what, share) => terminal.progress(`${what}: ${(share * 100).toFixed(0)} %`),
        });
        terminal.close();
        const result = {
          directory: data.directory,
          vocabSize: data.tokenizer.vocabSize,
          trainTokens: data.train.length,
          validationTokens: data.validation.length,
          unigramEntropy: data.unigramEntropy,
        };
        if (flags.json) return printJson(result);
        process.stdout.write(
          `${result.directory}: ${result.trainTokens} training and ${result.validationTokens} validation tokens, vocabulary ${result.vocabSize}, unigram entropy ${result.unigramEntropy.toFixed(3)} nats\n`,
        );
      },
    );

  const tokenizer = program.command("tokenizer").description("train a byte-level BPE tokenizer, or use one");
  tokenizer
    .command("train")
    .description("train on a corpus; writes a Hugging Face tokenizer.json")
    .requiredOption("-o, --out <file>", "file to write")
    .option("--corpus <source>", "sotu, a text file, or a directory of .txt files", "sotu")
    .option("--vocab-size <n>", "tokens, the 256 bytes and end of text included", wholeNumber, 2048)
    .action((flags: { out: string; corpus: string; vocabSize: number }) => {
      if (flags.vocabSize < 257)
        throw new InputError(`--vocab-size is ${flags.vocabSize}; a byte-level tokenizer needs at least 257`);
      const model = trainBpe(readCorpus(flags.corpus).train, flags.vocabSize);
      saveTokenizer(model, flags.out);
      process.stdout.write(`${flags.out}: ${model.vocabulary.size} tokens\n`);
    });
  tokenizer
    .command("encode")
    .description("token ids of a text")
    .argument("<tokenizer>", "tokenizer.json or the directory that holds it")
    .argument("<text>")
    .option("--json", "print the ids as JSON")
    .action((path: string, text: string, flags: { json?: boolean }) => {
      const ids = loadTokenizer(path).encode(text);
      if (flags.json) printJson(ids);
      else process.stdout.write(`${ids.join(" ")}\n`);
    });
  tokenizer
    .command("decode")
    .description("text of token ids")
    .argument("<tokenizer>", "tokenizer.json or the directory that holds it")
    .argument("<ids...>")
    .action((path: string, ids: string[]) => {
      process.stdout.write(`${loadTokenizer(path).decode(ids.map(wholeNumber))}\n`);
    });
}
