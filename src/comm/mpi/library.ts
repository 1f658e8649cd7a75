/** native/mpi through its C interface. */
import { existsSync } from "node:fs";
import koffi from "koffi";
import { EnvironmentError } from "../../core/errors.js";

/** See the C functions for arguments and results. */
export interface MpiLibrary {
  init(timeoutMs: number): number;
  rank(): number;
  size(): number;
  post(
    tag: number,
    label: string,
    peers: number,
    ranks: Int32Array,
    send: BigInt64Array,
    sendBytes: BigInt64Array,
    recv: BigInt64Array,
    recvBytes: BigInt64Array,
    pool: BigInt64Array | null,
    values: number,
    valuesOut: Int32Array,
    valuesIn: Int32Array,
  ): number;
  done(id: number): number;
  wants_room(): number;
  wanted(id: number): number;
  room(id: number, address: bigint): void;
  wait(
    id: number,
    deadlineMs: number,
    gotBytes: BigInt64Array,
    gotOffsets: BigInt64Array,
    times: Float64Array,
  ): number;
  released(id: number): number;
  error(id: number): string;
  last_label(rank: number): string;
  missing(ranks: Int32Array, most: number): number;
  abort(code: number): void;
  finalize(timeoutMs: number): number;
  stop(timeoutMs: number): number;
}

const SIGNATURES: Readonly<Record<keyof MpiLibrary, string>> = {
  init: "int scmoe_mpi_init(double)",
  rank: "int scmoe_mpi_rank()",
  size: "int scmoe_mpi_size()",
  post: "int64_t scmoe_mpi_post(int, const char *, int, void *, void *, void *, void *, void *, void *, int64_t, void *, void *)",
  done: "int scmoe_mpi_done(int64_t)",
  wants_room: "int64_t scmoe_mpi_wants_room()",
  wanted: "int64_t scmoe_mpi_wanted(int64_t)",
  room: "void scmoe_mpi_room(int64_t, int64_t)",
  wait: "int scmoe_mpi_wait(int64_t, double, void *, void *, void *)",
  released: "int scmoe_mpi_released(int64_t)",
  error: "const char *scmoe_mpi_error(int64_t)",
  last_label: "const char *scmoe_mpi_last_label(int)",
  missing: "int scmoe_mpi_missing(void *, int)",
  abort: "void scmoe_mpi_abort(int)",
  finalize: "int scmoe_mpi_finalize(double)",
  stop: "int scmoe_mpi_stop(double)",
};

/** The library handle is kept with its functions: koffi unloads a library whose handle is collected. */
let loaded: { readonly functions: MpiLibrary; readonly handle: unknown } | undefined;

function mpiLibraryPath(): string {
  const beside = new URL("../../native/libscmoe_mpi.so", import.meta.url).pathname;
  return existsSync(beside)
    ? beside
    : new URL("../../../dist/native/libscmoe_mpi.so", import.meta.url).pathname;
}

/** @throws EnvironmentError in one line when it has not been built or MPI is missing */
export function mpiLibrary(): MpiLibrary {
  if (loaded !== undefined) return loaded.functions;
  const path = mpiLibraryPath();
  const advice =
    "install MPI (Debian: apt-get install g++ libopenmpi-dev openmpi-bin), then run: npm run build:mpi";
  if (!existsSync(path)) throw new EnvironmentError(`The MPI communicator has not been built; ${advice}`);
  try {
    const library = koffi.load(path);
    const functions = Object.fromEntries(
      Object.entries(SIGNATURES).map(([name, signature]) => [name, library.func(signature)]),
    ) as unknown as MpiLibrary;
    loaded = { functions, handle: library };
    return functions;
  } catch (error) {
    throw new EnvironmentError(`Cannot load ${path}: ${(error as Error).message.split("\n")[0]}; ${advice}`);
  }
}

const LAUNCHER_SIZES = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"];

/** Number of ranks an MPI launcher has started, or undefined when there is no launcher. */
export function launcherSize(environment: NodeJS.ProcessEnv = process.env): number | undefined {
  if (
    environment.PMI_SIZE === undefined &&
    environment.PMIX_RANK === undefined &&
    environment.OMPI_COMM_WORLD_SIZE === undefined
  )
    return undefined;
  for (const name of LAUNCHER_SIZES) if (environment[name] !== undefined) return Number(environment[name]);
  return undefined;
}

/** Ranks on this host as the launcher says; undefined when there is no launcher, or it does not say. */
export function launcherLocalSize(environment: NodeJS.ProcessEnv = process.env): number | undefined {
  const { OMPI_COMM_WORLD_LOCAL_SIZE, MPI_LOCALNRANKS, SLURM_NTASKS_PER_NODE } = environment;
  if (launcherSize(environment) === undefined) return undefined;
  const size = parseInt(OMPI_COMM_WORLD_LOCAL_SIZE ?? MPI_LOCALNRANKS ?? SLURM_NTASKS_PER_NODE ?? "");
  return size >= 1 ? size : undefined;
}

/** This process's rank as the launcher says, before MPI has started. */
export function launcherRank(environment: NodeJS.ProcessEnv = process.env): number {
  return Number(environment.OMPI_COMM_WORLD_RANK ?? environment.PMI_RANK ?? environment.PMIX_RANK ?? 0);
}
