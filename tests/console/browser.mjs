// The browser and the servers that the console's tests and screenshots use.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const APP = "support-summarizer";
export const WIDE = { width: 1280, height: 900 };
export const NARROW = { width: 390, height: 844 };

const BINARY = process.env.FLYWHEEL_BINARY;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

export function launch() {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** Starts `flywheel` with arguments and waits until it listens. */
async function start(args, options = {}) {
  const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let output = "";
  const address = await new Promise((resolve, reject) => {
    const read = (chunk) => {
      output += chunk;
      const found = output.match(/listening on (http:\/\/\S+),/);
      if (found) resolve(found[1]);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("exit", (code) => reject(new Error(`flywheel ended with ${code}:\n${output}`)));
  });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { address, stop };
}

/** The demo, with its week of history. `callsPerMinute` simulated users call it. */
export function startDemo(callsPerMinute = 40, further = []) {
  return start(["demo", "--listen", "127.0.0.1:0", "--calls-per-minute", String(callsPerMinute), ...further]);
}

/** A server with nothing in it. */
export async function startEmpty() {
  const folder = await mkdtemp(join(tmpdir(), "flywheel-console-"));
  const server = await start(["serve", "--listen", "127.0.0.1:0", "--data", join(folder, "data")], { cwd: folder });
  return {
    ...server,
    stop: async () => {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A small real model behind OpenAI's API. */
export async function startModel() {
  const script = new URL("../../xtask/e2e/model_server.py", import.meta.url).pathname;
  const child = spawn(process.env.PYTHON, [script, "--until-stdin-closes"], { stdio: ["pipe", "pipe", "ignore"] });
  let output = "";
  const address = await new Promise((resolve, reject) => {
    child.stdout.on("data", (chunk) => {
      output += chunk;
      const found = output.match(/^listening (http:\/\/\S+)$/m);
      if (found) resolve(found[1]);
    });
    child.on("exit", (code) => reject(new Error(`the model ended with ${code}:\n${output}`)));
  });
  const ended = new Promise((resolve) => child.on("exit", resolve));
  return {
    address,
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

async function send(address, path, body) {
  const response = await fetch(address + path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
  return response.json();
}

/** Users of an app call once each and say whether their task was completed: a share of those in each arm. */
export async function simulateUsers(address, { app, experiment, prefix = "user", counts, completed }) {
  const calls = [];
  const outcomes = [];
  for (const [arm, count] of Object.entries(counts)) {
    for (let number = 0; number < count; number++) {
      const id = `${experiment ?? app}-${arm}-${prefix}-${number}`;
      const of = experiment ? { experiment, arm } : {};
      calls.push({ id, app, environment: "production", user: id, ...of, latency_ms: 300 + ((number * 37) % 400), usage: { input_tokens: 100, output_tokens: 20 + (number % 10) } });
      // Spread evenly, so that the share is exact and the test never unlucky.
      outcomes.push({ call_id: id, app, kind: "outcome", name: "task_completed", value: Math.floor((number + 1) * completed[arm]) > Math.floor(number * completed[arm]) });
    }
  }
  for (const [path, pieces] of [["/api/v1/calls", calls], ["/api/v1/feedback", outcomes]]) {
    for (let at = 0; at < pieces.length; at += 200) await send(address, path, pieces.slice(at, at + 200));
  }
}

/** An app of its own that serves a version, and whose users were there before. */
export async function startApp(address, app) {
  await fetch(`${address}/api/v1/apps/${app}`, { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify({ description: "an app with an experiment" }) });
  await send(address, `/api/v1/apps/${app}/deploy`, { environment: "production", prompt: "support/summary", version: "1", reason: "first version" });
  await simulateUsers(address, { app, counts: { before: 1000 }, completed: { before: 0.6 } });
}

/** An experiment that has begun. */
export async function startExperiment(address, app, name, plan = {}) {
  const arm = (name, version) => ({ name, prompt: "support/summary", version, weight: 5000 });
  const arms = [arm("control", "1"), arm("shorter", "2")];
  await send(address, "/api/v1/experiments", { name, app, hypothesis: "two sentences are enough", arms, plan: { primary: "task_completed", mde: { absolute: 0.1 }, minimum_days: 0, ...plan } });
  await send(address, `/api/v1/experiments/${name}/start`, null);
}

/** Experiments in other states than the demo's: one with a verdict, one whose numbers may not be used, and a draft. */
export async function furnishExperiments(address) {
  const about = { "with-a-verdict": { control: 1200, shorter: 1200 }, "with-a-broken-split": { control: 1200, shorter: 700 } };
  for (const [name, counts] of Object.entries(about)) {
    await startApp(address, `app-${name}`);
    await startExperiment(address, `app-${name}`, name);
    await simulateUsers(address, { app: `app-${name}`, experiment: name, counts, completed: { control: 0.6, shorter: 0.75 } });
  }
  const plan = { primary: "task_completed", mde: { absolute: 0.1 } };
  const arms = ["1", "2"].map((version) => ({ name: `v${version}`, prompt: "support/summary", version, weight: 5000 }));
  await send(address, "/api/v1/experiments", { name: "a-draft", app: "app-with-a-verdict", arms, plan });
}

/** Every page of a server that has data, by a name for it. */
export async function pagesOf(address) {
  const calls = await (await fetch(`${address}/api/v1/calls?limit=1&app=${APP}`)).json();
  const pages = {
    overview: "/",
    app: `/apps/${APP}?environment=production`,
    deploy: `/apps/${APP}/deploy?environment=production&prompt=support%2Fsummary&version=1`,
    rollback: `/apps/${APP}/rollback?environment=production`,
    prompts: "/prompts",
    prompt: "/prompts/support%2Fsummary",
    "prompt-side": "/prompts/support%2Fsummary?version=3&against=1&view=side",
    playground: "/playground?prompt=support%2Fsummary",
    calls: "/calls",
    "calls-filtered": "/calls?status=provider_error",
    sessions: "/sessions",
    users: "/users",
    feedback: "/feedback",
    experiments: "/experiments",
    experiment: "/experiments/shorter-summaries",
    "experiment-verdict": "/experiments/with-a-verdict",
    "experiment-void": "/experiments/with-a-broken-split",
    "experiment-draft": "/experiments/a-draft",
    "experiment-new": "/experiments/new?app=app-with-a-verdict",
    "experiment-change": "/experiments/shorter-summaries/change",
    promote: "/experiments/with-a-verdict/promote",
    "promote-regardless": "/experiments/shorter-summaries/promote?arm=shorter",
    calculator: "/calculator",
    "calculator-means": "/calculator?of=means&units_per_day=20",
    models: "/models",
    settings: "/settings",
    audit: "/audit?verify=true",
    "audit-filtered": "/audit?action=deploy&since=2020-01-01",
    problem: "/calls/nothing",
    search: "/search?q=sup",
  };
  const [call] = calls.items;
  if (call) {
    pages.call = `/calls/${call.id}`;
    pages.user = `/users/${encodeURIComponent(call.unit)}`;
    pages.session = `/sessions/${encodeURIComponent(call.session)}`;
  }
  return pages;
}

/** Every page of a server that has nothing. */
export const EMPTY_PAGES = {
  overview: "/",
  prompts: "/prompts",
  playground: "/playground",
  calls: "/calls",
  sessions: "/sessions",
  users: "/users",
  feedback: "/feedback",
  experiments: "/experiments",
  "experiment-new": "/experiments/new",
  calculator: "/calculator?base=x",
  models: "/models",
  settings: "/settings",
  audit: "/audit",
  problem: "/calls/nothing",
};
