import { expect, it } from "vitest";
import { readBatch } from "./batch-file.js";

it("reads requests, the usual where a line says nothing, and leaves out empty lines", () => {
  const text = `\ufeff{"prompt": "a", "id": [1], "stop": "x"}\r\n\n{"prompt": [3, 4], "seed": 9, "logprobs": 0}\n`;
  const lines = readBatch(text, "f", { seed: 2, topK: 3 });
  expect(lines).toEqual([
    {
      id: [1],
      request: expect.objectContaining({ where: "f:1", prompt: "a", seed: 2, topK: 3, stop: ["x"] }),
    },
    {
      id: undefined,
      request: expect.objectContaining({ where: "f:3", prompt: [3, 4], seed: 9, topK: 3, logprobs: 0 }),
    },
  ]);
});

it.each([
  ["", /^f has no requests/],
  ['{"prompt": "a"}\n{"prompt"', /^f:2 is not JSON/],
  ["[]", /^f:1: wanted an object/],
  ["{}", /^f:1: wanted a prompt/],
  ['{"prompt": "a", "topk": 1}', /^f:1: unknown key "topk"; did you mean "topK"\?/],
  ['{"prompt": [1, "b"]}', /^f:1: prompt is .*; wanted a text or a list of token ids/],
  ['{"prompt": []}', /^f:1: The prompt has no tokens/],
  ['{"prompt": "a", "topP": 0}', /^f:1: topP is 0; wanted a number above 0, to 1/],
  ['{"prompt": "a", "seed": null}', /^f:1: seed is null; wanted a whole number/],
  ['{"prompt": "a", "stop": [1]}', /^f:1: A stop string is 1; wanted a text/],
  ['\n{"prompt": "a", "stop": ""}', /^f:2: A stop string is empty/],
])("refuses %j by file and line", (text, message) => {
  expect(() => readBatch(text, "f", {})).toThrow(message);
});
