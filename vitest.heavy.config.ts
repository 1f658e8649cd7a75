import { defineConfig } from "vitest/config";

/** Tests that need MPI, root or a browser; `.ci/run` installs those. */
export default defineConfig({
  test: {
    include: ["test/heavy/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 1,
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
