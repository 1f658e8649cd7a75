/** Finds a job where it was defined. */
import { existsSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { InputError } from "../core/errors.js";
import type { Job } from "./job.js";
import type { WorkerData } from "./messages.js";

const PACKAGE = new URL("../../", import.meta.url).href;

/** Threads run what was built, also when whoever launches them (a test) runs this package's sources. */
function builtModule(module: string): string {
  if (!module.startsWith(`${PACKAGE}src/`) || !module.endsWith(".ts")) return module;
  return `${PACKAGE}dist/${module.slice(PACKAGE.length + 4, -3)}.js`;
}

/** Starts the thread of a rank. */
export function startRank(
  { module, name }: Pick<Job<unknown, unknown>, "module" | "name">,
  data: Omit<WorkerData, "job">,
): Worker {
  const workerData: WorkerData = { ...data, job: { module: builtModule(module), name } };
  const transferList = data.inbox === undefined ? [] : [data.inbox.port];
  return new Worker(workerFile(), { workerData, transferList, ...threadOptions() });
}

/** A thread inherits Node's options, and will not start with this one, which is about the text behind "-e" or on stdin. */
function threadOptions(): { execArgv?: string[] } {
  return process.execArgv.some((word) => word.startsWith("--input-type")) ? { execArgv: [] } : {};
}

/** What a rank's thread runs first. */
function workerFile(): URL {
  const here = new URL("./worker.js", import.meta.url);
  return existsSync(here) ? here : new URL(builtModule(new URL("./worker.ts", import.meta.url).href));
}

/** @throws InputError when the module does not export the job under its name, or cannot be imported */
export async function importJob(
  at: Pick<Job<unknown, unknown>, "module" | "name">,
): Promise<Job<unknown, unknown>> {
  let found: Record<string, unknown>;
  try {
    found = (await import(at.module)) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(
      `Cannot import ${at.module}, which defines the job "${at.name}": ${(error as Error).message}`,
    );
  }
  const job = found[at.name] as Partial<Job<unknown, unknown>> | undefined;
  if (typeof job?.run !== "function")
    throw new InputError(
      `${at.module} exports no job "${at.name}"; export what defineJob returns under the name that it is given`,
    );
  return job as Job<unknown, unknown>;
}
