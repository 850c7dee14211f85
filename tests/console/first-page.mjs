// Opens the console of a server and returns once the first page shows the example app with its charts.

import { APP, WIDE, launch } from "./browser.mjs";

const browser = await launch();
const page = await (await browser.newContext({ viewport: WIDE })).newPage();
await page.goto(process.argv[2]);
await page.getByRole("link", { name: APP }).first().waitFor();
await page.locator("svg").first().waitFor();
await browser.close();
