// Prefill and cached decoding beside llama.cpp, one thread each, in turn.
//
//   node scripts/compare-llama.mjs PROGRAM FOLDER ... [--rounds 9] [--batch 1,8] [--prompt 512] [--tokens 128] [--forms f32,int8,int4]
//
// PROGRAM measures llama.cpp: called with GGUF files, --threads, --batch, --prompt, --generate, --rounds, --kv and --api raw, it prints a JSON
// line per case, with batch, prefill_tps, decode_tps and step_ms, of which the first is the 10th percentile. A FOLDER holds one model: hf/ as published, and <any name>-f32.gguf, -q8_0.gguf and
// -q4_0.gguf with the same weights. Both feed random tokens and choose greedily; here the cache is f32, there f32 for f32 and f16
// otherwise (--kv). A round runs one after the other, the first of the two in turn. Ratios are medians of rounds, here over there; "fastest": of
// the fastest tenth of steps, which other work on the machine disturbs least.
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { loadavg } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { UsageError, list, openCheckout, runScript, scmoe, wholeNumbers } from "./compare/checkout.mjs";

const USAGE =
  "Usage: node scripts/compare-llama.mjs PROGRAM FOLDER ... [--rounds 9] [--batch 1,8] [--prompt 512] [--tokens 128] [--forms f32,int8,int4] [--kv f16]";
const LONGEST_MS = 1_800_000;
/** What llama.cpp calls weights of about as many bits. */
const PEER_TYPES = { f32: "f32", int8: "q8_0", int4: "q4_0" };

await runScript(USAGE, async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "9" },
      batch: { type: "string", default: "1,8" },
      prompt: { type: "string", default: "512" },
      tokens: { type: "string", default: "128" },
      forms: { type: "string", default: Object.keys(PEER_TYPES).join() },
      kv: { type: "string", default: "f16" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return void process.stdout.write(`${USAGE}\n`);
  const [program, ...folders] = positionals.map((path) => resolve(path));
  if (folders.length === 0) throw new UsageError("Wanted the peer's program and a folder at least");
  if (!existsSync(program)) throw new UsageError(`${program} does not exist`);
  const forms = list(values.forms);
  for (const form of forms)
    if (!(form in PEER_TYPES))
      throw new UsageError(`--forms takes ${Object.keys(PEER_TYPES).join()}; found "${form}"`);
  const [rounds] = wholeNumbers("rounds", values.rounds);
  const cases = folders.flatMap((folder) => forms.map((form) => openCase(folder, form)));
  const here = openCheckout(dirname(dirname(fileURLToPath(import.meta.url))));
  const batches = wholeNumbers("batch", values.batch).join();
  const runs = {
    here: ({ folder, form }) => runHere(here, join(folder, "hf"), form, { ...values, batches }),
    peer: ({ file, form }) =>
      runPeer(program, file, { ...values, batches, kv: form === "f32" ? "f32" : values.kv }),
  };
  const found = cases.map(() => ({ here: [], peer: [] }));
  for (let round = 0; round < rounds; round++)
    for (const [i, one] of cases.entries())
      for (const who of (round + i) % 2 === 0 ? ["here", "peer"] : ["peer", "here"])
        found[i][who].push(await runs[who](one));
  const [prompt, tokens] = [values.prompt, values.tokens];
  print(
    `prompts of ${prompt} tokens, ${tokens} new ones, one thread, ${rounds} rounds; tokens/s; load ${loadavg()[0].toFixed(1)}`,
  );
  print(
    `| model | weights | batch | prefill here | llama.cpp | × | decode here | llama.cpp | × | least and largest | fastest |`,
  );
  print(`| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |`);
  cases.forEach(({ folder, form }, i) => {
    for (const batch of batches.split(",").map(Number))
      print(`| ${basename(folder)} | ${form} | ${batch} | ${cells(found[i], batch).join(" | ")} |`);
  });
});

function print(line) {
  process.stdout.write(`${line}\n`);
}

function openCase(folder, form) {
  const ending = `-${PEER_TYPES[form]}.gguf`;
  const file = existsSync(folder) && readdirSync(folder).find((name) => name.endsWith(ending));
  if (!file || !existsSync(join(folder, "hf")))
    throw new UsageError(`${folder} must hold hf/ and a file that ends in ${ending}`);
  return { folder, form, file: join(folder, file) };
}

/** @returns {Promise<{ batch: number, prefill: number, decode: number, quick: number }[]>} tokens/s; quick: of decode's fastest tenth */
async function runHere(checkout, model, form, { batches, prompt, tokens }) {
  const args = ["bench", "decode", model, "--json", "--rounds", "1", "--quantize", form, "--batch", batches];
  const sizes = ["--prompt", prompt, "--chunk", prompt, "--tokens", tokens];
  const { rows } = JSON.parse(await scmoe(checkout, [...args, ...sizes], { timeout: LONGEST_MS }));
  return rows.map(({ batch, prefillTokensPerSecond: prefill, tokensPerSecond: decode, stepMs }) => ({
    ...{ batch, prefill, decode },
    quick: (batch * 1e3) / stepMs.p10,
  }));
}

async function runPeer(program, file, { batches, prompt, tokens, kv }) {
  const args = ["--threads", "1", "--batch", batches, "--prompt", prompt, "--generate", tokens];
  const lines = await new Promise((done, fail) =>
    execFile(
      process.execPath,
      [program, file, ...args, "--rounds", "1", "--api", "raw", "--kv", kv],
      { timeout: LONGEST_MS },
      (error, stdout, stderr) =>
        error === null ? done(stdout.trim().split("\n")) : fail(new Error(`${program}: ${stderr.trim()}`)),
    ),
  );
  return lines
    .map((line) => JSON.parse(line))
    .map(({ batch, prefill_tps: prefill, decode_tps: decode, step_ms: [p10] }) => ({
      ...{ batch, prefill, decode },
      quick: (batch * 1e3) / p10,
    }));
}

function cells({ here, peer }, batch) {
  const of = (rounds, what) => rounds.map((rows) => rows.find((row) => row.batch === batch)[what]);
  const compared = (what) => {
    const [ours, theirs] = [of(here, what), of(peer, what)];
    const ratios = ours.map((rate, i) => rate / theirs[i]);
    return { shown: [median(ours).toFixed(0), median(theirs).toFixed(0), median(ratios).toFixed(2)], ratios };
  };
  const decode = compared("decode");
  const ends = [Math.min(...decode.ratios), Math.max(...decode.ratios)].map((ratio) => ratio.toFixed(2));
  return [...compared("prefill").shown, ...decode.shown, ends.join("–"), compared("quick").shown[2]];
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}
