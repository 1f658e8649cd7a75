import type { Command } from "commander";
import { DEFAULT_ENCODING } from "../../data/encoding.js";
import { prepareData } from "../../data/prepare.js";
import { CORPUS, ENCODING, VOCABULARY, encodingName, print } from "../options.js";
import { openTerminal } from "../terminal.js";

interface Flags {
  readonly corpus: string;
  readonly encoding: string;
  readonly vocabSize: number;
  readonly tokenizer?: string;
  readonly cache: string;
  readonly json?: boolean;
}

export function addData(program: Command): void {
  program
    .command("data")
    .description("prepare a corpus: tokenizer and token files, cached by content (train does it by itself)")
    .option("--corpus <source>", CORPUS, "sotu")
    .option("--encoding <name>", ENCODING, encodingName, DEFAULT_ENCODING)
    .option("--vocab-size <n>", "tokens of the tokenizer", VOCABULARY, 2048)
    .option("--tokenizer <file>", "use this tokenizer.json")
    .option("--cache <dir>", "where prepared token files are kept", ".scmoe/cache")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      `
Examples:
  scmoe data                                           the built-in corpus, 2048 tokens
  scmoe data --corpus books/ --vocab-size 8192
  scmoe data --corpus old.txt --encoding latin1
  scmoe data --corpus book.txt --tokenizer gpt2/tokenizer.json --vocab-size 50257`,
    )
    .action((flags: Flags) => {
      const terminal = openTerminal();
      const data = prepareData({
        corpus: flags.corpus,
        encoding: flags.encoding,
        say: terminal.say,
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
      const text = `${result.directory}: ${result.trainTokens} training and ${result.validationTokens} validation tokens, vocabulary ${result.vocabSize}, unigram entropy ${result.unigramEntropy.toFixed(3)} nats`;
      print(flags, result, text);
    });
}
