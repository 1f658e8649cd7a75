/** Conversations as the text that a model goes on with. */
import { dirname, join } from "node:path";
import { Template } from "@huggingface/jinja";
import { InputError } from "../core/errors.js";
import { parseJson } from "../core/json.js";
import { exists, readText } from "../storage/files.js";
import { invalid } from "./errors.js";

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
  readonly name?: string | undefined;
}

export interface ChatTemplate {
  /** Whether the model came without one, so that the plain one is used. */
  readonly isPlain: boolean;
  /** Strings that end a reply, beside the model's end tokens. */
  readonly stops: readonly string[];
  /** @throws ApiError of status 400 when the template refuses the messages */
  render(messages: readonly ChatMessage[], options: RenderOptions): string;
}

export interface RenderOptions {
  /** Whether the text ends where a reply of the assistant begins. */
  readonly add_generation_prompt: boolean;
  /** Whether the last message is to be gone on with: the text ends where its content does. */
  readonly continue_final_message: boolean;
  /** What else the template reads. */
  readonly variables: Readonly<Record<string, unknown>>;
}

/** For models without a template: a heading for each message. */
export const PLAIN_TEMPLATE = `{% for message in messages %}### {{ message.role }}
{{ message.content }}

{% endfor %}{% if add_generation_prompt %}### assistant
{% endif %}`;
const PLAIN_STOPS = ["\n### "];

/** What a tokenizer's files say. */
export interface TemplateSource {
  readonly template?: string | undefined;
  /** Names of special tokens that templates write. */
  readonly tokens: Readonly<Record<string, string>>;
}

/**
 * @param file the template's, for messages
 * @throws InputError when it is no template
 */
export function chatTemplate({ template, tokens }: TemplateSource, file = "the chat template"): ChatTemplate {
  const parsed = parse(template ?? PLAIN_TEMPLATE, file);
  return {
    isPlain: template === undefined,
    stops: template === undefined ? PLAIN_STOPS : [],
    render(messages, { add_generation_prompt, continue_final_message, variables }) {
      const given = continue_final_message ? withMark(messages) : messages;
      // Templates ask whether tools are none; they are not undefined.
      const all = {
        tools: null,
        documents: null,
        ...variables,
        ...tokens,
        messages: given,
        add_generation_prompt,
      };
      let text: string;
      try {
        text = parsed.render(all);
      } catch (error) {
        throw invalid(
          `The model's chat template refuses the messages: ${(error as Error).message}`,
          "messages",
          "chat_template_error",
        );
      }
      return continue_final_message ? untilMark(text) : text;
    },
  };
}

function parse(template: string, file: string): Template {
  try {
    return new Template(template);
  } catch (error) {
    throw new InputError(`${file} is no Jinja template that can be read: ${(error as Error).message}`);
  }
}

/** Stands behind the content of a message that is to be continued; a character that no text should have, and one that templates trim. */
const MARK = "\ufdd0 ";

/** What templates write behind a message may look like its content: where that ends is known by a mark. */
function withMark(messages: readonly ChatMessage[]): ChatMessage[] {
  const last = messages[messages.length - 1];
  return [...messages.slice(0, -1), { ...last, content: last.content + MARK }];
}

/** What templates put behind the last message is cut off. Most trim its content, which then ends without spaces. */
function untilMark(text: string): string {
  const at = text.lastIndexOf(MARK.trim());
  if (at < 0)
    throw invalid(
      "continue_final_message wants a last message whose content stands in the conversation as the template writes it",
      "continue_final_message",
    );
  return text.startsWith(MARK, at) ? text.slice(0, at) : text.slice(0, at).trimEnd();
}

/**
 * The template of a model's folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`: a text, or a list of which
 * the one named "default" counts.
 * @param tokenizer path of its tokenizer.json
 * @throws InputError when a file cannot be read, or is not what it should be
 */
export function readChatTemplate(tokenizer: string): ChatTemplate {
  const folder = dirname(tokenizer);
  const configFile = join(folder, "tokenizer_config.json");
  const templateFile = join(folder, "chat_template.jinja");
  const json = exists(configFile)
    ? parseJson(readText(configFile, "the tokenizer's settings"), configFile)
    : {};
  const config = (typeof json === "object" && json !== null ? json : {}) as Readonly<Record<string, unknown>>;
  const tokens = tokenNames(config);
  return exists(templateFile)
    ? chatTemplate({ template: readText(templateFile, "the chat template"), tokens }, templateFile)
    : chatTemplate({ template: inConfig(config.chat_template, configFile), tokens }, configFile);
}

function inConfig(value: unknown, file: string): string | undefined {
  if (value == null || typeof value === "string") return value ?? undefined;
  const named = (Array.isArray(value) ? value : []) as readonly { name?: unknown; template?: unknown }[];
  const template = named.find((entry) => entry?.name === "default")?.template;
  if (typeof template === "string") return template;
  throw new InputError(`${file}: chat_template is neither a text nor a list with one named "default"`);
}

/** `bos_token` and the like: each its text, or an object with it. */
function tokenNames(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const names: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    if (!key.endsWith("_token")) continue;
    const text =
      typeof value === "object" && value !== null ? (value as { content?: unknown }).content : value;
    if (typeof text === "string") names[key] = text;
  }
  return names;
}
