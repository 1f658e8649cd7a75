/** The teacher of a run that learns by distillation: a model of its own, whose logits the student comes to match (method 9.9). */
import { createHash } from "node:crypto";
import { gatherJson } from "../comm/collectives.js";
import { nowMs } from "../core/clock.js";
import { greatestDivisor } from "../core/divisor.js";
import { InputError } from "../core/errors.js";
import { type Tensor, numElements } from "../core/tensor.js";
import type { Engine } from "../engine/engine.js";
import type { ModelConfig } from "../model/config.js";
import { type ModelProgram, type ProgramOptions, buildProgram } from "../model/language-model.js";
import type { Schedule } from "../program/schedule.js";
import { loadWeights } from "../run/load-weights.js";
import { type OpenModel, openModel } from "../run/open-model.js";
import { type Rank, createRank } from "../run/rank.js";
import { Session } from "../run/session.js";
import { sequential } from "../schedule/sequential.js";
import { readText } from "../storage/files.js";
import { type RunConfig, modelOf } from "./config.js";
import { type Lesson, type MicroBatch, feedBatch } from "./micro-batch.js";

/** Where a teacher's model runs. */
export interface TeacherPlace {
  readonly engine: Engine;
  readonly world: Rank["world"];
  /** Ranks that share one copy of the student's experts. */
  readonly epSize: number;
  /** Sequences per rank and micro-batch, and tokens of each. */
  readonly batch: number;
  readonly sequence: number;
}

/** A lesson that is over when it is released. */
export interface GivenLesson extends Lesson {
  readonly tookMs: number;
  release(): void;
}

/**
 * Opens the teacher of a config, and looks whether it can teach this student.
 * @throws InputError when it is missing or damaged, or has other tokens or too few positions
 */
export function openTeacher(config: RunConfig): OpenModel | undefined {
  const { distill } = config.train;
  if (distill === undefined) return undefined;
  const opened = openModel(distill.teacher);
  const refuse = (text: string): never => {
    opened.close();
    throw new InputError(`train.distill.teacher ${distill.teacher}: ${text}`);
  };
  const { vocab_size: taught, max_position_embeddings: positions } = opened.config;
  const { vocab_size: own } = modelOf(config);
  if (taught !== own)
    refuse(`its vocab_size is ${taught}, the student's ${own}; both must have the same tokens`);
  if (config.data.sequence_length > positions)
    refuse(
      `its max_position_embeddings ${positions} is below data.sequence_length ${config.data.sequence_length}`,
    );
  return opened;
}

/** @throws InputError when the teacher was trained with another tokenizer than the run's text is made with */
export function refuseOtherTokenizer(teacher: OpenModel, tokenizer: string): void {
  if (teacher.tokenizer === undefined) return;
  const text = (path: string): string => JSON.stringify(JSON.parse(readText(path, "the tokenizer")));
  if (text(teacher.tokenizer) !== text(tokenizer))
    throw new InputError(
      `train.distill.teacher: ${teacher.tokenizer} is another tokenizer than the run's; set data.tokenizer=${teacher.tokenizer}`,
    );
}

/** The program that a teacher runs: nothing is dropped, whatever its capacity. */
export function teacherProgram(
  config: ModelConfig,
  options: Omit<ProgramOptions, "head" | "epSize"> & { readonly epSize: number },
): ModelProgram {
  return buildProgram({ ...config, capacity_factor: null }, { ...options, head: "logits" });
}

/** The teacher's experts are shared out like the student's, as far as they divide: copies of all on each rank would outweigh the student. */
export function teacherEpSize({ num_experts: experts }: ModelConfig, epSize: number): number {
  return greatestDivisor(epSize, experts);
}

/** Weights without gradients, and a session of their own. */
export class Teacher {
  readonly weight: number;
  /** SHA-256 over names and weights; the same whatever files they came from, on any number of ranks. */
  readonly digest: string;
  readonly #rank: Rank;
  readonly #model: ModelProgram;
  readonly #session: Session;
  readonly #schedule: Schedule;

  /** @param opened is closed */
  constructor(opened: OpenModel, config: RunConfig, place: TeacherPlace) {
    const { engine, world, batch, sequence } = place;
    this.weight = config.train.distill?.weight ?? 0;
    opened.verify({ turn: world.rank, of: world.size });
    const epSize = teacherEpSize(opened.config, place.epSize);
    this.#rank = createRank({ config: opened.config, engine, world, epSize });
    loadWeights(this.#rank, opened.source);
    this.digest = digestOf(opened, world);
    opened.close();
    const { document_mask: documents } = config.data;
    const { wire } = config.parallel;
    this.#model = teacherProgram(opened.config, {
      batch,
      sequence,
      epSize,
      ranks: world.size,
      documents,
      wire,
    });
    this.#session = new Session(this.#rank, this.#model.program, { keep: [this.#model.output] });
    this.#schedule = sequential(this.#model.program);
  }

  get bytes(): number {
    return this.#rank.weights.bytes;
  }

  /** What the student learns of a micro-batch; all ranks together. @throws CommError when a peer does not answer or is lost */
  teach(batch: MicroBatch): GivenLesson {
    const startMs = nowMs();
    const feeds = feedBatch(this.#rank, this.#model, batch, {
      step: 0,
      seed: 0,
      share: 1,
      scales: { balance: 0, z: 0 },
    });
    const run = this.#session.run(this.#schedule, feeds.values);
    feeds.release();
    return {
      logits: run.read<Tensor<Float32Array>>(this.#model.output),
      weight: this.weight,
      tookMs: nowMs() - startMs,
      release: () => run.release(),
    };
  }
}

/** Ranks share the reading; each tensor is read by one. */
function digestOf({ source }: OpenModel, world: Rank["world"]): string {
  const names = [...source.names].sort();
  const own = names.flatMap((name, i) => {
    if (i % world.size !== world.rank) return [];
    const data = new Float32Array(numElements(source.dims(name)));
    source.readInto(name, data);
    return [[name, createHash("sha256").update(data).digest("hex")] as const];
  });
  const all = new Map(gatherJson(world, own, "the teacher's digests").flat());
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name} ${all.get(name)}\n`);
  return hash.digest("hex");
}
