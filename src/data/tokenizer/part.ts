/** Parts of a `tokenizer.json`: objects whose `type` says what they do. Nothing of them is ignored: what is not offered is refused. */
import { InputError } from "../../core/errors.js";
import { shown } from "../../core/shown.js";

export type Fields = Readonly<Record<string, unknown>>;

/** An object of the file, and where in the file it stands. */
export interface Part {
  readonly fields: Fields;
  /** Such as "tokenizer.json: decoder.decoders[1]". */
  readonly where: string;
}

/** How each type is made, by its name. */
export type Makers<T> = Readonly<Record<string, (part: Part) => T>>;

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @throws InputError naming file, key, what was found and what is offered */
export function refuse(where: string, found: unknown, wanted: string): never {
  throw new InputError(`${where} is ${shown(found)}; wanted ${wanted}`);
}

/** @throws InputError when the part's type is none of those */
export function make<T>(part: Part, makers: Makers<T>): T {
  const type = part.fields.type;
  if (typeof type !== "string" || !Object.hasOwn(makers, type))
    refuse(`${part.where}.type`, type, `one of ${Object.keys(makers).join(", ")}`);
  return makers[type](part);
}

export function child(part: Part, key: string): Part {
  const fields = part.fields[key];
  const where = `${part.where}.${key}`;
  return isFields(fields) ? { fields, where } : refuse(where, fields, "an object");
}

export function children(part: Part, key: string): Part[] {
  const list = part.fields[key];
  if (!Array.isArray(list)) refuse(`${part.where}.${key}`, list, "a list of objects");
  return list.map((fields: unknown, i) => {
    const where = `${part.where}.${key}[${i}]`;
    return isFields(fields) ? { fields, where } : refuse(where, fields, "an object");
  });
}

/** @param usual when the key is missing; without it, the key must be there */
export function flag({ fields, where }: Part, key: string, usual?: boolean): boolean {
  const value = fields[key] ?? usual;
  return typeof value === "boolean" ? value : refuse(`${where}.${key}`, fields[key], "true or false");
}

/** @param usual when the key is missing; without it, the key must be there */
export function text({ fields, where }: Part, key: string, usual?: string): string {
  const value = fields[key] ?? usual;
  return typeof value === "string" ? value.toWellFormed() : refuse(`${where}.${key}`, fields[key], "a text");
}

export function character(part: Part, key: string, usual?: string): string {
  const value = text(part, key, usual);
  return [...value].length === 1 ? value : refuse(`${part.where}.${key}`, value, "one character");
}

export function count({ fields, where }: Part, key: string): number {
  const value = fields[key];
  return Number.isInteger(value) && Number(value) >= 0
    ? Number(value)
    : refuse(`${where}.${key}`, value, "a whole number from 0");
}

/** One of the names. */
export function choice<T extends string>(
  { fields, where }: Part,
  key: string,
  names: readonly T[],
  usual?: T,
): T {
  const value = fields[key] ?? usual;
  const found = names.find((name) => name === value);
  return found ?? refuse(`${where}.${key}`, fields[key], `one of ${names.join(", ")}`);
}
