/** Corpora, what is made of them, and tokenizers. */
import { readFileSync } from "node:fs";
import { evalBatch, numWindows, trainBatch } from "../../../src/data/batches.js";
import { SMALLEST_VOCABULARY, BpeTokenizer, trainBpe } from "../../../src/data/bpe.js";
import { readCorpus } from "../../../src/data/corpus.js";
import { openPrepared, prepareData } from "../../../src/data/prepare.js";
import { TokenFile, writeTokenFile } from "../../../src/data/token-file.js";
import { encodePrompt, loadTokenizer } from "../../../src/data/tokenizer.js";
import type { Dice } from "./dice.js";
import { attempt } from "./judge.js";
import { json, text } from "./making.js";
import { changeBytes, changeText, string } from "./mutate.js";
import * as seeds from "./seeds.js";
import type { Target } from "./target.js";

/** Files that are made once. */
const made = new Map<string, Uint8Array>();

export const corpus: Target = {
  name: "corpus",
  weight: 30,
  make(dice, place) {
    const bytes = new TextEncoder().encode(seeds.TEXT);
    const input = dice.chance(0.5) ? changeText(dice, seeds.TEXT, [string]) : changeBytes(dice, bytes);
    const isFolder = dice.chance(0.3);
    const path = place.write(isFolder ? "corpus/one.txt" : "corpus.txt", input);
    const vocabulary = SMALLEST_VOCABULARY + dice.below(12);
    const prepares = dice.chance(0.03);
    return {
      input,
      run() {
        const source = isFolder ? place.path("corpus") : path;
        const { train, validation } = readCorpus(source);
        const model = trainBpe(train, vocabulary);
        const tokenizer = new BpeTokenizer(model);
        for (const part of [...train, ...validation]) {
          const back = tokenizer.decode(tokenizer.encode(part));
          if (back !== new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(part)))
            throw new Error("decode(encode(text)) is another text");
        }
        if (!prepares) return;
        place.remove("cache");
        const data = prepareData({
          corpus: source,
          vocabSize: vocabulary,
          cacheDirectory: place.path("cache"),
        });
        data.train.close();
        data.validation.close();
      },
    };
  },
};

export const facts: Target = {
  name: "facts.json",
  weight: 10,
  make(dice, place) {
    if (!made.has("prepared")) {
      made.set("prepared", new Uint8Array());
      place.write("prepared/tokenizer.json", JSON.stringify(seeds.BPE_JSON));
      for (const part of ["train", "validation"])
        writeTokenFile(place.path(`prepared/${part}.tokens`), [[1, 2, 3, 4]], 277);
    }
    const input = json(dice, { corpus: "x", unigramEntropy: 4.5 });
    place.write("prepared/facts.json", input);
    return {
      input,
      run() {
        const data = openPrepared(place.path("prepared"), 300);
        data.train.close();
        data.validation.close();
      },
    };
  },
};

export const tokenFile: Target = {
  name: "token file",
  weight: 60,
  make(dice, place) {
    const wide = dice.chance(0.3);
    const seed = wide ? "wide.tokens" : "narrow.tokens";
    if (!made.has(seed)) {
      writeTokenFile(place.path(seed), [Array.from({ length: 200 }, (_, i) => i % 50)], wide ? 100_000 : 50);
      made.set(seed, readFileSync(place.path(seed)));
    }
    const input = changeBytes(dice, made.get(seed) as Uint8Array);
    const path = place.write("x.tokens", input);
    return {
      input,
      run() {
        const file = TokenFile.open(path);
        try {
          const shape = { sequence: 8, batch: 2, ranks: 2, seed: 1 };
          numWindows(file, 8);
          attempt(() => trainBatch(file, shape, { position: 12, micro: 0, rank: 1 }));
          attempt(() => evalBatch(file, shape, { first: 2, real: 1 }));
          attempt(() => file.read(file.length - 1, new Int32Array(1)));
        } finally {
          file.close();
        }
      },
    };
  },
};

export function useTokenizer(path: string, dice: Dice): void {
  const tokenizer = loadTokenizer(path);
  const ids = tokenizer.encode(dice.chance(0.5) ? seeds.TEXT : text(dice, [seeds.TEXT]));
  tokenizer.decode(ids);
  encodePrompt(tokenizer, "");
  tokenizer.decode([0, tokenizer.endOfText, dice.below(tokenizer.vocabSize)]);
}
