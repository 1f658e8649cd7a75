/** What is fuzzed: something that reads an input which is not ours. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Dice } from "./dice.js";

export interface Case {
  /** For the report: what was read, beginning with what was changed. */
  readonly input: string | Uint8Array;
  /** Reads it. Whatever it throws must be an error for people. */
  readonly run: () => unknown;
}

export interface Target {
  readonly name: string;
  /** How often it is chosen. */
  readonly weight: number;
  readonly make: (dice: Dice, place: Place) => Case;
}

/** A directory of this process for files to be read. */
export class Place {
  constructor(readonly directory: string) {
    mkdirSync(directory, { recursive: true });
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  write(name: string, content: string | Uint8Array): string {
    const path = this.path(name);
    try {
      writeFileSync(path, content);
    } catch {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    return path;
  }

  remove(name: string): void {
    rmSync(this.path(name), { recursive: true, force: true });
  }
}

/** One of several with weights. */
export function weighted<T extends { readonly weight: number }>(dice: Dice, list: readonly T[]): T {
  let left = dice.below(list.reduce((sum, { weight }) => sum + weight, 0));
  return list.find(({ weight }) => (left -= weight) < 0) ?? list[0];
}
