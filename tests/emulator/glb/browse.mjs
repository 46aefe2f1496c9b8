// Open pages in headless Chromium: `node browse.mjs FOLDER PAGE...` serves FOLDER as /models and the npm packages in
// AVATURN_NODE_MODULES as /npm, opens each PAGE, saves a screenshot of it in FOLDER, and prints a JSON list of what the
// pages leave in `window.result`. AVATURN_CHROMIUM is the browser.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { basename, extname, join, normalize } from "node:path";
import process from "node:process";

const modules = process.env.AVATURN_NODE_MODULES;
const [folder, ...pages] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(join(modules, "playwright-core"));
const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json" };
const roots = { npm: modules, models: folder, pages: import.meta.dirname };

const server = createServer(async (request, response) => {
  const [, root, ...rest] = normalize(decodeURIComponent(request.url.split("?")[0])).split("/");
  try {
    const data = await readFile(join(roots[root], ...rest));
    response.writeHead(200, { "content-type": types[extname(request.url)] ?? "application/octet-stream" }).end(data);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const browser = await chromium.launch({
  executablePath: process.env.AVATURN_CHROMIUM,
  args: [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required",
    "--disable-gpu-watchdog", // which would end the WebGL context of a busy machine without a GPU
  ],
});
const results = [];
try {
  for (const name of pages) {
    const page = await browser.newPage({ viewport: { width: 400, height: 400 } });
    page.setDefaultTimeout(400_000); // without a GPU, and perhaps on a busy machine
    const trouble = [];
    page.on("pageerror", (error) => trouble.push(String(error)));
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()) && !message.text().includes("GPU stall")) trouble.push(message.text());
    });
    await page.goto(`http://127.0.0.1:${server.address().port}/pages/${name}`);
    await page.waitForFunction("window.result").catch(async (error) => {
      throw new Error(`${name}: ${error.message}\n${JSON.stringify([await page.evaluate("window.seen"), trouble])}`);
    });
    await page.screenshot({ path: join(folder, `${basename(name, ".html")}.png`) });
    results.push({ ...(await page.evaluate("window.result")), trouble });
    await page.close();
  }
} finally {
  await browser.close();
  server.close();
}
process.stdout.write(JSON.stringify(results));
