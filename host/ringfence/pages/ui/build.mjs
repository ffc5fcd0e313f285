// Makes the files that browsers get, from our own and from the npm packages that `npm ci` has put beside this script:
// joined, named by their hashes, and compressed. Usage: node build.mjs OUTPUT
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

// What a page always loads. An island (an editor, a chart) is an entry of its own here, loaded by the pages that have it.
const FILES = {
  "icon.svg": ["icon.svg"],
  "ringfence.css": ["tokens.css", "layout.css", "components.css"],
  "ringfence.js": ["node_modules/htmx.org/dist/htmx.min.js", "theme.js", "live.js", "times.js", "stream.js", "copy.js", "palette.js", "keys.js"],
};

const output = process.argv[2];
mkdirSync(output, { recursive: true });
const manifest = {};
for (const [name, parts] of Object.entries(FILES)) {
  const text = parts
    .map((part) => readFileSync(join(import.meta.dirname, part), "utf8").replace(/^\/\/# sourceMappingURL=.*$/gm, ""))
    .join("\n");
  const bytes = Buffer.from(text);
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
