/** What the package exports, read from its sources with the compiler: name, kind, doc comment, types it mentions. */
import ts from "typescript";

export interface PublicExport {
  readonly name: string;
  readonly kind: string;
  /** First sentence of the doc comment; empty: there is none. */
  readonly summary: string;
  /** Types of this package in its signature, each by the place that mentions it. */
  readonly mentions: readonly { readonly type: string; readonly where: string }[];
}

const ROOT = new URL("..", import.meta.url).pathname;

/** @param entries paths below src/; each with its exports, sorted by name */
export function publicExports<E extends string>(entries: readonly E[]): Map<E, PublicExport[]> {
  const config = ts.getParsedCommandLineOfConfigFile(`${ROOT}tsconfig.json`, undefined, {
    ...ts.sys,
    onUnRecoverableConfigFileDiagnostic: (problem) => {
      throw new Error(ts.flattenDiagnosticMessageText(problem.messageText, "\n"));
    },
  });
  const files = entries.map((entry) => `${ROOT}src/${entry}`);
  const program = ts.createProgram(files, {
    ...config?.options,
    incremental: false,
    tsBuildInfoFile: undefined,
  });
  const checker = program.getTypeChecker();
  return new Map(
    entries.map((entry, i) => {
      const source = program.getSourceFile(files[i]);
      const module = source && checker.getSymbolAtLocation(source);
      if (module === undefined) throw new Error(`src/${entry} is no module`);
      const found = checker.getExportsOfModule(module).map((symbol) => describe(checker, symbol));
      return [entry, found.sort((a, b) => (a.name < b.name ? -1 : 1))];
    }),
  );
}

function describe(checker: ts.TypeChecker, exported: ts.Symbol): PublicExport {
  const symbol = resolved(checker, exported);
  const text = ts.displayPartsToString(symbol.getDocumentationComment(checker)).replace(/\s+/g, " ");
  const mentions = new Map<string, string>();
  for (const declaration of symbol.declarations ?? [])
    forEachType(declaration, (node) => {
      const type = checker.getSymbolAtLocation(node);
      const target = type && resolved(checker, type);
      if (target === undefined || !isOurs(target)) return;
      const { line } = node.getSourceFile().getLineAndCharacterOfPosition(node.getStart());
      const place = `${node.getSourceFile().fileName.slice(ROOT.length)}:${line + 1}`;
      if (!mentions.has(target.name)) mentions.set(target.name, place);
    });
  return {
    name: exported.name,
    kind: kindOf(symbol),
    summary: /^.*?\.(?=\s|$)|^.*$/.exec(text)?.[0] ?? "",
    mentions: [...mentions].map(([type, where]) => ({ type, where })),
  };
}

function resolved(checker: ts.TypeChecker, symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

const KINDS: readonly (readonly [ts.SymbolFlags, string])[] = [
  [ts.SymbolFlags.Function, "function"],
  [ts.SymbolFlags.Class, "class"],
  [ts.SymbolFlags.Interface, "interface"],
  [ts.SymbolFlags.TypeAlias, "type"],
  [ts.SymbolFlags.Variable, "constant"],
];

function kindOf(symbol: ts.Symbol): string {
  return KINDS.find(([flag]) => symbol.flags & flag)?.[1] ?? "unknown";
}

/** Declared at the top of one of our files: not a type parameter, nor anything of a library. */
function isOurs(symbol: ts.Symbol): boolean {
  const wanted = ts.SymbolFlags.Interface | ts.SymbolFlags.TypeAlias | ts.SymbolFlags.Class;
  return (
    (symbol.flags & wanted) !== 0 &&
    (symbol.declarations ?? []).some(
      ({ parent }) => ts.isSourceFile(parent) && parent.fileName.startsWith(`${ROOT}src/`),
    )
  );
}

/** Names of types in what a declaration shows: not in bodies, initialisers or private members. */
function forEachType(declaration: ts.Node, visit: (name: ts.Node) => void): void {
  const walk = (node: ts.Node): void => {
    if (ts.isBlock(node) || ts.isPrivateIdentifier(node)) return;
    if (ts.isClassElement(node) && node.name !== undefined && ts.isPrivateIdentifier(node.name)) return;
    if (ts.isTypeReferenceNode(node))
      visit(ts.isQualifiedName(node.typeName) ? node.typeName.right : node.typeName);
    else if (ts.isExpressionWithTypeArguments(node)) visit(node.expression);
    else if (ts.isExpression(node) && !ts.isIdentifier(node)) return;
    node.forEachChild(walk);
  };
  walk(declaration);
}
