import { LineCounter, parseDocument } from "yaml";
import { InputError } from "./errors.js";

/** No config of ours is nested deeper, or longer: the parser takes time that grows with the square of either. */
const DEEPEST = 100;
const LONGEST = 2 ** 16;

/**
 * One YAML document as plain values.
 * @param where the file or option, for messages
 * @throws InputError when it is not YAML, has tags that nobody knows, or would take more memory than its text (aliases of aliases)
 */
export function parseYaml(text: string, where: string): unknown {
  const bad = (why: string): InputError => new InputError(`${where}: not YAML: ${why}`);
  if (text.length > LONGEST) throw bad(`it has ${text.length} characters, wanted at most ${LONGEST}`);
  if (isDeeper(text, DEEPEST)) throw bad("it is nested too deeply");
  try {
    // What it would warn of on the terminal is an error here. It would draw the line of each error, however many there are.
    const lineCounter = new LineCounter();
    const document = parseDocument(text, { logLevel: "error", prettyErrors: false, lineCounter });
    const problem = document.errors[0] ?? document.warnings[0];
    if (problem === undefined) return document.toJS() as unknown;
    const { line, col } = lineCounter.linePos(problem.pos[0]);
    throw bad(`${problem.message.split("\n")[0]} at line ${line}, column ${col}`);
  } catch (error) {
    if (error instanceof InputError) throw error;
    const { message } = error as Error;
    // The parser's own error where it went deeper than the stack, caught by itself or not.
    if (message.includes("call stack")) throw bad("it is nested too deeply");
    throw bad(message.split("\n")[0].replace(/:$/, ""));
  }
}

/** Brackets that are open at once, or marks of lists and keys in a row; those in strings and comments count, too. */
function isDeeper(text: string, most: number): boolean {
  let open = 0;
  let marks = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "[" || character === "{") open++;
    else if (character === "]" || character === "}") open = Math.max(0, open - 1);
    if (character === "-" || character === "?" || character === ":") marks++;
    else if (character !== " " && character !== "\t") marks = 0;
    if (open > most || marks > most) return true;
  }
  return false;
}
