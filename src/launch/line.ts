/** The command line that starts ranks on several hosts: `mpirun`, or `srun` under Slurm. */
import { BOUNDS, fits } from "../core/bounds.js";
import { InputError } from "../core/errors.js";

export interface LineOptions {
  /** "name" or "name:ranks"; may be empty under Slurm, whose allocation names them. */
  readonly hosts: readonly string[];
  /** Ranks on a host that does not say how many. */
  readonly ranksPerHost: number;
  readonly slurm: boolean;
  /** OpenMPI refuses to run as root unless told otherwise. */
  readonly asRoot: boolean;
  /** What every rank runs, with absolute paths: the same on every host. */
  readonly command: readonly string[];
}

interface Host {
  readonly name: string;
  readonly ranks: number;
}

/**
 * Ranks are not bound to a core each: the threads that compute and the one that communicates need room. Messages go one
 * at a time per direction (btl_tcp_flags 1): otherwise both directions now and then run one after the other.
 * @throws InputError when hosts are missing, repeated or misspelt
 */
export function launchLine(options: LineOptions): string[] {
  const hosts = parseHosts(options);
  return options.slurm ? srun(hosts, options) : mpirun(hosts, options);
}

function mpirun(hosts: readonly Host[], options: LineOptions): string[] {
  if (hosts.length === 0) throw new InputError("launch needs --hosts a,b (or --slurm inside an allocation)");
  return [
    "mpirun",
    ...(options.asRoot ? ["--allow-run-as-root"] : []),
    "--host",
    hosts.map(({ name, ranks }) => `${name}:${ranks}`).join(","),
    "-n",
    String(hosts.reduce((sum, { ranks }) => sum + ranks, 0)),
    "--bind-to",
    "none",
    "--mca",
    "btl_tcp_flags",
    "1",
    ...options.command,
  ];
}

function srun(hosts: readonly Host[], options: LineOptions): string[] {
  const uneven = hosts.find(({ ranks }) => ranks !== hosts[0].ranks);
  if (uneven !== undefined)
    throw new InputError(
      `--slurm starts the same number of ranks on every host; ${hosts[0].name} has ${hosts[0].ranks}, ${uneven.name} ${uneven.ranks}`,
    );
  const named =
    hosts.length === 0
      ? []
      : [`--nodes=${hosts.length}`, `--nodelist=${hosts.map(({ name }) => name).join(",")}`];
  return [
    "srun",
    ...named,
    `--ntasks-per-node=${hosts[0]?.ranks ?? options.ranksPerHost}`,
    "--mpi=pmix",
    "--cpu-bind=none",
    // One rank that fails ends them all.
    "--kill-on-bad-exit=1",
    ...options.command,
  ];
}

function parseHosts({ hosts, ranksPerHost }: LineOptions): Host[] {
  const seen = new Set<string>();
  return hosts.map((text) => {
    const [, name, ranks] = /^([\w.-]+)(?::(\d+))?$/.exec(text) ?? [];
    if (name === undefined || (ranks !== undefined && !fits(Number(ranks), BOUNDS.launchedRanks)))
      throw new InputError(`--hosts takes names such as a,b or a:4,b:4; found "${text}"`);
    if (seen.has(name)) throw new InputError(`--hosts names ${name} twice; write ${name}:2 for two ranks`);
    seen.add(name);
    return { name, ranks: ranks === undefined ? ranksPerHost : Number(ranks) };
  });
}

/** For a POSIX shell. */
export function shellLine(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`))
    .join(" ");
}
