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

/** Every page of a server that has data, by a name for it. */
export async function pagesOf(address) {
  const calls = await (await fetch(`${address}/api/v1/calls?limit=1`)).json();
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
  models: "/models",
  settings: "/settings",
  audit: "/audit",
  problem: "/calls/nothing",
};
