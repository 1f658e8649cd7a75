/** A checkpoint of one layout, read by others: all tensors, moments and selection biases are what they were. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { broadcastJson } from "../../../src/comm/collectives.js";
import { singleCommunicator } from "../../../src/comm/single.js";
import type { Communicator } from "../../../src/comm/communicator.js";
import { CheckpointReader } from "../../../src/storage/checkpoint-reader.js";
import { loadCheckpoint, saveCheckpoint } from "../../../src/train/checkpoint.js";
import { ownedPieces } from "../../../src/train/moments.js";
import { type Trainee, createTrainee } from "../../../src/train/trainee.js";
import type { Case } from "./case.js";
import type { Played } from "./play.js";

/** Writes what was played, reads it on one rank and on other layouts of the same ranks; from one rank's file likewise. */
export function moveCheckpoint(rank: Trainee, of: Case, played: Played): string[] {
  const { world, config, engine } = rank;
  const home = broadcastJson(
    world,
    world.rank === 0 ? mkdtempSync(join(tmpdir(), "scmoe-layouts-")) : undefined,
    0,
    "directory",
  );
  const facts = { state: { step: of.steps, seed: of.seed }, keep: 2 };
  const load = (
    from: string,
    on: { readonly world: Communicator; readonly epSize: number; readonly zero: boolean },
  ): Trainee => {
    const other = createTrainee({ config, engine, ...on });
    const reader = new CheckpointReader(from);
    loadCheckpoint(other, reader);
    reader.close();
    return other;
  };
  try {
    const first = join(home, "step-00000001");
    saveCheckpoint(rank, first, facts);
    const single = { world: singleCommunicator(), epSize: 1, zero: false };
    // Every rank by itself: all of them read all files.
    const alone = load(first, single);
    const problems = differences(alone, played).map((what) => `one rank: ${what}`);
    const second = join(home, "step-00000002");
    if (world.rank === 0) saveCheckpoint(alone, second, facts);
    for (const from of [first, second])
      for (let epSize = 1; epSize <= world.size; epSize++) {
        broadcastJson(world, 0, 0, "saved");
        if (world.size % epSize !== 0 || config.num_experts % epSize !== 0) continue;
        const other = load(from, { world, epSize, zero: !of.zero });
        const where = `EP ${epSize}, ${from === first ? "from this layout" : "from one rank"}`;
        problems.push(...differences(other, played).map((what) => `${where}: ${what}`));
      }
    broadcastJson(world, 0, 0, "read");
    return problems;
  } finally {
    if (world.rank === 0) rmSync(home, { recursive: true, force: true });
  }
}

/** What a rank has that is not what was played. */
function differences(rank: Trainee, { weights, moments, buffers }: Played): string[] {
  const found: string[] = [];
  const expect = (name: string, data: Float32Array, wanted: Float32Array | undefined): void => {
    if (wanted === undefined || data.some((x, i) => x !== wanted[i]))
      found.push(`${name} is not what was saved`);
  };
  for (const bucket of rank.weights.buckets) {
    for (const { info, offset, size } of bucket.tensors)
      expect(info.name, bucket.weights.subarray(offset, offset + size), weights.get(info.name));
    for (const { tensor, start, end, ...of } of ownedPieces(rank, bucket))
      for (const which of ["expAvg", "expAvgSq"] as const)
        expect(
          `${tensor.info.name}.${which}`,
          of[which],
          moments.get(`${tensor.info.name}.${which}`)?.subarray(start - tensor.offset, end - tensor.offset),
        );
  }
  for (const [name, { data }] of rank.weights.buffers) expect(name, data, buffers.get(name));
  return found;
}
