/** Schemas of the numbers that model configs consist of. */
import { z } from "zod";
import { BOUNDS } from "../core/bounds.js";

export const upTo = ({ to }: { readonly to: number }) => z.number().int().positive().max(to);
export const width = upTo(BOUNDS.width);
export const heads = upTo(BOUNDS.heads);
export const experts = upTo(BOUNDS.experts);
export const aboveZero = z.number().positive().max(1e9);
export const fromZero = z.number().nonnegative().max(1e9);

export const layers = z.array(z.number().int().nonnegative().max(BOUNDS.layers.to)).max(BOUNDS.layers.to);
