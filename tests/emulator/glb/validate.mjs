// Validate GLB files with the Khronos glTF validator: `node validate.mjs FILE...` prints a JSON list of its reports.
// The npm package gltf-validator is taken from the folder AVATURN_NODE_MODULES.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import process from "node:process";

const require = createRequire(import.meta.url);
const validator = require(resolve(process.env.AVATURN_NODE_MODULES, "gltf-validator"));

const reports = [];
for (const file of process.argv.slice(2)) {
  reports.push(await validator.validateBytes(new Uint8Array(await readFile(file)), { uri: file }));
}
process.stdout.write(JSON.stringify(reports));
