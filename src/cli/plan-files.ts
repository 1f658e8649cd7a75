/** Files that `plan` reads: a calibration, a cluster. */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { InputError } from "../core/errors.js";
import { type Calibration, parseCalibration } from "../simulate/calibration.js";
import { describeCluster } from "../simulate/cluster-keys.js";
import { type Cluster, cluster } from "../simulate/clusters.js";

/** @throws InputError naming the file, the key, what was found and what was wanted */
export function readCalibration(path: string): Calibration {
  let raw: unknown;
  try {
    raw = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? "not JSON";
    throw new InputError(`Cannot read the calibration ${path}: ${why}`);
  }
  return parseCalibration(raw, path);
}

/**
 * @param nameOrFile a preset's name, or a path that ends in .yaml, .yml or .json
 * @throws InputError when there is neither, or the file does not describe a cluster
 */
export function findCluster(nameOrFile: string): Cluster {
  if (!/\.(ya?ml|json)$/i.test(nameOrFile)) return cluster(nameOrFile);
  let raw: unknown;
  try {
    raw = parse(readFileSync(nameOrFile, "utf8"));
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message.split("\n")[0];
    throw new InputError(`Cannot read the cluster ${nameOrFile}: ${why}`);
  }
  return describeCluster(raw, nameOrFile);
}
