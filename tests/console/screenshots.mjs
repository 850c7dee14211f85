// Writes every page in both themes and widths, full and empty, into the folder that is named as the argument.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { EMPTY_PAGES, NARROW, WIDE, furnishExperiments, launch, pagesOf, startDemo, startEmpty } from "./browser.mjs";

const folder = process.argv[2];
const browser = await launch();

async function shoot(kind, address, pages) {
  for (const theme of ["light", "dark"]) {
    for (const [width, viewport] of Object.entries({ wide: WIDE, narrow: NARROW })) {
      const context = await browser.newContext({ viewport, colorScheme: theme });
      const page = await context.newPage();
      const into = join(folder, `${kind}-${theme}-${width}`);
      await mkdir(into, { recursive: true });
      for (const [name, path] of Object.entries(pages)) {
        await page.goto(address + path);
        await page.screenshot({ path: join(into, `${name}.png`), fullPage: true });
      }
      await context.close();
    }
  }
}

const demo = await startDemo(120);
await furnishExperiments(demo.address);
await shoot("full", demo.address, await pagesOf(demo.address));
await demo.stop();
const empty = await startEmpty();
await shoot("empty", empty.address, EMPTY_PAGES);
await empty.stop();
await browser.close();
console.log(`written to ${folder}`);
