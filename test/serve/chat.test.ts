/** Conversations: the model's own template or the plain one, and what a text begins with, once. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/core/errors.js";
import { loadTokenizer } from "../../src/data/tokenizer.js";
import { chatTemplate, readChatTemplate } from "../../src/serve/chat-template.js";
import { vocabularyOf } from "../../src/serve/vocabulary.js";
import { model, serve, tokenizer } from "./served.js";

const CHAT = "/v1/chat/completions";
const MESSAGES = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "we" },
];
const OWN = `{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}`;
const tokens = { bos_token: "<|endoftext|>", eos_token: "</>" };
const options = { add_generation_prompt: true, continue_final_message: false, variables: {} };

describe("chatTemplate()", () => {
  it("renders the model's own, or the plain one", () => {
    expect(chatTemplate({ template: OWN, tokens }).render(MESSAGES, options)).toBe(
      "<|endoftext|>[system]Be brief.</>[user]we</>[assistant]",
    );
    expect(chatTemplate({ tokens }).render(MESSAGES, options)).toBe(
      "### system\nBe brief.\n\n### user\nwe\n\n### assistant\n",
    );
  });

  it("ends where the last message's content does, when that is to be continued", () => {
    const how = { ...options, add_generation_prompt: false, continue_final_message: true };
    const messages = [...MESSAGES, { role: "assistant", content: " Our nation " }];
    expect(chatTemplate({ tokens }).render(messages, how)).toMatch(/### assistant\n Our nation $/);
    expect(chatTemplate({ template: OWN, tokens }).render(messages, how)).toMatch(/\[assistant\]Our nation$/);
    const begun = [...MESSAGES, { role: "assistant", content: "" }];
    expect(chatTemplate({ tokens }).render(begun, how)).toMatch(/### assistant\n$/);
    // What stands behind it may look like it.
    const template = "{% for m in messages %}<|start|>{{ m.content }}<|end|>{% endfor %}";
    for (const content of ["end", "|", ">", "<|end|>"])
      expect(chatTemplate({ template, tokens }).render([{ role: "assistant", content }], how)).toBe(
        `<|start|>${content}`,
      );
    const first = chatTemplate({ template: "{{ messages[0].content }}", tokens });
    expect(() => first.render(messages, how)).toThrow(/continue_final_message wants/);
  });

  it("says that there are no tools and no documents, as templates expect", () => {
    const template = "{% for x in [tools, documents] %}{{ 'none ' if x is none else 'some ' }}{% endfor %}";
    expect(chatTemplate({ template, tokens }).render(MESSAGES, options)).toBe("none none ");
  });

  it("hands on variables, but not over what the server says", () => {
    const template = "{{ wish }}|{{ bos_token }}|{{ messages | length }}";
    const variables = { wish: "brief", bos_token: "no", messages: [] };
    expect(chatTemplate({ template, tokens }).render(MESSAGES, { ...options, variables })).toBe(
      "brief|<|endoftext|>|2",
    );
  });

  it("says what a template refuses, and what is no template", () => {
    const strict = chatTemplate({ template: "{{ raise_exception('roles must alternate') }}", tokens });
    expect(() => strict.render(MESSAGES, options)).toThrow(/refuses the messages: roles must alternate/);
    expect(() => chatTemplate({ template: "{% for %}", tokens }, "a file")).toThrow(InputError);
    expect(() => chatTemplate({ template: "{% for %}", tokens }, "a file")).toThrow(/^a file is no Jinja/);
  });
});

describe("readChatTemplate()", () => {
  const folder = mkdtempSync(join(tmpdir(), "scmoe-chat-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const read = () => readChatTemplate(join(folder, "tokenizer.json"));
  const config = (value: unknown) =>
    writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(value));

  it("finds it in the settings, by name, or in a file of its own, which counts first", () => {
    expect(read().isPlain).toBe(true);
    config({
      bos_token: { content: "<b>" },
      eos_token: "<e>",
      chat_template: "{{ bos_token }}1{{ eos_token }}",
    });
    expect(read().render(MESSAGES, options)).toBe("<b>1<e>");
    config({
      chat_template: [
        { name: "tools", template: "2" },
        { name: "default", template: "3" },
      ],
    });
    expect(read().render(MESSAGES, options)).toBe("3");
    config({ chat_template: [{ name: "tools", template: "2" }] });
    expect(read).toThrow(/neither a text nor a list with one named "default"/);
    config({ bos_token: "<b>", chat_template: "4" });
    writeFileSync(join(folder, "chat_template.jinja"), "{{ bos_token }}5");
    expect(read().render(MESSAGES, options)).toBe("<b>5");
  });
});

describe("what a text begins with", () => {
  const path = new URL("../fixtures/tokenizer/llama3", import.meta.url).pathname;
  const llama = loadTokenizer(path);
  const [begin] = llama.beginning;
  const served = { ...model, tokenizer: llama, vocabulary: vocabularyOf(llama), endTokens: [] };
  const own = { ...served, chatTemplate: chatTemplate({ template: OWN, tokens }) };
  const vocabSize = llama.vocabSize;

  it("is there once where the template writes it, even when it is to be added", async () => {
    expect(llama.decode([begin])).toBe("<|endoftext|>");
    const { post, engine } = await serve({ vocabSize }, { model: own });
    await post(CHAT, { messages: MESSAGES, max_tokens: 1 });
    await post(CHAT, { messages: MESSAGES, max_tokens: 1, add_special_tokens: true });
    for (const { prompt } of engine.requests) {
      expect(prompt[0]).toBe(begin);
      expect(prompt.filter((id) => id === begin)).toHaveLength(1);
    }
  });

  it("is added by the plain template, and by others only when asked", async () => {
    const { post, engine } = await serve({ vocabSize }, { model: served });
    await post(CHAT, { messages: MESSAGES, max_tokens: 1 });
    const bare = { ...served, chatTemplate: chatTemplate({ template: "{{ messages[0].content }}", tokens }) };
    const other = await serve({ vocabSize }, { model: bare });
    await other.post(CHAT, { messages: MESSAGES, max_tokens: 1 });
    await other.post(CHAT, { messages: MESSAGES, max_tokens: 1, add_special_tokens: true });
    const begins = [...engine.requests, ...other.engine.requests].map(({ prompt }) => prompt[0] === begin);
    expect(begins).toEqual([true, false, true]);
  });

  it("is added to texts unless they have it", async () => {
    const { post, engine } = await serve({ vocabSize }, { model: served });
    const prompt = ["we", "<|endoftext|>we"];
    const response = await post("/v1/completions", { prompt, max_tokens: 0, echo: true, logprobs: 0 });
    await post("/v1/completions", { prompt: "we", max_tokens: 0, add_special_tokens: false });
    const we = llama.encode("we");
    expect(engine.requests.map((request) => request.prompt)).toEqual([[begin, ...we], [begin, ...we], we]);
    const { choices } = (await response.json()) as {
      choices: { text: string; logprobs: { text_offset: number[] } }[];
    };
    expect(choices.map(({ text }) => text)).toEqual(prompt);
    // What the client did not write takes no place in what it gets back.
    expect(choices[0].logprobs.text_offset.slice(0, 2)).toEqual([0, 0]);
    expect(choices[1].logprobs.text_offset.slice(0, 2)).toEqual([0, 13]);
  });
});

it("a reply with the plain template ends where the next message would begin", async () => {
  const { post } = await serve({ script: tokenizer.encode("we the\n### user") });
  const response = await post(CHAT, { messages: MESSAGES });
  expect(await response.json()).toMatchObject({
    choices: [{ message: { role: "assistant", content: "we the" }, finish_reason: "stop" }],
  });
});
