import { expect, it } from "vitest";
import { loadStatistics } from "./statistics.js";

it("choices of zero experts are no rows: neither dropped, nor load", () => {
  const found = loadStatistics({ load: [3, 1], dropped: 2, zero: 4, wanted: 10, nonFinite: 0 });
  expect(found).toMatchObject({ droppedShare: 2 / 6, zeroExpertShare: 0.4, choices: 10, imbalance: 1.5 });
  const without = loadStatistics({ load: [3, 1], dropped: 2, zero: undefined, wanted: 6, nonFinite: 0 });
  expect(without).toMatchObject({ droppedShare: 2 / 6, zeroExpertShare: undefined, entropy: found.entropy });
});

it("all choices may be of zero experts", () => {
  const found = loadStatistics({ load: [0, 0], dropped: 0, zero: 6, wanted: 6, nonFinite: 0 });
  expect(found).toMatchObject({ droppedShare: 0, zeroExpertShare: 1, entropy: 0, imbalance: 1 });
});
