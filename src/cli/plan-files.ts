/** Files that `plan` reads: a calibration, a cluster. */
import { parseJson } from "../core/json.js";
import { parseYaml } from "../core/yaml.js";
import { type Calibration, parseCalibration } from "../simulate/calibration.js";
import { describeCluster } from "../simulate/cluster-keys.js";
import { type Cluster, cluster } from "../simulate/clusters.js";
import { readText } from "../storage/files.js";

/** @throws InputError naming the file, the key, what was found and what was wanted */
export function readCalibration(path: string): Calibration {
  return parseCalibration(parseJson(readText(path, "the calibration"), path), path);
}

/**
 * @param nameOrFile a preset's name, or a path that ends in .yaml, .yml or .json
 * @throws InputError when there is neither, or the file does not describe a cluster
 */
export function findCluster(nameOrFile: string): Cluster {
  if (!/\.(ya?ml|json)$/i.test(nameOrFile)) return cluster(nameOrFile);
  return describeCluster(parseYaml(readText(nameOrFile, "the cluster"), nameOrFile), nameOrFile);
}
