import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { compare } from "../../api/compare.js";
import { generate } from "../../api/generate.js";
import { type Trained, train } from "../../api/train.js";
import { type Link, formatLink } from "../../comm/link.js";
import { BOUNDS } from "../../core/bounds.js";
import { comparisonTable, writeComparison } from "../comparison.js";
import { numberIn, printJson } from "../options.js";
import { openTerminal } from "../terminal.js";
import { LiveTable, lineInterval } from "../tour/live-table.js";
import { modelsTable } from "../tour/models-table.js";
import { drawTour } from "../tour/picture.js";
import { tourFigures, tourSentences } from "../tour/sentences.js";
import {
  MODELS,
  PROMPT,
  RANKS,
  SAMPLE,
  SHARE,
  STEPS,
  TABLE_ROWS,
  comparison,
  training,
} from "../tour/settings.js";

interface Flags {
  readonly steps: number;
  readonly share: number;
  readonly out: string;
  readonly json?: boolean;
}

const TITLES = MODELS.map(({ title }) => title);

export function addStart(program: Command): void {
  program
    .command("start")
    .description(
      "the tour: train a top-2 MoE and a ScMoE model on English text, on two ranks with a slow link, and compare",
    )
    .option("--steps <n>", "training steps of each model", numberIn(BOUNDS.steps), STEPS)
    .option(
      "--share <s>",
      "share of a sequential top-2 step that communication takes",
      numberIn(BOUNDS.properShare),
      SHARE,
    )
    .option("--out <dir>", "where the run directories and the picture go", "runs/start")
    .option("--json", "print the comparison and the figures as JSON")
    .action(tour);
}

async function tour(flags: Flags): Promise<void> {
  say("Measuring both models, to choose a link and to draw the timeline");
  const terminal = openTerminal();
  const { onEvent } = terminal;
  const measured = await compare({ ...comparison(flags.share), onEvent }).finally(terminal.close);
  writeComparison(flags.out, measured);
  const link = measured.link ?? undefined;
  const ended = await trainAll(flags, link);
  if (ended === undefined) return;
  const { results, table } = ended;
  const samples: string[] = [];
  for (const { directory } of results) samples.push(await sampleOf(directory));
  const trainings = results.map((result, i) => ({ ...result, ...MODELS[i], course: table.courses[i] }));
  const picture = drawTour(flags.out, trainings);
  const figures = tourFigures(trainings[0], trainings[1]);
  const sentences = tourSentences(figures);
  if (flags.json)
    return printJson({
      link,
      steps: measured.rows,
      models: results.map((result, i) => ({ ...result, sample: samples[i] })),
      figures,
      sentences,
      picture: picture.path,
    });
  const blocks = [
    comparisonTable(measured, false),
    modelsTable(results, TITLES),
    ...samples.map((sample, i) => `${TITLES[i]} writes: ${PROMPT}${sample}`),
    `A typical step of each training, on one of its ranks:\n${picture.lines.join("\n")}`,
    sentences.join("\n"),
    `With the losses over time: ${picture.path}; every operator: ${join(flags.out, "timeline.html")} (timeline.json for Perfetto)`,
    `Next: npx scmoe generate ${results[1].directory} --prompt "Our nation"\n      npx scmoe eval ${results[1].directory}`,
  ];
  process.stdout.write(`\n${blocks.join("\n\n")}\n`);
}

/** Undefined when it was interrupted: what to do then has been said. */
async function trainAll(
  { steps, out }: Flags,
  link: Link | undefined,
): Promise<{ results: Trained[]; table: LiveTable } | undefined> {
  const results: Trained[] = [];
  const table = new LiveTable(TITLES, lineInterval(steps, TABLE_ROWS));
  for (const [i, model] of MODELS.entries()) {
    const directory = join(out, model.arch);
    rmSync(directory, { recursive: true, force: true });
    say(
      `\n${model.title}: ${RANKS} ranks, ${link === undefined ? "no link model" : `link ${formatLink(link)}`}`,
    );
    const terminal = openTerminal({ stops: true });
    const result = await train({
      config: training(model, steps),
      directory,
      ranks: RANKS,
      link,
      label: model.title,
      signal: terminal.signal,
      onEvent(event) {
        if (event.kind === "step") table.step(i, event).forEach(terminal.say);
        // In a log, the table's lines show life.
        else if (event.kind === "message" || process.stderr.isTTY) terminal.onEvent(event);
      },
    }).finally(terminal.close);
    results.push(result);
    if (result.interrupted) {
      say(`Continue with: npx scmoe train --resume ${directory}`);
      process.exitCode = 130;
      return undefined;
    }
  }
  return { results, table };
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function sampleOf(model: string): Promise<string> {
  return (await generate({ model, prompt: PROMPT, ...SAMPLE })).text.replace(/\s+/g, " ");
}
