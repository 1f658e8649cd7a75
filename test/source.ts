/** The product's own source as syntax trees with types, for tests of what may stand in it. */
import { readdirSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";

const SRC = new URL("../src", import.meta.url).pathname;

/** Paths relative to src/, without tests and what is compiled by others. */
export const SOURCE_FILES: readonly string[] = readdirSync(SRC, { recursive: true, encoding: "utf8" })
  .filter((f) => f.endsWith(".ts") && !/\.(test|conformance|d)\.ts$/.test(f) && !f.includes("assembly/"))
  .sort();

/** Folders of src/ below which a file lies; "." for what lies in src/ itself. */
export function folderOf(file: string): string {
  return file.includes("/") ? file.split("/")[0] : ".";
}

export interface Source {
  readonly checker: ts.TypeChecker;
  /** Files of the given folders. */
  in(folders: readonly string[]): { readonly file: string; readonly tree: ts.SourceFile }[];
}

export function openSource(): Source {
  const program = ts.createProgram(
    SOURCE_FILES.map((file) => join(SRC, file)),
    {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      strict: true,
      skipLibCheck: true,
      noEmit: true,
    },
  );
  return {
    checker: program.getTypeChecker(),
    in: (folders) =>
      SOURCE_FILES.filter((file) => folders.includes(folderOf(file))).map((file) => ({
        file,
        tree: program.getSourceFile(join(SRC, file)) as ts.SourceFile,
      })),
  };
}

export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node);
  ts.forEachChild(node, (child) => walk(child, visit));
}

/** "program/work.ts:12: the line". */
export function place(node: ts.Node): string {
  const tree = node.getSourceFile();
  const { line } = tree.getLineAndCharacterOfPosition(node.getStart());
  const text = tree.text.split("\n")[line].trim();
  return `${relative(SRC, tree.fileName)}:${line + 1}: ${text}`;
}
