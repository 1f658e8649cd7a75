/** The body of POST /v1/chat/completions. */
import { z } from "zod";
import {
  MOST_LOGPROBS,
  STREAM_REFINEMENT,
  flag,
  refineStream,
  sampling,
  tokenCount,
  unsupported,
  whole,
} from "./sampling.js";

const part = z.strictObject({
  type: z.literal("text", { error: 'wanted "text"; other kinds of content are not supported' }),
  text: z.string({ error: "wanted a text" }),
});

/** Keys of answers, which clients send back as they got them, are taken where they say nothing. */
const message = z
  .strictObject(
    {
      role: z.enum(["system", "developer", "user", "assistant"], {
        error: 'wanted "system", "developer", "user" or "assistant"; tools are not supported',
      }),
      content: z
        .union([z.string(), z.array(part)], { error: "wanted a text, or a list of parts of type text" })
        .transform((value) => (typeof value === "string" ? value : value.map(({ text }) => text).join("\n"))),
      name: z.string({ error: "wanted a text" }).optional(),
      refusal: unsupported("refusal", ""),
      annotations: unsupported("annotations", []),
      audio: unsupported("audio"),
      tool_calls: unsupported("tool_calls", []),
      function_call: unsupported("function_call"),
    },
    { error: (issue) => (issue.code === "invalid_type" ? "wanted a message: an object" : undefined) },
  )
  .transform(({ role, content, name }) => ({ role, content, ...(name === undefined ? {} : { name }) }));

const wantedMessages = "wanted a list of messages, at least one";

/** How a conversation becomes a prompt; shared with /tokenize. */
export const conversation = {
  messages: z.array(message, { error: wantedMessages }).min(1, { error: wantedMessages }),
  add_generation_prompt: flag()
    .optional()
    .describe(
      "the prompt ends where a reply begins (vLLM); default: true, unless the final message is continued",
    ),
  continue_final_message: flag().default(false).describe("the answer goes on with the last message (vLLM)"),
  add_special_tokens: flag()
    .optional()
    .describe(
      "what texts begin with is put before the prompt unless it is there (vLLM); default: only with the plain template",
    ),
  chat_template_kwargs: z
    .record(
      z.string(),
      z.union([z.string(), z.number(), z.boolean(), z.null()], {
        error: "wanted a text, a number, true, false or null",
      }),
      { error: "wanted an object of texts, numbers and booleans" },
    )
    .optional()
    .describe("variables of the chat template (vLLM)"),
};

/** Both ends of a prompt cannot be asked for. */
export const refineConversation = (body: {
  readonly add_generation_prompt?: boolean | undefined;
  readonly continue_final_message: boolean;
}): boolean => !(body.continue_final_message && body.add_generation_prompt === true);
export const CONVERSATION_REFINEMENT = {
  error: "continue_final_message and add_generation_prompt exclude each other",
  path: ["continue_final_message"],
};

export const chatBody = z
  .strictObject({
    ...conversation,
    ...sampling,
    max_completion_tokens: tokenCount(1).optional().describe("default: as many as the context has room for"),
    max_tokens: tokenCount(1).optional().describe("the older name of max_completion_tokens"),
    logprobs: flag().default(false).describe("log probabilities of the answer's tokens"),
    top_logprobs: whole(0, MOST_LOGPROBS).optional().describe("and of so many likeliest ones beside each"),
    tools: unsupported("tools", []),
    tool_choice: unsupported("tool_choice", "none", "auto"),
    parallel_tool_calls: unsupported("parallel_tool_calls", true, false),
    functions: unsupported("functions", []),
    function_call: unsupported("function_call", "none", "auto"),
    response_format: unsupported("response_format", { type: "text" }),
    modalities: unsupported("modalities", ["text"]),
    audio: unsupported("audio"),
    prediction: unsupported("prediction"),
    reasoning_effort: unsupported("reasoning_effort"),
    verbosity: unsupported("verbosity"),
    web_search_options: unsupported("web_search_options"),
  })
  .refine(refineStream, STREAM_REFINEMENT)
  .refine(refineConversation, CONVERSATION_REFINEMENT)
  .refine(({ logprobs, top_logprobs }) => logprobs || top_logprobs === undefined, {
    error: "top_logprobs wants logprobs to be true",
    path: ["top_logprobs"],
  });

export type ChatBody = z.output<typeof chatBody>;
export type Conversation = Pick<ChatBody, keyof typeof conversation>;
