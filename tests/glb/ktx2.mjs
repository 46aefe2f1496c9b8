// Write a KTX 2.0 image with ktx-parse: `node ktx2.mjs WIDTH HEIGHT` prints it in Base64, as JSON.
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";

const { createDefaultContainer, write, VK_FORMAT_R8G8B8A8_UNORM } = createRequire(import.meta.url)(
  join(process.env.AVATURN_NODE_MODULES, "ktx-parse"),
);
const [width, height] = process.argv.slice(2).map(Number);
const container = createDefaultContainer({ vkFormat: VK_FORMAT_R8G8B8A8_UNORM, typeSize: 1 });
Object.assign(container, { pixelWidth: width, pixelHeight: height });
container.levels = [{ levelData: new Uint8Array(4 * width * height), uncompressedByteLength: 4 * width * height }];
process.stdout.write(JSON.stringify(Buffer.from(write(container)).toString("base64")));
