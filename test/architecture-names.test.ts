/** Names say nothing: of architectures behind the wiring, of operators anywhere. */
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { ARCHITECTURE_NAMES } from "../src/model/architectures.js";
import { CLASSES } from "../src/program/work.js";
import { openSource, place, walk } from "./source.js";

const source = openSource();

describe("nothing after the wiring knows an architecture", () => {
  const trees = source.in(
    "core kernel engine comm storage program timeline simulate schedule run train data".split(" "),
  );
  /** A class of operators may be called as an architecture is. */
  const names: readonly string[] = ARCHITECTURE_NAMES.filter((name) => !(name in CLASSES));
  /** Any k of a family, wherever it stands in a text. */
  const inText = new RegExp(
    `\\b(${names
      .filter((name) => name !== "dense")
      .map((name) => name.replace(/\d+/g, "\\d+"))
      .join("|")})\\b`,
  );

  /** Whether a node names an architecture: a text with a name in it, or a property called so. */
  const isNamed = (node: ts.Node): boolean => {
    if (ts.isIdentifier(node)) return names.includes(node.text);
    if (!ts.isLiteralExpression(node) && !ts.isTemplateLiteralToken(node)) return false;
    return names.includes(node.text) || inText.test(node.text);
  };

  it("by its name", () => {
    const found = new Set<string>();
    for (const { tree } of trees) walk(tree, (node) => void (isNamed(node) && found.add(place(node))));
    expect([...found]).toEqual([]);
  });

  /** `config.architecture`, and decisions that go by `arch`; printing it is fine. */
  const isRead = (node: ts.Node): boolean => {
    if (ts.isPropertyAccessExpression(node)) return node.name.text === "architecture";
    if (ts.isBindingElement(node)) return (node.propertyName ?? node.name).getText() === "architecture";
    if (ts.isSwitchStatement(node)) return isArch(node.expression);
    if (ts.isElementAccessExpression(node)) return isArch(node.argumentExpression);
    if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression))
      return isArch(node.expression.expression);
    return isComparison(node) && (isArch(node.left) || isArch(node.right));
  };
  const isArch = (node: ts.Node): boolean =>
    (ts.isIdentifier(node) && node.text === "arch") ||
    (ts.isPropertyAccessExpression(node) &&
      node.name.text === "arch" &&
      node.expression.getText() !== "process");

  it("by what distinguishes it", () => {
    const found = new Set<string>();
    for (const { tree } of trees) walk(tree, (node) => void (isRead(node) && found.add(place(node))));
    expect([...found].filter((line) => !line.includes("process.arch"))).toEqual([]);
  });

  it("and the test sees names, families and reads", () => {
    const seen = (text: string): boolean => {
      let isFound = false;
      walk(ts.createSourceFile("x.ts", text, ts.ScriptTarget.ES2022, true), (node) => {
        isFound ||= isNamed(node) || isRead(node);
      });
      return isFound;
    };
    for (const text of [
      'const x = "dense";',
      "const x = { dense: 1, other: 2 };",
      "say(`better than top4 by ${x}`);",
      'say("use scmoe3-pos2");',
      "x.includes('dgmoe-share')",
      "config.architecture.routed",
      "const { architecture } = config;",
      'if (config.arch !== "x") y();',
      "switch (arch) {}",
      "TABLE[config.arch]",
      'config.arch.startsWith("s")',
    ])
      expect(seen(text), text).toBe(true);
    for (const text of ["// top2", 'say("stop2")', "say(`arch ${config.arch}`)", "const row = { arch };"])
      expect(seen(text), text).toBe(false);
  });
});

/** Methods that look into a text. */
const LOOKING = new Set(
  "match matchAll replace replaceAll startsWith endsWith includes indexOf lastIndexOf split slice substring search charAt at".split(
    " ",
  ),
);
/** What an operator, its event or its picture says for people; and what makes its cost. */
const OWNERS = ["Common", "OperatorSpec", "EventOperator", "PageOperator"];
const FOR_PEOPLE = ["name", "cost"];

/**
 * Expressions whose value is an operator's name or cost, followed through variables, destructuring, templates and parameters of
 * our own functions.
 */
class Names {
  readonly #tainted = new Set<ts.Symbol>();

  constructor(
    readonly checker: ts.TypeChecker,
    trees: readonly ts.SourceFile[],
  ) {
    for (let size = -1; size !== this.#tainted.size;) {
      size = this.#tainted.size;
      for (const tree of trees) walk(tree, (node) => this.#spread(node));
    }
  }

  has(node: ts.Expression): boolean {
    if (ts.isParenthesizedExpression(node) || ts.isNonNullExpression(node) || ts.isAsExpression(node))
      return this.has(node.expression);
    if (ts.isTemplateExpression(node)) return node.templateSpans.some((span) => this.has(span.expression));
    if (ts.isConditionalExpression(node)) return this.has(node.whenTrue) || this.has(node.whenFalse);
    if (ts.isBinaryExpression(node)) {
      const { kind } = node.operatorToken;
      const isJoined =
        kind === ts.SyntaxKind.PlusToken ||
        kind === ts.SyntaxKind.QuestionQuestionToken ||
        kind === ts.SyntaxKind.BarBarToken;
      return isJoined && (this.has(node.left) || this.has(node.right));
    }
    if (ts.isPropertyAccessExpression(node))
      return this.#isForPeople(this.checker.getSymbolAtLocation(node.name));
    if (!ts.isIdentifier(node)) return false;
    const symbol = this.checker.getSymbolAtLocation(node);
    return symbol !== undefined && (this.#tainted.has(symbol) || this.#isDestructured(symbol));
  }

  #isForPeople(property: ts.Symbol | undefined): boolean {
    return (
      property !== undefined &&
      FOR_PEOPLE.includes(property.name) &&
      (property.declarations ?? []).some(
        ({ parent }) => ts.isInterfaceDeclaration(parent) && OWNERS.includes(parent.name.text),
      )
    );
  }

  #isDestructured(symbol: ts.Symbol): boolean {
    const element = symbol.valueDeclaration;
    if (element === undefined || !ts.isBindingElement(element)) return false;
    const property = (element.propertyName ?? element.name).getText();
    return this.#isForPeople(this.checker.getTypeAtLocation(element.parent).getProperty(property));
  }

  #spread(node: ts.Node): void {
    if (ts.isVariableDeclaration(node) && node.initializer !== undefined && this.has(node.initializer))
      this.#taint(this.checker.getSymbolAtLocation(node.name));
    if (!ts.isCallExpression(node) || !node.arguments.some((argument) => this.has(argument))) return;
    const called = this.checker.getResolvedSignature(node)?.declaration;
    if (called === undefined || !/^escape/.test(functionName(called))) {
      const parameters = called !== undefined && !ts.isJSDocSignature(called) ? called.parameters : undefined;
      node.arguments.forEach((argument, i) => {
        const parameter = parameters?.[i];
        if (parameter !== undefined && this.has(argument))
          this.#taint(this.checker.getSymbolAtLocation(parameter.name));
      });
    }
  }

  #taint(symbol: ts.Symbol | undefined): void {
    if (symbol !== undefined) this.#tainted.add(symbol);
  }
}

/** Escaping a name to print it looks at every character and learns nothing. */
function functionName(node: ts.Node): string {
  return ts.isFunctionDeclaration(node) ? (node.name?.text ?? "") : "";
}

function isComparison(node: ts.Node): node is ts.BinaryExpression {
  return (
    ts.isBinaryExpression(node) &&
    [
      ts.SyntaxKind.EqualsEqualsEqualsToken,
      ts.SyntaxKind.ExclamationEqualsEqualsToken,
      ts.SyntaxKind.EqualsEqualsToken,
      ts.SyntaxKind.ExclamationEqualsToken,
    ].includes(node.operatorToken.kind)
  );
}

/** Whether a node looks into a name: takes it apart, matches it, or compares it with a name that is written there. */
function looksInto(node: ts.Node, names: Names): boolean {
  if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
    const { name, expression } = node.expression;
    if (LOOKING.has(name.text) && names.has(expression)) return true;
    return (name.text === "test" || name.text === "exec") && node.arguments.some((a) => names.has(a));
  }
  if (ts.isSwitchStatement(node)) return names.has(node.expression);
  if (ts.isNewExpression(node))
    return node.expression.getText() === "RegExp" && (node.arguments ?? []).some((a) => names.has(a));
  if (!isComparison(node)) return false;
  const isWritten = (side: ts.Expression): boolean => ts.isStringLiteralLike(side);
  return (names.has(node.left) && isWritten(node.right)) || (names.has(node.right) && isWritten(node.left));
}

describe("nothing looks into the name or the cost of an operator", () => {
  it("in the source", () => {
    const folders = "program simulate schedule run timeline api bench train model".split(" ");
    const trees = source.in(folders).map(({ tree }) => tree);
    const names = new Names(source.checker, trees);
    const found = new Set<string>();
    for (const tree of trees) walk(tree, (node) => void (looksInto(node, names) && found.add(place(node))));
    expect([...found]).toEqual([]);
  });

  it("and the test sees it when something does", () => {
    const text = `
      interface Common { readonly name: string; readonly cost: string }
      interface Other { readonly name: string }
      declare const op: Common & { id: number };
      declare const other: Other;
      declare function escapeXml(text: string): string;
      const short = (text: string) => text.slice(3);
      const { cost, name: called } = op;
      const key = \`\${op.cost} of rank 0\`;
      0; op.name.replace(/x/, "");
      1; cost.startsWith("expert");
      2; called.split(".");
      3; /x/.test(op.cost);
      4; key.match(/x/);
      5; short(op.name);
      6; op.cost === "expert'";
      7; switch (op.name) {}
      8; new RegExp(op.name);
      9; ({ ops: [op] }).ops.filter(({ name }) => name.endsWith("'"));
      -1; other.name.slice(1); escapeXml(op.name); op.cost === cost; \`\${op.name}\`;
    `;
    const options = { target: ts.ScriptTarget.ES2022, strict: true };
    const host = ts.createCompilerHost(options);
    const tree = ts.createSourceFile("x.ts", text, ts.ScriptTarget.ES2022, true);
    const fromDisk = host.getSourceFile.bind(host);
    host.getSourceFile = (file, version) => (file === "x.ts" ? tree : fromDisk(file, version));
    const names = new Names(ts.createProgram(["x.ts"], options, host).getTypeChecker(), [tree]);
    const lines = new Set<string>();
    walk(tree, (node) => void (looksInto(node, names) && lines.add(place(node).replace(/^.*?: /, ""))));
    expect([...lines].map((line) => line.split(";")[0]).sort()).toEqual(
      [0, 1, 2, 3, 4, 6, 7, 8, 9].map(String).concat("const short = (text: string) => text.slice(3)"),
    );
  });
});
