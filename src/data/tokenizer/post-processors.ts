/** What special tokens are put around a text where special tokens are asked for. */
import { type Makers, type Part, child, children, isFields, make, refuse } from "./part.js";

export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

export const NOTHING: Surroundings = { before: [], after: [] };

/** `["[SEP]", 102]` */
function pair({ fields, where }: Part, key: string): number[] {
  const value = fields[key];
  const id: unknown = Array.isArray(value) ? value[1] : undefined;
  return Number.isInteger(id) ? [Number(id)] : refuse(`${where}.${key}`, value, "a token and its id");
}

const bert = (part: Part): Surroundings => ({ before: pair(part, "cls"), after: pair(part, "sep") });

const MAKERS: Makers<Surroundings> = {
  ByteLevel: () => NOTHING,
  BertProcessing: bert,
  RobertaProcessing: bert,
  TemplateProcessing(part) {
    const [before, after]: number[][] = [[], []];
    let texts = 0;
    for (const piece of children(part, "single")) {
      if ("Sequence" in piece.fields) texts++;
      else (texts === 0 ? before : after).push(...specialIds(part, piece));
    }
    if (texts !== 1) refuse(`${part.where}.single`, part.fields.single, "the text A, once");
    return { before, after };
  },
  Sequence: (part) =>
    children(part, "processors")
      .map(postProcessor)
      .reduce(
        (inner, outer) => ({
          before: [...outer.before, ...inner.before],
          after: [...inner.after, ...outer.after],
        }),
        NOTHING,
      ),
};

function specialIds(template: Part, piece: Part): number[] {
  const special = child(piece, "SpecialToken");
  const name = special.fields.id;
  if (typeof name !== "string") return refuse(`${special.where}.id`, name, "the name of a special token");
  const all = child(template, "special_tokens").fields;
  const token = Object.hasOwn(all, name) ? all[name] : undefined;
  const ids = isFields(token) ? token.ids : undefined;
  return Array.isArray(ids) && ids.every((id) => Number.isInteger(id) && Number(id) >= 0)
    ? (ids as number[])
    : refuse(`${template.where}.special_tokens`, all, `the ids of ${name}`);
}

/** @throws InputError naming what is not offered */
export function postProcessor(part: Part): Surroundings {
  return make(part, MAKERS);
}
