// Makes the files that browsers get, from our own and from the npm packages that `npm ci` has put beside this script:
// joined, named by their hashes, and compressed. Usage: node build.mjs OUTPUT
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild-wasm";

// What a page always loads.
const FILES = {
  "icon.svg": ["icon.svg"],
  "ringfence.css": ["tokens.css", "layout.css", "components.css"],
  "ringfence.js": ["node_modules/htmx.org/dist/htmx.min.js", "theme.js", "answered.js", "islands.js", "written.js", "signed-out.js", "live.js", "times.js", "stream.js", "copy.js", "palette.js", "keys.js"],
};

// What only the pages load that have such a thing: each is a module that exports `mount(place)`, see islands.js.
const ISLANDS = { "island-editor.js": "editor.mjs", "island-chart.js": "chart.mjs" };

const output = process.argv[2];
mkdirSync(output, { recursive: true });
const joined = ([name, parts]) => {
  const texts = parts.map((part) => readFileSync(join(import.meta.dirname, part), "utf8"));
  return [name, Buffer.from(texts.join("\n").replace(/^\/\/# sourceMappingURL=.*$/gm, ""))];
};
const bundled = async ([name, entry]) => {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, entry)], absWorkingDir: import.meta.dirname, bundle: true, minify: true,
    format: "esm", target: "es2022", loader: { ".css": "text" }, legalComments: "none", write: false, logLevel: "error",
  });
  return [name, Buffer.from(outputFiles[0].contents)];
};
const manifest = {};
for (const [name, bytes] of [...Object.entries(FILES).map(joined), ...(await Promise.all(Object.entries(ISLANDS).map(bundled)))]) {
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 16);
  const [stem, extension] = name.split(".");
  const file = `${stem}.${hash}.${extension}`;
  writeFileSync(join(output, file), bytes);
  writeFileSync(join(output, `${file}.gz`), gzipSync(bytes, { level: 9 }));
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
  writeFileSync(join(output, `${file}.br`), brotliCompressSync(bytes, quality));
  manifest[name] = file;
}
writeFileSync(join(output, "manifest.json"), `${JSON.stringify(manifest, null, 1)}\n`);
