/** The tour's one picture: a typical step of each training as lanes, and their losses over time. */
import { join } from "node:path";
import type { Trained } from "../../api/train.js";
import { parseJson } from "../../core/json.js";
import { readText, replaceFile } from "../../storage/files.js";
import type { ChromeTrace } from "../../timeline/chrome-trace.js";
import { lanesText } from "../../timeline/lanes-text.js";
import { type ChartedTraining, overlapChart } from "../../timeline/overlap-chart.js";
import { type StepLanes, stepLanes } from "../../timeline/step-lanes.js";

const NAME = "tour.svg";
const SHOWN_RANK = 0;

export interface TourPicture {
  /** The SVG that was written. */
  readonly path: string;
  /** The steps again, for a terminal of 80 columns. */
  readonly lines: readonly string[];
}

/** A training, and where its run is kept. */
export type DrawnTraining = Omit<ChartedTraining, "lanes"> & Pick<Trained, "directory">;

/** @throws EnvironmentError when the SVG cannot be written; InputError when a run's timeline cannot be read */
export function drawTour(directory: string, trainings: readonly DrawnTraining[]): TourPicture {
  const charted = trainings.map((training) => ({ ...training, lanes: typicalStep(training.directory) }));
  const path = join(directory, NAME);
  replaceFile(path, overlapChart(charted));
  return { path, lines: lanesText(charted) };
}

/** As the training left it: of its last steps, the one of median length. */
function typicalStep(directory: string): StepLanes {
  const file = join(directory, "timeline.json");
  const trace = parseJson(readText(file, "the typical step"), file) as ChromeTrace;
  return stepLanes(trace, SHOWN_RANK);
}
