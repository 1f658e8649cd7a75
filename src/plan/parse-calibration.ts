import { parseWith } from "../model/config.js";
import { type Calibration, calibrationSchema } from "../simulate/calibration.js";

/**
 * Checks a calibration that has been read as JSON.
 * @throws InputError naming where, the key, what was found and what was wanted
 */
export function parseCalibration(json: unknown, where: string): Calibration {
  return parseWith(calibrationSchema, json, where);
}
