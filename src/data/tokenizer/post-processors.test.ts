import { expect, it } from "vitest";
import { postProcessor } from "./post-processors.js";

const special = (id: string): object => ({ SpecialToken: { id, type_id: 0 } });
const text = { Sequence: { id: "A", type_id: 0 } };
const template = (single: object[]): Record<string, unknown> => ({
  type: "TemplateProcessing",
  single,
  special_tokens: { "<s>": { id: "<s>", ids: [1, 5], tokens: ["<s>", "x"] }, "</s>": { ids: [2] } },
});

it.each<[Record<string, unknown>, number[], number[]]>([
  [{ type: "ByteLevel" }, [], []],
  [template([text]), [], []],
  [template([special("<s>"), text, special("</s>"), special("</s>")]), [1, 5], [2, 2]],
  [{ type: "BertProcessing", sep: ["[SEP]", 7], cls: ["[CLS]", 8] }, [8], [7]],
  [
    {
      type: "Sequence",
      processors: [template([special("</s>"), text]), template([special("<s>"), text, special("</s>")])],
    },
    [1, 5, 2],
    [2],
  ],
])("%j", (fields, before, after) => {
  expect(postProcessor({ fields, where: "a test" })).toEqual({ before, after });
});

it.each<[Record<string, unknown>, RegExp]>([
  [{ type: "Other" }, /a test\.type is "Other"; wanted one of ByteLevel, BertProcessing/],
  [template([special("<t>"), text]), /a test\.special_tokens is .*wanted the ids of <t>/],
  [
    template([{ SpecialToken: { id: { a: 1 } } }, text]),
    /a test\.single\[0\]\.SpecialToken\.id is \{"a":1\}; wanted the name of a special token/,
  ],
  [template([special("<s>")]), /a test\.single is .*wanted the text A, once/],
  [template([{ Other: 1 }, text]), /SpecialToken is nothing; wanted an object/],
  [{ type: "BertProcessing", cls: ["[CLS]", 8] }, /a test\.sep is nothing; wanted a token and its id/],
])("refuses %j by name", (fields, message) => {
  expect(() => postProcessor({ fields, where: "a test" })).toThrow(message);
});
