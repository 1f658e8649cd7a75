/**
 * onnxruntime through its C API (onnxruntime_c_api.h), reached with koffi: the N-API binding copies every output and
 * refuses shared memory. The only file that knows the library. Functions are entries of the OrtApi table, which only
 * ever grows; version 20 of the table is asked for.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { existsSync } from "node:fs";
import koffi from "koffi";
import { addressOf } from "../core/address.js";
import { EnvironmentError } from "../core/errors.js";
import { refuseTelemetry } from "../core/telemetry.js";
import type { EncodedKernel } from "../kernel/onnx/encode.js";
import type { OutsideInitializer } from "../kernel/onnx/graph.js";

const API_VERSION = 20;
const ELEMENT = { f32: 1, u8: 2, i32: 6 } as const;
const OPTIMIZE_ALL = 99;

type Handle = bigint;

/** Entry and signature of each function used. All return OrtStatus* (null: success) unless the result says otherwise. */
const FUNCTIONS = {
  GetErrorMessage: [2, "const char *", ["void *"]],
  CreateEnv: [3, "void *", ["int", "const char *", "_Out_ void **"]],
  CreateSessionFromArray: [8, "void *", ["void *", "void *", "size_t", "void *", "_Out_ void **"]],
  Run: [9, "void *", ["void *", "void *", "void *", "void *", "size_t", "void *", "size_t", "void *"]],
  CreateSessionOptions: [10, "void *", ["_Out_ void **"]],
  DisableMemPattern: [17, "void *", ["void *"]],
  SetSessionGraphOptimizationLevel: [23, "void *", ["void *", "int"]],
  SetIntraOpNumThreads: [24, "void *", ["void *", "int"]],
  SetInterOpNumThreads: [25, "void *", ["void *", "int"]],
  CreateTensorWithDataAsOrtValue: [
    49,
    "void *",
    ["void *", "uintptr_t", "size_t", "void *", "size_t", "int", "_Out_ void **"],
  ],
  CreateCpuMemoryInfo: [69, "void *", ["int", "int", "_Out_ void **"]],
  ReleaseEnv: [92, "void", ["void *"]],
  ReleaseStatus: [93, "void", ["void *"]],
  ReleaseSession: [95, "void", ["void *"]],
  ReleaseValue: [96, "void", ["void *"]],
  ReleaseSessionOptions: [100, "void", ["void *"]],
  AddSessionConfigEntry: [130, "void *", ["void *", "const char *", "const char *"]],
  CreateAndRegisterAllocator: [144, "void *", ["void *", "void *", "void *"]],
  AddInitializer: [150, "void *", ["void *", "const char *", "void *"]],
  CreateArenaCfg: [156, "void *", ["size_t", "int", "int", "int", "_Out_ void **"]],
  ReleaseArenaCfg: [157, "void", ["void *"]],
} as const satisfies Record<string, readonly [number, string, readonly string[]]>;

type Functions = { -readonly [K in keyof typeof FUNCTIONS]: (...args: unknown[]) => never };

export interface OrtSession {
  /** Values to run with, in the order of the names given at creation. */
  readonly inputs: BigUint64Array;
  readonly outputs: BigUint64Array;
  run(): void;
  release(): void;
}

const packageRoot = (): string =>
  dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));

function libraryPath(): string {
  const root = packageRoot();
  const folder = join(root, "bin", "napi-v6", process.platform, process.arch);
  const names =
    process.platform === "darwin"
      ? ["libonnxruntime.1.dylib", "libonnxruntime.dylib"]
      : process.platform === "win32"
        ? ["onnxruntime.dll"]
        : ["libonnxruntime.so.1"];
  for (const name of names) if (existsSync(join(folder, name))) return join(folder, name);
  throw new EnvironmentError(
    `onnxruntime has no library for ${process.platform}-${process.arch} in ${folder}; reinstall with npm ci`,
  );
}

let loaded: OrtApi | undefined;
/** Kept for ever: koffi unloads a library whose handle is collected, and the decoded function pointers with it. */
let handle: ReturnType<typeof koffi.load> | undefined;

/** The API of this thread, loaded once. @throws EnvironmentError when the library is missing */
export function ortApi(): OrtApi {
  loaded ??= load();
  return loaded;
}

function load(): OrtApi {
  refuseTelemetry();
  handle = koffi.load(libraryPath());
  const base = handle.func("OrtGetApiBase", "void *", [])() as unknown;
  const [getApi, getVersion] = koffi.decode(base, koffi.array("void *", 2)) as [unknown, unknown];
  const version = koffi.decode(getVersion, koffi.proto("const char *()")) as () => string;
  const table = (koffi.decode(getApi, koffi.proto(`void *(uint32_t)`)) as (v: number) => unknown)(
    API_VERSION,
  );
  if (table === null)
    throw new EnvironmentError(`onnxruntime ${version()} does not offer C API version ${API_VERSION}`);
  const entries = koffi.decode(table, koffi.array("void *", 158)) as unknown[];
  const functions = {} as Functions;
  for (const [name, [entry, result, parameters]] of Object.entries(FUNCTIONS))
    functions[name as keyof Functions] = koffi.decode(
      entries[entry],
      koffi.proto(`${result}(${parameters.join(", ")})`),
    ) as (...args: unknown[]) => never;
  return new OrtApi(functions, version());
}

/** onnxruntime as far as it is used here. */
export class OrtApi {
  readonly #env: unknown;
  readonly #memoryInfo: unknown;
  readonly #options: unknown;

  constructor(
    readonly f: Functions,
    readonly version: string,
  ) {
    const WARNING = 2;
    this.#env = this.#out((out) => f.CreateEnv(WARNING, "scmoe", out));
    const [ARENA, DEFAULT] = [1, 0];
    this.#memoryInfo = this.#out((out) => f.CreateCpuMemoryInfo(ARENA, DEFAULT, out));
    this.#shareArena();
    this.#options = this.#newOptions();
  }

  #newOptions(): unknown {
    const { f } = this;
    const options = this.#out((out) => f.CreateSessionOptions(out));
    this.#check(f.AddSessionConfigEntry(options, "session.use_env_allocators", "1"));
    this.#check(f.SetIntraOpNumThreads(options, 1));
    this.#check(f.SetInterOpNumThreads(options, 1));
    // A pattern takes all of a run's intermediate results in one piece, which the arena then keeps beside the pieces that the
    // first run took: with them a process holds a fifth more.
    this.#check(f.DisableMemPattern(options));
    this.#check(f.SetSessionGraphOptimizationLevel(options, OPTIMIZE_ALL));
    // Applied to the thread that creates the process's first session; other threads: `denormals.ts`.
    this.#check(f.AddSessionConfigEntry(options, "session.set_denormal_as_zero", "1"));
    return options;
  }

  /**
   * One arena for the intermediate results of all sessions, grown by what is asked for. By default every session keeps an arena
   * of its own that doubles, and a model's kernels together hold several times what one needs at a time.
   */
  #shareArena(): void {
    const [NO_LIMIT, AS_REQUESTED, DEFAULT] = [0, 1, -1];
    const config = this.#out((out) => this.f.CreateArenaCfg(NO_LIMIT, AS_REQUESTED, DEFAULT, DEFAULT, out));
    try {
      this.#check(this.f.CreateAndRegisterAllocator(this.#env, this.#memoryInfo, config));
    } catch (error) {
      // The environment is the process's: another thread has registered it.
      if (!/already registered/i.test((error as Error).message)) throw error;
    } finally {
      this.f.ReleaseArenaCfg(config);
    }
  }

  #check(status: unknown): void {
    if (status === null || status === undefined || status === 0n) return;
    const message = this.f.GetErrorMessage(status) as string;
    this.f.ReleaseStatus(status);
    throw new Error(`onnxruntime: ${message}`);
  }

  #out(call: (out: unknown[]) => unknown): unknown {
    const out: unknown[] = [null];
    this.#check(call(out));
    return out[0];
  }

  createSession(model: EncodedKernel): OrtSession {
    const { inputs, outputs } = model;
    const { session, values, kept } = this.#load(model);
    const inputNames = cStrings(inputs);
    const outputNames = cStrings(outputs);
    const inputValues = new BigUint64Array(inputs.length);
    const outputValues = new BigUint64Array(outputs.length);
    return {
      inputs: inputValues,
      outputs: outputValues,
      run: () => {
        this.#check(
          this.f.Run(
            session,
            null,
            inputNames.pointers,
            inputValues,
            inputValues.length,
            outputNames.pointers,
            outputValues.length,
            outputValues,
          ),
        );
      },
      release: () => {
        this.f.ReleaseSession(session);
        for (const value of values) this.f.ReleaseValue(value);
        kept.length = 0;
      },
    };
  }

  /**
   * A function of its own: what the session's closures share would keep the model's bytes, and its weights a second time.
   * @returns with the session, values that must live as long, over memory that need not but for what is kept
   */
  #load({ bytes, outside }: EncodedKernel): {
    readonly session: unknown;
    readonly values: readonly Handle[];
    readonly kept: unknown[];
  } {
    if (outside.length === 0) return { session: this.#create(bytes, this.#options), values: [], kept: [] };
    const options = this.#newOptions();
    const given = outside.map((o) => (isReadLater(o) ? { ...o, data: o.data.slice() } : o));
    const values = given.map(({ data, dims }) =>
      this.createValue(addressOf(data), data.byteLength, dims, data instanceof Uint8Array ? "u8" : "f32"),
    );
    try {
      this.#check(
        this.f.AddSessionConfigEntry(
          options,
          "session.model_external_initializers_file_folder_path",
          packageRoot(),
        ),
      );
      outside.forEach(({ name }, i) => this.#check(this.f.AddInitializer(options, name, values[i])));
      const kept = given.filter(isReadLater).map(({ data }) => data);
      return { session: this.#create(bytes, options), values, kept };
    } catch (error) {
      for (const value of values) this.f.ReleaseValue(value);
      throw error;
    } finally {
      this.f.ReleaseSessionOptions(options);
    }
  }

  #create(model: Uint8Array, options: unknown): unknown {
    return this.#out((out) =>
      this.f.CreateSessionFromArray(this.#env, model, model.byteLength, options, out),
    );
  }

  /** A tensor over memory at `address`; the memory must outlive the value. */
  createValue(
    address: bigint,
    byteLength: number,
    dims: readonly number[],
    dtype: keyof typeof ELEMENT,
  ): Handle {
    const shape = BigInt64Array.from(dims, BigInt);
    const value = this.#out((out) =>
      this.f.CreateTensorWithDataAsOrtValue(
        this.#memoryInfo,
        address,
        byteLength,
        shape,
        dims.length,
        ELEMENT[dtype],
        out,
      ),
    );
    return addressOfPointer(value);
  }

  releaseValue(value: Handle): void {
    this.f.ReleaseValue(value);
  }
}

/** Elsewhere than on x64 a matrix in few bits is packed without its scales. */
const isReadLater = ({ areScales }: OutsideInitializer): boolean => areScales && process.arch !== "x64";

function addressOfPointer(pointer: unknown): bigint {
  return typeof pointer === "bigint" ? pointer : koffi.address(pointer);
}

/** NUL-terminated strings and their pointers, kept alive together. */
function cStrings(texts: readonly string[]): { pointers: BigUint64Array; buffers: Uint8Array[] } {
  const buffers = texts.map((text) => new Uint8Array(Buffer.from(`${text}\0`, "utf8")));
  return { pointers: BigUint64Array.from(buffers, (buffer) => addressOf(buffer)), buffers };
}
