// The console in a real browser: what an on-call engineer does, and what must hold on every page.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test as define } from "node:test";
import { APP, EMPTY_PAGES, NARROW, WIDE, furnishExperiments, launch, pagesOf, simulateUsers, startApp, startDemo, startEmpty, startModel } from "./browser.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A test that hangs fails by its name. */
const test = (name, body) => define(name, { timeout: 300_000 }, body);

let browser;
let demo;

before(async () => {
  browser = await launch();
  demo = await startDemo(120);
});

after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** Opens a page that fails the test when anything goes wrong on it, or when it asks another host for something. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: WIDE, ...options });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    // A refusal that a test provokes is logged by the browser too.
    if (message.type() === "error" && !message.text().includes("status of 4")) problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["127.0.0.1", ""].includes(url.hostname)) problems.push(`asked ${url.href}`);
  });
  return {
    page,
    close: async () => {
      await context.close();
      assert.deepEqual(problems, []);
    },
  };
}

async function violations(page) {
  // As a function of the test, not as a script of the page, which the content security policy keeps out.
  await page.evaluate(AXE);
  const result = await page.evaluate(() => window.axe.run(document));
  return result.violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.target).join(", ")}`);
}

/** Tags that lie over each other, where both are seen. */
function overlappingTags() {
  const boxes = [...document.querySelectorAll(".tag")]
    .filter((tag) => tag.checkVisibility())
    .map((tag) => ({ text: tag.textContent, box: tag.getBoundingClientRect() }));
  const lieOver = (one, other) =>
    Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
    Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1;
  return boxes.flatMap(({ text, box }, place) =>
    boxes.slice(place + 1).filter((other) => lieOver(box, other.box)).map((other) => `${text} and ${other.text}`));
}

async function checkPages(address, pages) {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [WIDE, NARROW]) {
      const { page, close } = await open({ colorScheme, viewport });
      for (const [name, path] of Object.entries(pages)) {
        const answer = await page.goto(address + path);
        const where = `${name}, ${colorScheme}, ${viewport.width} px`;
        // A page that says that there is none would pass all else.
        assert.equal(answer.status() === 404, name === "problem", where);
        assert.deepEqual(await violations(page), [], where);
        const width = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(width <= viewport.width, `${where}: the page is ${width} px wide`);
        assert.deepEqual(await page.evaluate(overlappingTags), [], where);
      }
      await close();
    }
  }
}

test("every page is accessible, fits, and keeps to itself", async () => {
  await furnishExperiments(demo.address);
  await checkPages(demo.address, await pagesOf(demo.address));
});

test("so is every empty page", async (t) => {
  const empty = await startEmpty();
  t.after(empty.stop);
  await checkPages(empty.address, EMPTY_PAGES);
});

test("the bad version is found and taken back with the keyboard alone", async () => {
  const { page, close } = await open();
  await page.goto(demo.address);
  const concern = page.getByRole("alert");
  await concern.waitFor();
  assert.match(await concern.innerText(), /support\/summary@3, deployed by ops \(#\d+\), is rated lower than support\/summary@2/);
  await page.keyboard.press("Control+k");
  await page.getByRole("combobox", { name: "Go anywhere" }).waitFor();
  await page.keyboard.type(APP.slice(0, 7));
  await page.locator("#palette-hits[aria-busy=false]").waitFor();
  const hits = await page.getByRole("option").allInnerTexts();
  const place = hits.findIndex((hit) => hit.replace(/\s+/g, " ") === `app ${APP}`);
  assert.ok(place >= 0, hits.join("\n"));
  for (let step = 0; step < place; step++) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForURL(`**/apps/${APP}`);
  await page.keyboard.press("r");
  await page.waitForURL("**/rollback?*");
  await page.getByText("support/summary@3 → support/summary@2").waitFor();
  assert.match(await page.locator("main").innerText(), /Stops the experiment shorter-summaries/);
  await page.keyboard.type("users dislike it");
  await page.keyboard.press("Enter");
  await page.getByRole("status").waitFor();
  assert.match(await page.getByRole("status").first().innerText(), /is in force/);
  const timeline = page.getByRole("table").last();
  assert.match(await timeline.innerText(), /rollback[\s\S]*users dislike it/);
  const answer = await fetch(`${demo.address}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: `flywheel/${APP}`, messages: [], flywheel: { variables: { ticket: "one two" } } }),
  });
  const app = await (await fetch(`${demo.address}/api/v1/apps/${APP}`)).json();
  const current = app.current.find((deployment) => deployment.environment === "production");
  assert.equal((await answer.json()).flywheel.manifest, current.manifest);
  await close();
});

test("a version is deployed, and of two who do so at once one is told and keeps what was typed", async () => {
  const [one, other] = [await open(), await open()];
  for (const { page } of [one, other]) {
    await page.goto(`${demo.address}/apps/${APP}`);
    await page.getByRole("link", { name: "Deploy…" }).click();
    await page.getByLabel("Prompt").selectOption("support/summary");
    await page.getByLabel("Version").selectOption("1");
    await page.getByRole("button", { name: "Deploy support/summary@1" }).waitFor();
  }
  await one.page.getByLabel("Why").fill("first of two");
  await one.page.getByRole("button", { name: "Deploy support/summary" }).click();
  await one.page.getByText("is in force").waitFor();
  await other.page.getByLabel("Why").fill("second of two");
  await other.page.getByRole("button", { name: "Deploy support/summary" }).click();
  const alert = other.page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.innerText(), /does not serve .* any more; .* first of two/);
  await other.page.getByText("This is deployed already.").waitFor();
  await one.close();
  await other.close();
});

test("a call is found by its text, rated and corrected", async () => {
  const { page, close } = await open();
  const ticket = "The zebra of order 77 is purple.";
  await fetch(`${demo.address}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: `flywheel/${APP}`, messages: [], user: "finder", flywheel: { variables: { ticket } } }),
  });
  await page.goto(`${demo.address}/calls`);
  await page.getByLabel("Text").fill("zebra of order 77");
  await page.getByRole("button", { name: "Filter" }).click();
  const row = page.getByRole("row").nth(1);
  assert.match(await row.innerText(), /finder/);
  await row.getByRole("link").first().click();
  await page.getByRole("heading", { name: "Answer" }).waitFor();
  await page.getByLabel("2", { exact: true }).check();
  await page.getByLabel("Comment").fill("not purple");
  await page.getByText("Correct the answer").click();
  await page.getByLabel("As it should have been").fill("The zebra is striped.");
  await page.getByRole("button", { name: "Send feedback" }).click();
  await page.getByText("2 of 5").waitFor();
  const opinions = await page.locator(".opinions").innerText();
  assert.match(opinions, /not purple/);
  assert.match(opinions, /The zebra is striped\./);
  await close();
});

test("a version is edited, tried on a real model beside another, and saved", async (t) => {
  const model = await startModel();
  const own = await startDemo(1, ["--provider-url", `${model.address}/v1`, "--model", "smollm2-135m-instruct"]);
  t.after(async () => {
    await own.stop();
    await model.stop();
  });
  const { page, close } = await open();
  const ticket = "The invoice of May was charged twice.";
  const made = await fetch(`${own.address}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: `flywheel/${APP}`, messages: [], user: "player", flywheel: { variables: { ticket } } }),
  });
  await page.goto(`${own.address}/calls/${(await made.json()).id}`);
  await page.getByRole("link", { name: "Play again" }).click();
  assert.equal(await page.getByRole("textbox", { name: "ticket", exact: true }).inputValue(), ticket);
  const text = page.getByRole("textbox", { name: "Prompt file" });
  const original = await text.inputValue();

  await text.fill(original.replace("# user", "# usr"));
  await page.getByRole("button", { name: "Run" }).click();
  assert.match(await page.getByRole("alert").innerText(), /line \d+, column 1: `# usr` is no heading; write `# user`/);
  assert.equal(await page.getByRole("textbox", { name: "ticket", exact: true }).inputValue(), ticket);

  await text.fill(original.replace("# user", "# user\nIn {language}:"));
  await page.getByRole("button", { name: "Run" }).click();
  assert.match(await page.getByRole("alert").innerText(), /`variables_schema` describes no `language`/);

  await text.fill(original.replace("# user", "# user\nPlease:"));
  await page.getByLabel("against").selectOption("1");
  await text.press("Control+Enter");
  const outcomes = page.locator(".outcome");
  await outcomes.nth(1).waitFor();
  for (const place of [0, 1]) {
    assert.notEqual((await outcomes.nth(place).locator("pre").innerText()).trim(), "");
    assert.match(await outcomes.nth(place).locator("h2").innerText(), /\d+ \+ \d+ tokens/);
  }
  assert.deepEqual(await violations(page), []);

  await page.getByRole("button", { name: "Save as a new version" }).click();
  assert.match(await page.getByRole("alert").innerText(), /say what changed and why/);
  await page.getByLabel("What changed, and why").fill("asks politely");
  await page.getByRole("button", { name: "Save as a new version" }).click();
  await page.waitForURL("**/prompts/support%2Fsummary?version=4&saved=true");
  assert.match(await page.locator("main").innerText(), /asks politely/);
  await page.getByRole("link", { name: `Deploy @4 to ${APP}, production…` }).click();
  await page.getByRole("button", { name: "Deploy support/summary@4" }).waitFor();
  await close();
});

test("a table is sorted, keeps that in its address, and is taken away", async () => {
  const { page, close } = await open();
  await page.goto(`${demo.address}/users`);
  const calls = async () => (await page.locator("tbody tr td:nth-child(3)").allInnerTexts()).map(Number);
  await page.getByRole("button", { name: "calls", exact: true }).click();
  await page.getByRole("button", { name: "calls", exact: true }).click();
  const sorted = await calls();
  assert.deepEqual(sorted, sorted.toSorted((one, other) => other - one));
  assert.ok(sorted[0] > sorted.at(-1));
  assert.match(page.url(), /[?]sort=-calls$/);
  await page.reload();
  assert.deepEqual((await calls())[0], sorted[0]);
  for (const [kind, check] of [["CSV", /^user,last call,calls/], ["JSON", /"calls": "\d+"/]]) {
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: kind, exact: true }).click()]);
    assert.equal(download.suggestedFilename(), `Users.${kind.toLowerCase()}`);
    assert.match(await readFile(await download.path(), "utf8"), check);
  }
  await close();
});

test("the audit log is filtered, and the address keeps the filters", async () => {
  const { page, close } = await open();
  await page.goto(`${demo.address}/audit`);
  await page.getByLabel("Did").fill("deploy");
  await page.getByLabel("To", { exact: true }).fill(APP);
  await page.getByRole("button", { name: "Filter" }).click();
  assert.match(page.url(), /[?&]action=deploy&subject=support-summarizer/);
  const actions = await page.locator("tbody td:nth-child(4)").allInnerTexts();
  assert.ok(actions.length > 0 && actions.every((action) => action.includes("deploy")), actions.join("\n"));
  assert.equal(await page.getByLabel("Did").inputValue(), "deploy");
  await page.getByRole("link", { name: "Clear" }).click();
  assert.ok((await page.locator("tbody tr").count()) > actions.length);
  await close();
});

test("a page that is not there keeps the navigation", async () => {
  const { page, close } = await open();
  await page.goto(`${demo.address}/calls/nothing`);
  assert.match(await page.locator("main").innerText(), /There is no call nothing/);
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Feedback" }).click();
  await page.getByRole("heading", { name: "Feedback", exact: true }).waitFor();
  await close();
});

test("feedback that says nothing is asked for again where it was to be given", async () => {
  const { page, close } = await open();
  const pages = await pagesOf(demo.address);
  await page.goto(demo.address + pages.call);
  await page.getByRole("button", { name: "Send feedback" }).click();
  const alert = page.locator("form.rate").getByRole("alert");
  assert.equal(await alert.innerText(), "Rate, comment or correct the answer first.");
  assert.deepEqual(await violations(page), []);
  await page.getByLabel("Comment").fill("now it does");
  await page.getByRole("button", { name: "Send feedback" }).click();
  await page.locator(".opinions").getByText("now it does").waitFor();
  await close();
});

test("an experiment is planned, started, watched and promoted", async () => {
  const { page, close } = await open();
  const app = "planned-app";
  await startApp(demo.address, app);
  await page.goto(`${demo.address}/experiments`);
  await page.getByRole("link", { name: "New experiment" }).click();
  await page.getByLabel("App").selectOption(app);
  await page.locator("select[name=app]").filter({ hasText: app }).waitFor();
  await page.waitForFunction((app) => document.querySelector("select[name=app] option[selected]")?.value === app, app);
  await page.getByLabel("Name", { exact: true }).fill("two-sentences");
  await page.getByLabel("What you expect").fill("two sentences are enough");
  assert.equal(await page.getByLabel("what arm 1 serves").inputValue(), "support/summary@1");
  await page.getByLabel("what arm 2 serves").fill("support/summary@2");
  await page.getByLabel("Primary metric").selectOption("task_completed");
  const planned = page.locator("#planned");
  await page.getByLabel("smallest effect that matters", { exact: true }).fill("10");
  // The plan follows while one types, and says what was typed in both ways.
  await planned.getByText("10 points absolute, 16.7% of 60.0%").waitFor();
  await page.getByLabel("per cent of the control", { exact: true }).check();
  await planned.getByText("10% relative, 6 points on 60.0%").waitFor();
  await page.getByLabel("points, or the metric’s own unit").check();
  await page.getByLabel("Full days at least").fill("zero");
  await planned.getByRole("alert").getByText("The number of days must be a number, not zero").waitFor();
  assert.deepEqual(await violations(page), []);
  await page.getByRole("button", { name: "Save the draft" }).click();
  await page.getByRole("alert").waitFor();
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "two-sentences");
  await page.getByLabel("Full days at least").fill("0");
  await page.getByRole("button", { name: "Save the draft" }).click();
  await page.getByText("Not started.").waitFor();
  await page.getByRole("button", { name: "Start it" }).click();
  await page.getByRole("heading", { name: "Collecting." }).waitFor();

  const experiment = "two-sentences";
  const completed = { control: 0.6, candidate: 0.75 };
  await simulateUsers(demo.address, { app, experiment, prefix: "early", counts: { control: 40, candidate: 40 }, completed });
  await page.reload();
  await page.getByRole("heading", { name: "Collecting." }).waitFor();
  assert.equal(await page.getByRole("link", { name: "Promote candidate…" }).count(), 0);
  await simulateUsers(demo.address, { app, experiment, prefix: "late", counts: { control: 1200, candidate: 1200 }, completed });
  await page.reload();
  await page.getByRole("heading", { name: "candidate is better." }).waitFor();
  await page.keyboard.press("p");
  await page.getByText("support/summary@1 → support/summary@2").waitFor();
  assert.deepEqual(await violations(page), []);
  await page.keyboard.type("15 points more");
  await page.keyboard.press("Enter");
  await page.getByText("is in force").waitFor();
  assert.match(await page.getByRole("table").last().innerText(), /promote[\s\S]*15 points more/);
  await page.goto(`${demo.address}/experiments?status=stopped`);
  await page.getByRole("link", { name: experiment }).click();
  await page.getByText("Arm candidate was promoted").waitFor();
  await page.getByRole("link", { name: "The deployment that made" }).click();
  await page.waitForURL(`**/apps/${app}?environment=production`);
  await close();
});

test("an experiment is planned and stopped without JavaScript", async () => {
  const { page, close } = await open({ javaScriptEnabled: false });
  const app = "plain-app";
  await startApp(demo.address, app);
  await page.goto(`${demo.address}/experiments/new`);
  await page.getByLabel("App").selectOption(app);
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByRole("button", { name: "Another arm" }).click();
  await page.getByLabel("Name", { exact: true }).fill("plain");
  await page.getByLabel("what arm 2 serves").fill("support/summary@2");
  await page.getByLabel("Primary metric").selectOption("task_completed");
  await page.getByLabel("smallest effect that matters", { exact: true }).fill("10");
  await page.getByRole("button", { name: "Plan", exact: true }).click();
  await page.locator("#planned").getByText("10 points absolute, 16.7% of 60.0%").waitFor();
  await page.getByRole("button", { name: "Save the draft" }).click();
  await page.getByRole("button", { name: "Start it" }).click();
  await page.getByText("Stop…").click();
  await page.getByLabel("Why").fill("only a test");
  await page.getByRole("button", { name: "Stop plain" }).click();
  await page.getByText("Stopped by").waitFor();
  await close();
});

test("on a phone lists need no scrolling sideways, and tables that do say so", async () => {
  const { page, close } = await open({ viewport: NARROW });
  for (const path of ["/calls", "/audit", "/feedback", "/experiments", `/apps/${APP}`]) {
    await page.goto(demo.address + path);
    const overflows = await page.locator(".scroll:has(.flow)").evaluateAll((boxes) => boxes.map((box) => box.scrollWidth - box.clientWidth));
    assert.ok(overflows.length > 0 && overflows.every((overflow) => overflow <= 0), `${path}: ${overflows}`);
  }
  await page.goto(`${demo.address}/feedback`);
  const table = page.getByRole("group", { name: "A table that scrolls sideways" }).first();
  const hint = page.getByText("more to the right").first();
  assert.ok(await hint.isVisible());
  await table.evaluate((box) => box.scrollTo(box.scrollWidth, 0));
  await hint.waitFor({ state: "hidden" });
  await close();
});

test("two versions are compared", async () => {
  const { page, close } = await open();
  await page.goto(`${demo.address}/prompts/support%2Fsummary`);
  await page.getByRole("link", { name: "Compare with @1" }).click();
  await page.getByRole("heading", { name: "@1 → @3" }).waitFor();
  await page.getByRole("link", { name: "Show @2" }).click();
  await page.getByRole("heading", { name: "@1 → @2" }).waitFor();
  assert.match(await page.locator("mark").first().innerText(), /Begin with what the customer asks for/);
  await page.getByRole("link", { name: "side by side" }).click();
  await page.locator(".sides").first().waitFor();
  await close();
});

test("the live tail shows new calls, and says when the connection is lost", async (t) => {
  const own = await startDemo(600);
  t.after(own.stop);
  // The connection that is lost is logged by the browser as an error, which it is.
  const { page } = await open();
  await page.goto(`${own.address}/calls`);
  await page.getByRole("button", { name: "Live" }).click();
  await page.locator("tr.fresh").first().waitFor();
  const shown = await page.locator("table.calls tbody tr").count();
  await own.stop();
  await page.getByText(/The connection was lost|The live tail ended/).waitFor();
  assert.ok((await page.locator("table.calls tbody tr").count()) >= shown);
  await page.context().close();
});

test("what a model answers is shown and does nothing", async () => {
  const { page, close } = await open();
  const hostile = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>\u202Egnihtemos\u001b[31m javascript:alert(1) " + "x".repeat(30);
  const long = "y".repeat(5_000_000);
  const logged = await fetch(`${demo.address}/api/v1/calls`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify([
      { app: APP, id: "hostile", unit: hostile.slice(0, 100), output: hostile, messages: [{ role: "user", content: hostile }] },
      { app: APP, id: "long", output: long, messages: [{ role: "user", content: long }] },
    ].map(({ unit, ...call }) => ({ ...call, user: unit }))),
  });
  assert.equal(logged.status, 201, await logged.text());
  for (const path of ["/calls", `/calls/${APP}:hostile`, `/calls/${APP}:long`, "/search?q=%3Cscript%3Ealert(1)%3C/script%3E"]) {
    await page.goto(demo.address + path);
    assert.equal(await page.evaluate(() => window.hit), undefined, path);
  }
  await page.goto(`${demo.address}/calls/${APP}:hostile`);
  const text = await page.locator("main").innerText();
  assert.ok(text.includes("<script>window.hit=1</script>"));
  assert.ok(text.includes("U+202E") && text.includes("U+001B"));
  await page.goto(`${demo.address}/calls/${APP}:long`);
  assert.match(await page.locator("main").innerText(), /4,980,000 more characters/);
  await close();
});

test("with keys: signing in, a session that ends in a form, a key that is revoked in use", async (t) => {
  const own = await startDemo(1);
  t.after(own.stop);
  const { page, close } = await open();
  await page.goto(`${own.address}/settings`);
  await page.getByLabel("Name").fill("ops");
  await page.getByRole("button", { name: "Make a key" }).click();
  const admin = await page.locator(".secret").innerText();
  await page.getByRole("link", { name: "Sign in with it" }).click();
  await page.getByLabel("Key").fill("fw_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This key is not known").waitFor();
  await page.getByLabel("Key").fill(admin);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.goto(`${own.address}/settings`);
  await page.getByLabel("Name").fill("second");
  await page.getByLabel("Role").selectOption("editor");
  await page.getByRole("button", { name: "Make a key" }).click();
  const editor = await page.locator(".secret").innerText();

  const second = await open();
  await second.page.goto(`${own.address}/apps/${APP}/rollback`);
  assert.match(second.page.url(), /\/signin\?next=/);
  await second.page.getByLabel("Key").fill(editor);
  await second.page.getByRole("button", { name: "Sign in" }).click();
  await second.page.getByLabel("Why").fill("typed before the session ended");
  await second.page.context().clearCookies();
  await second.page.getByRole("button", { name: "Roll back to" }).click();
  await second.page.getByText("what you sent is kept").waitFor();
  await second.page.getByLabel("Key").fill(editor);
  await second.page.getByRole("button", { name: "Sign in" }).click();
  await second.page.getByText("typed before the session ended").waitFor();
  await second.page.getByRole("button", { name: "Do it now" }).click();
  await second.page.getByText("is in force").waitFor();

  await page.goto(`${own.address}/settings`);
  const row = page.getByRole("row", { name: /^second/ });
  await row.getByText("Revoke…").click();
  await row.getByRole("button", { name: "Revoke second" }).click();
  await page.getByText("revoked now").waitFor();
  await second.page.goto(`${own.address}/calls`);
  assert.match(second.page.url(), /\/signin\?next=/);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await second.close();
  await close();
});

test("everything works without JavaScript", async () => {
  const { page, close } = await open({ javaScriptEnabled: false });
  await page.goto(`${demo.address}/apps/${APP}/deploy?environment=production`);
  await page.getByLabel("Prompt").selectOption("support/summary");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByLabel("Version").selectOption("2");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByLabel("Why").fill("without scripts");
  await page.getByRole("button", { name: "Deploy support/summary@2" }).click();
  await page.getByText("is in force").waitFor();
  await close();
});
