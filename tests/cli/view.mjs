// Use the page of `avaturn view` in headless Chromium: `node view.mjs URL FOLDER` walks through it by keyboard, saves
// screenshots in FOLDER, and prints what it saw as JSON. The second page is opened without WebGL.
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";

const [url, folder] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(join(process.env.AVATURN_NODE_MODULES, "playwright-core"));
const common = [
  "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync",
  "--disable-gpu-watchdog", // which would end the WebGL context of a busy machine without a GPU
];

async function open(args, look) {
  const browser = await chromium.launch({ executablePath: process.env.AVATURN_CHROMIUM, args: [...common, ...args] });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
    page.setDefaultTimeout(240_000); // without a GPU, and perhaps on a busy machine
    const trouble = [];
    page.on("pageerror", (error) => trouble.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error") trouble.push(message.text());
    });
    try {
      await page.goto(url);
      return { ...(await look(page)), trouble };
    } catch (error) {
      const state = await page.evaluate(() => {
        const viewer = document.querySelector("model-viewer");
        const { loaded, modelIsVisible } = viewer ?? {};
        const theta = viewer?.getCameraOrbit?.().theta;
        return { page: location.href, focus: document.activeElement?.tagName, loaded, modelIsVisible, theta };
      });
      throw new Error(`${error.message}\n${JSON.stringify({ ...state, trouble })}`);
    }
  } finally {
    await browser.close();
  }
}

const turned = await open(["--use-angle=swiftshader", "--enable-unsafe-swiftshader"], async (page) => {
  const orbit = () => page.evaluate(() => document.querySelector("model-viewer").getCameraOrbit().theta);
  // A loaded model is covered by a poster, which takes the keys, until its first frames are drawn.
  await page.waitForFunction(() => document.querySelector("model-viewer").modelIsVisible);
  const stops = [];
  for (let presses = 0; presses < 6; presses++) {
    await page.keyboard.press("Tab");
    stops.push(await page.evaluate(() => document.activeElement.tagName));
    if (stops.at(-1) === "MODEL-VIEWER") break;
  }
  const before = await orbit();
  for (let presses = 0; presses < 5; presses++) await page.keyboard.press("ArrowRight");
  await page.waitForFunction(
    (theta) => Math.abs(document.querySelector("model-viewer").getCameraOrbit().theta - theta) > 0.2, before,
  );
  await page.screenshot({ path: join(folder, "view.png") });
  return { stops };
});
const flat = await open(["--disable-gpu", "--disable-3d-apis"], async (page) => {
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/1");
  await page.screenshot({ path: join(folder, "flat.png") });
  return { heading: await page.textContent("h1"), facts: await page.textContent("table") };
});
process.stdout.write(JSON.stringify({ turned, flat }));
