/** What is fused and what is not. Any programs: `fuse-random.test.ts`; models: `model/fuse-model.test.ts`. */
import { afterAll, describe, expect, it } from "vitest";
import { ENGINES, filled } from "../../test/engines.js";
import { Bench, ROWS, WIDTH, namesOf, servicesOf, x } from "../../test/made-up-kernels.js";
import type { Tensor } from "../core/tensor.js";
import * as k from "../kernel/build.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { type FusedProgram, fuseKernels } from "./fuse.js";
import type { Operator } from "./operator.js";

describe("what becomes one kernel", () => {
  const work = (fused: FusedProgram, name: string) =>
    fused.program.operators.find((op) => op.name === name)?.work;

  it("is a chain, with all its work, and nothing of what only it reads is left", () => {
    const bench = new Bench();
    const end = bench.affine("c", bench.affine("b", bench.affine("a", bench.input)));
    const { program } = bench;
    const fused = fuseKernels(program);
    expect(namesOf(fused)).toEqual(["a+b+c"]);
    expect(fused.program.values.map(({ name }) => name)).toEqual(["input", program.values[end].name]);
    expect(work(fused, "a+b+c")).toEqual({
      class: "mlp",
      flops: 3 * program.operators[0].work.flops,
      bytes: 3 * program.operators[0].work.bytes,
    });
    expect(namesOf(fuseKernels(fused.program))).toEqual(["a+b+c"]);
  });

  it("has no transfer, or other operator, in it, but the more kernels before and after", () => {
    const bench = new Bench();
    const a = bench.affine("a", bench.input);
    const sent = bench.opaque("send", "encode", [a]);
    const arrived = bench.opaque("move", "transfer", [sent]);
    const b = bench.affine("b", a);
    bench.affine("d", arrived);
    bench.affine("c", b);
    expect(namesOf(fuseKernels(bench.program))).toEqual(["a+b+c", "send", "move", "d"]);
  });

  it("starts no transfer later, and waits for none with a part that needs none", () => {
    const bench = new Bench();
    const a = bench.affine("a", bench.affine("first", bench.input));
    const arrived = bench.opaque("reduce", "statistics", [a]);
    const beside = bench.affine("b", a);
    bench.sum("joined", [bench.affine("c", beside), arrived]);
    expect(namesOf(fuseKernels(bench.program))).toEqual(["first+a", "reduce", "b+c", "joined"]);
  });

  it("leaves sums alone that no kernel goes with, and takes those that join kernels", () => {
    const bench = new Bench();
    const a = bench.affine("a", bench.input);
    const sent = bench.opaque("send", "encode", [a]);
    const s = bench.sum("s", [sent, a]);
    bench.opaque("again", "encode", [s]);
    expect(namesOf(fuseKernels(bench.program))).toEqual(["a", "send", "s", "again"]);
    bench.affine("b", bench.sum("t", [s, sent, a]));
    expect(namesOf(fuseKernels(bench.program))).toEqual(["a", "send", "s+t+b", "again"]);
  });

  it("is cut between operators where weights would be too many; weights that are read twice count once", () => {
    const bench = new Bench();
    let value = bench.input;
    for (const weight of [0, 1, 1, 2, 0]) value = bench.affine(`w${weight}.${value}`, value, weight);
    const bytes = 4 * WIDTH;
    const sizes = (maxWeightBytes: number): number[] =>
      fuseKernels(bench.program, { maxWeightBytes }).program.operators.map(
        ({ name }) => name.replace("+…", "++").split("+").length,
      );
    expect(namesOf(fuseKernels(bench.program, { maxWeightBytes: 2 * bytes }))).toEqual([
      "w0.0+w1.1+w1.2",
      "w2.3+w0.4",
    ]);
    expect(sizes(3 * bytes)).toHaveLength(1);
    expect(sizes(bytes - 1)).toHaveLength(5);
    expect(Object.keys(parametersOf(fuseKernels(bench.program)))).toEqual(["w", "w_2", "w_3"]);
  });

  function parametersOf({ program }: FusedProgram): object {
    const [op] = program.operators;
    return op.kind === "kernel" ? op.data.parameters : {};
  }

  it("gives one symbol one meaning", () => {
    const scaled = (symbol: string) => k.kernel("scaled", { y: k.neg(x("a", [symbol, WIDTH])) });
    const bench = new Bench();
    bench.affine("a", bench.input);
    // As many rows as the others by another name; rows of which there may be none; other rows by the same name.
    const few = bench.builder.value("few", WIDTH * 4);
    bench.kernel("kind", scaled("R"), { a: few });
    bench.kernel("same", scaled("T"), { a: few });
    const fused = fuseKernels(bench.program);
    expect(namesOf(fused).sort()).toEqual(["a", "kind", "same"]);
    // One value that two kernels spell differently.
    const other = new Bench();
    other.affine("a", other.input);
    other.kernel("n", k.kernel("n", { y: k.reduceSum(x("a", [ROWS, WIDTH]), [0, 1]) }), { a: other.input });
    expect(namesOf(fuseKernels(other.program))).toEqual(["a", "n"]);
  });

  it("is of one micro-batch", () => {
    const bench = new Bench();
    bench.affine("a", bench.input);
    const { program } = bench;
    const second = { ...program.operators[0], id: 1, name: "b", microBatch: 1, writes: [2] } as Operator;
    const values = [...program.values, { id: 2, name: "b.y", bytes: 24 }];
    const operators = [
      program.operators[0],
      { ...second, data: { ...second.data, outputs: { y: 2 } } } as Operator,
    ];
    expect(namesOf(fuseKernels({ ...program, operators, values }))).toEqual(["a", "b"]);
  });

  it("is forward", () => {
    const bench = new Bench();
    bench.affine("a", bench.input);
    const { program } = bench;
    const operators = [{ ...program.operators[0], pass: "backward" } as Operator];
    expect(() => fuseKernels({ ...program, operators })).toThrow(/a is of a forward pass/);
  });
});

describe.each(ENGINES)("a state that is written in place, %s", (_, create) => {
  const engine = create();
  afterAll(() => engine.dispose());
  const arena = engine.newArena(2 ** 16, "tensors");
  const add = k.kernel("add", { sum: k.add(x("total"), x("a")) }, { sum: "total" });

  function totals() {
    const bench = new Bench();
    const total = bench.builder.state("total", ROWS * WIDTH * 4);
    const scaled = bench.affine("scale", bench.input);
    const { sum } = bench.kernel("add", add, { total, a: scaled });
    return { bench, total, sum };
  }

  it("is kept, and read by the next member as it is then", () => {
    const { bench, total, sum } = totals();
    const out = bench.affine("after", sum, 1);
    const runs = [fuseKernels(bench.program), undefined].map((fused) => {
      const program = fused?.program ?? bench.program;
      const to = (value: number): number => (fused ? (fused.values.get(value) as number) : value);
      const held = filled(arena, "total", [ROWS, WIDTH]);
      const session = new Session(servicesOf(engine), program, {
        state: new Map([[to(total), held]]),
        keep: [to(out)],
      });
      const feeds = new Map([[to(bench.input), filled(arena, "input", [ROWS, WIDTH])]]);
      const found = [1, 2].map(() => {
        const run = session.run(sequential(program), feeds);
        const content = [...run.read<Tensor<Float32Array>>(to(out)).data];
        run.release();
        return content;
      });
      return { size: program.operators.length, found, held: [...held.data] };
    });
    expect(runs.map(({ size }) => size)).toEqual([1, 3]);
    expect(runs[0].found).toEqual(runs[1].found);
    expect(runs[0].held).toEqual(runs[1].held);
    expect(runs[0].found[0]).not.toEqual(runs[0].found[1]);
  });

  it("is not read by another member as it was, nor written twice", () => {
    const { bench, total } = totals();
    bench.affine("before", total);
    expect(namesOf(fuseKernels(bench.program)).sort()).toEqual(["before", "scale+add"]);
    const twice = totals();
    twice.bench.kernel("again", add, { total: twice.sum, a: twice.bench.input });
    expect(namesOf(fuseKernels(twice.bench.program))).toEqual(["scale+add", "again"]);
  });
});
