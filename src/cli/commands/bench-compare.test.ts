import { describe, expect, it } from "vitest";
import { InputError } from "../../core/errors.js";
import { ARCHITECTURE_NAMES } from "../../model/architectures.js";
import { parseCases } from "./bench-compare.js";

describe("cases", () => {
  it("are pairs, or architectures under each policy, once each", () => {
    expect(parseCases("top2:sequential, scmoe-pos2 top2", ["sequential", "fixed(2)"])).toEqual([
      { arch: "top2", policy: "sequential" },
      { arch: "scmoe-pos2", policy: "sequential" },
      { arch: "scmoe-pos2", policy: "fixed(2)" },
      { arch: "top2", policy: "fixed(2)" },
    ]);
  });

  it("may be all architectures", () => {
    expect(parseCases("all:adaptive", []).map(({ arch }) => arch)).toEqual([...ARCHITECTURE_NAMES]);
  });

  it.each(["top2:magic", "top2:fixed(0)", " , "])("refuse %s", (text) => {
    expect(() => parseCases(text, ["sequential"])).toThrow(InputError);
  });
});
