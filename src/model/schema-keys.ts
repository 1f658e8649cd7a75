import { z } from "zod";

/** One key of a configuration, as help shows it. */
export interface ConfigKey {
  /** Dotted: "train.steps". */
  readonly key: string;
  /** "integer", "number or null", "gpt | llama" … */
  readonly type: string;
  /** Undefined: required, or worked out from other keys (then the description says how). */
  readonly defaultValue?: unknown;
  readonly description: string;
}

interface Described {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: string | number | boolean;
  readonly anyOf?: readonly Described[];
  readonly items?: Described;
  readonly default?: unknown;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Described>>;
}

/** The keys of an object schema in its order; `prefix` is put before each, with a dot. */
export function schemaKeys(schema: z.ZodObject, prefix: string): ConfigKey[] {
  const described = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Described;
  return Object.entries(described.properties ?? {}).map(([name, property]) => ({
    key: `${prefix}.${name}`,
    type: typeText(property),
    defaultValue: property.default,
    description: property.description ?? "",
  }));
}

function typeText(property: Described): string {
  if (property.enum !== undefined) return property.enum.join(" | ");
  if (property.const !== undefined) return String(property.const);
  if (property.anyOf !== undefined) return property.anyOf.map(typeText).join(" or ");
  return property.type ?? "value";
}
