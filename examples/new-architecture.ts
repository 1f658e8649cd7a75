/**
 * An architecture is a wiring: which stream feeds which operator. In this one the experts of a block read the stream that
 * entered the block before, and what they give is added after this block's own attention. Policies order it and the
 * simulator predicts it, as any other: nobody writes overlap by hand.
 */
import assert from "node:assert/strict";
import {
  type BlockParts,
  type Program,
  Wires,
  addAttention,
  addEmbedding,
  addHead,
  addMlp,
  analyticCosts,
  cluster,
  decodeBranch,
  parsePolicy,
  preset,
  resolveModel,
  routedBranch,
  simulate,
  structureOf,
  whyIllegal,
} from "scmoe/plan";

const RANKS = 8;
const config = resolveModel({ ...preset("gpt2-moe-small"), arch: "top1" });
const rule = {
  topK: 1,
  capacityFactor: null,
  renormalize: false,
  scores: "softmax",
  scaling: 1,
  numZeroExperts: 0,
  activeExperts: 1,
} as const;

/** @param early whether the experts read the stream that entered the block before, or this block's after attention */
function wire(early: boolean): Program {
  const wires = new Wires(config.hidden_size, { batch: 8, sequence: 1024, epSize: RANKS, wire: "bf16" });
  const structure = structureOf(config);
  let x = addEmbedding(wires, structure, wires.builder.value("tokens", wires.tokens * 4));
  let before = x;
  structure.blocks.forEach((block: BlockParts, layer) => {
    const entered = x;
    const route = (source: number) =>
      block.moe &&
      routedBranch(wires, block.moe, { layer, name: `L${layer}`, rule, source, withNoise: false });
    const sent = early ? route(before) : undefined;
    const attended = addAttention(wires, block, { layer, x });
    const branch = sent ?? route(attended);
    x = branch
      ? decodeBranch(wires, branch, { layer, base: attended })
      : addMlp(wires, block, { layer, x: attended });
    before = entered;
  });
  addHead(wires, structure, { x });
  return wires.builder.build(early ? "experts that read one block ahead" : "top-1");
}

const described = cluster("8xA30-PCIe");
const costs = analyticCosts({ cluster: described, elementBytes: 2, ranks: RANKS });
const [plain, ahead] = [false, true].map((early) => {
  const program = wire(early);
  const schedule = parsePolicy("adaptive").schedule(program, costs);
  assert.equal(whyIllegal(program, schedule), undefined);
  const { stepMs, overlapShare } = simulate(program, schedule, { costs: [costs] }).summary;
  console.log(`${program.name}: ${stepMs.toFixed(1)} ms, ${(overlapShare * 100).toFixed(0)} % hidden`);
  return { stepMs, overlapShare };
}) as [Predicted, Predicted];

interface Predicted {
  readonly stepMs: number;
  readonly overlapShare: number;
}
assert.ok(plain.overlapShare < 0.05, "there is nothing beside which top-1's rows could travel");
assert.ok(ahead.overlapShare > 0.3, "rows travel beside attention and the dense block");
assert.ok(ahead.stepMs < 0.9 * plain.stepMs);
