// A campaign as one module beside dist/: it imports the modules of src from there, so that each is there once and worker
// threads find theirs.
import { dirname, relative, resolve, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = resolve(root, "src") + sep;

/**
 * @param {string} entry a file of test/campaign, without ".ts"
 * @param {string} name of the module in dist/campaign
 * @returns {Promise<string>} the module's address
 */
export async function bundleCampaign(entry, name = entry) {
  const outfile = resolve(root, `dist/campaign/${name}.mjs`);
  await build({
    entryPoints: [resolve(root, `test/campaign/${entry}.ts`)],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: "inline",
    packages: "external",
    logLevel: "warning",
    plugins: [
      {
        name: "built sources",
        setup: (bundler) =>
          bundler.onResolve({ filter: /^\.{1,2}\// }, ({ path, resolveDir }) => {
            const target = resolve(resolveDir, path);
            if (!target.startsWith(source)) return undefined;
            const module = resolve(root, "dist", target.slice(source.length));
            return { path: relative(dirname(outfile), module).split(sep).join("/"), external: true };
          }),
      },
    ],
  });
  return pathToFileURL(outfile).href;
}
