/** How inputs are made of seeds: a text, a tree or a file changed at random, and the targets that such an input is for. */
import type { Dice } from "./dice.js";
import { YAML_SCRAPS, changeText, changeTree, jsonText, string } from "./mutate.js";
import type { Target } from "./target.js";

export const text = (dice: Dice, list: readonly string[]): string => {
  const word = changeText(dice, dice.pick(list));
  return dice.chance(0.05) ? string(dice) : word;
};
export const yaml = (dice: Dice, seed: string, tree: unknown): string =>
  dice.chance(0.6) ? changeText(dice, seed, YAML_SCRAPS) : jsonText(dice, changeTree(dice, tree));
export const json = (dice: Dice, tree: unknown): string => jsonText(dice, changeTree(dice, tree));

/** Names of tensors that a test looks at: the first and the last. */
export const few = (names: readonly string[]): readonly string[] => [
  ...names.slice(0, 4),
  ...names.slice(-2),
];

export const ofText = (
  name: string,
  weight: number,
  list: readonly string[],
  read: (text: string) => unknown,
): Target => ({
  name,
  weight,
  make: (dice) => {
    const input = text(dice, list);
    return { input, run: () => read(input) };
  },
});

export const ofFile = (
  name: string,
  weight: number,
  file: string,
  make: (dice: Dice) => string | Uint8Array,
  read: (path: string, dice: Dice) => unknown,
): Target => ({
  name,
  weight,
  make: (dice, place) => {
    const input = make(dice);
    const path = place.write(file, input);
    return { input, run: () => read(path, dice) };
  },
});
