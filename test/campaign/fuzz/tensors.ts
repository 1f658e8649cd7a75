/** Safetensors files, changed. */
import { SafetensorsReader } from "../../../src/storage/safetensors.js";
import type { Dice } from "./dice.js";
import { attempt } from "./judge.js";
import { few, json } from "./making.js";
import { changeBytes, changeTree } from "./mutate.js";
import * as seeds from "./seeds.js";

export function readTensors(path: string): void {
  const file = SafetensorsReader.open(path);
  try {
    for (const name of few(file.names)) {
      const { dims } = file.info(name);
      attempt(() => file.readF32(name));
      attempt(() => file.readI32(name));
      if (dims.length > 0) attempt(() => file.readInto(name, new Float32Array(1), Math.max(0, dims[0] - 1)));
    }
    attempt(() => file.info("no such tensor"));
  } finally {
    file.close();
  }
}

export function changedTensors(dice: Dice): Uint8Array {
  const { header, bytes } = seeds.FEW_TENSORS;
  if (dice.chance(0.3))
    return changeBytes(
      dice,
      dice.chance(0.5)
        ? seeds.safetensors(JSON.stringify(header), new Uint8Array(bytes))
        : seeds.FIXTURE_TOKENS,
    );
  const body = new Uint8Array(dice.chance(0.8) ? bytes : dice.below(2 * bytes));
  return seeds.safetensors(
    dice.chance(0.7) ? JSON.stringify(changeTree(dice, header)) : json(dice, header),
    body,
  );
}
