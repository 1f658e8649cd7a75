/** Keys that a JSON text says twice in one object: `JSON.parse` keeps the last of them without a word. */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],]/g;

/** @param text valid JSON @returns the first key that an object says again */
export function repeatedKey(text: string): string | undefined {
  /** The keys so far of each object around; an array has none. */
  const around: (Set<string> | undefined)[] = [];
  let isKey = false;
  for (const [token] of text.matchAll(TOKEN)) {
    const keys = around.at(-1);
    if (token === "{" || token === "[") {
      isKey = token === "{";
      around.push(isKey ? new Set() : undefined);
    } else if (token === "}" || token === "]") {
      around.pop();
      isKey = false;
    } else if (token === ",") isKey = keys !== undefined;
    else if (isKey && keys !== undefined) {
      const key = JSON.parse(token) as string;
      if (keys.has(key)) return key;
      keys.add(key);
      isKey = false;
    }
  }
  return undefined;
}
