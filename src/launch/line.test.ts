import { describe, expect, it } from "vitest";
import { type LineOptions, launchLine, shellLine } from "./line.js";

const options = (more: Partial<LineOptions>): LineOptions => ({
  hosts: ["a", "b"],
  ranksPerHost: 2,
  slurm: false,
  asRoot: false,
  command: ["node", "scmoe.js", "train", "--out", "my run"],
  ...more,
});

describe("launch lines", () => {
  it("for mpirun", () => {
    expect(shellLine(launchLine(options({})))).toBe(
      "mpirun --host a:2,b:2 -n 4 --bind-to none --mca btl_tcp_flags 1 node scmoe.js train --out 'my run'",
    );
    expect(launchLine(options({ hosts: ["a:4", "b"], asRoot: true })).slice(0, 6)).toEqual([
      "mpirun",
      "--allow-run-as-root",
      "--host",
      "a:4,b:2",
      "-n",
      "6",
    ]);
  });

  it("for srun", () => {
    expect(shellLine(launchLine(options({ slurm: true })))).toBe(
      "srun --nodes=2 --nodelist=a,b --ntasks-per-node=2 --mpi=pmix --cpu-bind=none --kill-on-bad-exit=1 node scmoe.js train --out 'my run'",
    );
    expect(launchLine(options({ slurm: true, hosts: [] })).slice(0, 2)).toEqual([
      "srun",
      "--ntasks-per-node=2",
    ]);
  });

  it.each([
    [{ hosts: [] }, /needs --hosts/],
    [{ hosts: ["a", "a"] }, /names a twice; write a:2/],
    [{ hosts: ["a b"] }, /found "a b"/],
    [{ hosts: ["a:0"] }, /found "a:0"/],
    [{ hosts: ["a:2", "b:3"], slurm: true }, /same number of ranks.*a has 2, b 3/],
  ])("refuses %o", (more, message) => {
    expect(() => launchLine(options(more))).toThrow(message);
  });

  it("quotes for the shell", () => {
    expect(shellLine(["a", "it's", "--set", "x=y", "$HOME"])).toBe(`a 'it'\\''s' --set x=y '$HOME'`);
  });
});
