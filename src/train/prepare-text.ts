/** The text of a run. */
import { join } from "node:path";
import { InterruptedError } from "../core/errors.js";
import { numWindows } from "../data/batches.js";
import { type PreparedData, prepareData } from "../data/prepare.js";
import type { JobContext } from "../launch/job.js";
import { exists, readText } from "../storage/files.js";
import type { StepEvent } from "./event.js";
import type { OpenedRun } from "./open-run.js";
import { openCheckpoint } from "./resume.js";

/** The run's text as tokens; of a resumed run, by the tokenizer that its weights were trained with. */
export function prepareText(
  context: JobContext<StepEvent>,
  { config, directory, resume: resumed }: OpenedRun,
  vocabSize: number,
): PreparedData {
  const prepare = (tokenizer: string | undefined): PreparedData =>
    prepareData({
      corpus: config.data.corpus,
      encoding: config.data.encoding,
      say: (line) => context.say(line),
      vocabSize,
      tokenizer,
      cacheDirectory: config.data.cache,
      onProgress: (what, share) => {
        if (context.interrupted())
          throw new InterruptedError("Interrupted while preparing data: there is nothing to save yet");
        context.progress(`${what}: ${(share * 100).toFixed(0)} %`);
      },
    });
  const isChanged = (key: string): boolean => resumed?.changes.some((change) => change.key === key) ?? false;
  const reader = resumed && openCheckpoint(directory, resumed);
  reader?.close();
  const trained = reader && join(reader.directory, "tokenizer.json");
  let data: PreparedData;
  if (trained === undefined || isChanged("data.tokenizer")) data = prepare(config.data.tokenizer);
  else if (isChanged("data.corpus") || isChanged("data.encoding")) data = prepare(trained);
  else if (config.data.tokenizer !== undefined && !exists(config.data.tokenizer)) data = prepare(trained);
  else {
    data = prepare(config.data.tokenizer);
    const inRun = readText(trained, "the tokenizer of the checkpoint");
    if (readText(join(data.directory, "tokenizer.json"), "the tokenizer") !== inRun) data = prepare(trained);
  }
  // Before anything is written: too short a corpus leaves no run directory behind.
  for (const file of [data.train, data.validation]) numWindows(file, config.data.sequence_length);
  return data;
}
