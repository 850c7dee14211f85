// What the pages do beyond links and forms: the palette, keys, copying, the live tail. Everything works without it.
"use strict";

const isTyping = (element) => element.closest("input, textarea, select, [contenteditable]") !== null;

// -- Copying ids ------------------------------------------------------------------------------------------------------

for (const element of document.querySelectorAll("[data-copy]")) {
  element.tabIndex = 0;
  element.setAttribute("role", "button");
  element.setAttribute("aria-label", `Copy ${element.textContent}`);
  const copy = async () => {
    const whole = element.title.length > element.textContent.length ? element.title : element.textContent;
    await navigator.clipboard.writeText(whole.trim());
    element.classList.add("copied");
    setTimeout(() => element.classList.remove("copied"), 1500);
  };
  element.addEventListener("click", copy);
  element.addEventListener("keydown", (event) => event.key === "Enter" && copy());
}

// -- Tables: sorted by a column, which the URL keeps, and taken away as CSV or JSON --------------------------------------

/** What a cell is sorted by: its time, its number with the unit's weight, or its text. */
function sortKey(cell) {
  const time = cell.querySelector("time");
  if (time) return Date.parse(time.dateTime);
  const text = cell.textContent.trim();
  const found = text.match(/^[#@$]?(-?[\d,]*\.?\d+) ?(µs|ms|s|min|h|d|%)?$/);
  if (!found) return text.toLowerCase();
  const weight = { µs: 1e-6, ms: 1e-3, min: 60, h: 3600, d: 86400 }[found[2]] ?? 1;
  return Number(found[1].replaceAll(",", "")) * weight;
}

function sortTable(table, column, isDescending) {
  const order = (left, right) => {
    const [one, other] = [sortKey(left.cells[column]), sortKey(right.cells[column])];
    if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
    return (one < other ? -1 : one > other ? 1 : 0) * (isDescending ? -1 : 1);
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  [...table.tHead.rows[0].cells].forEach((heading, place) => {
    if (place === column) heading.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  });
}

/** What is shown, as people read it, with times in full. */
function readTable(table) {
  const text = (cell) => cell.querySelector("time")?.dateTime ?? cell.textContent.trim().replace(/\s+/g, " ");
  const names = [...table.tHead.rows[0].cells].map(text);
  return [...table.tBodies[0].rows].map((row) => Object.fromEntries([...row.cells].map((cell, place) => [names[place] || `column ${place + 1}`, text(cell)])));
}

function toCsv(rows) {
  // As the server writes it: spreadsheets run what begins like a formula.
  const field = (value) => (/^[=+\-@\t\r]/.test(value) ? `"'${value.replaceAll('"', '""')}"` : /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = [Object.keys(rows[0] ?? {}), ...rows.map(Object.values)];
  return lines.map((line) => line.map(field).join(",") + "\r\n").join("");
}

const tables = [...document.querySelectorAll("main table:not(.fields)")].filter((table) => table.tHead && table.tBodies[0]?.rows.length > 1);

tables.forEach((table, number) => {
  const name = tables.length > 1 ? `sort${number + 1}` : "sort";
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if (heading.textContent.trim() === "") return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const isDescending = heading.getAttribute("aria-sort") === "ascending";
      sortTable(table, column, isDescending);
      const address = new URL(location.href);
      address.searchParams.set(name, (isDescending ? "-" : "") + heading.textContent.trim());
      history.replaceState(null, "", address);
    });
  });
  const kept = new URL(location.href).searchParams.get(name) ?? "";
  const column = headings.findIndex((heading) => heading.textContent.trim() === kept.replace(/^-/, ""));
  if (kept && column >= 0) sortTable(table, column, kept.startsWith("-"));
  if (table.hasAttribute("data-exported")) return;
  const tools = document.createElement("p");
  tools.className = "tools";
  for (const [label, type, write] of [["CSV", "text/csv", toCsv], ["JSON", "application/json", (rows) => JSON.stringify(rows, null, 2)]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = label;
    button.title = `What is shown, as ${label}`;
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([write(readTable(table))], { type }));
      link.download = `${document.title.split(" · ")[0]}.${label.toLowerCase()}`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    tools.append(button);
  }
  (table.closest(".scroll") ?? table).after(tools);
});

// -- The place in the navigation, which may lie beyond a phone's edge ------------------------------------------------------

const here = document.querySelector(".top nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;

// -- Tables that are wider than their place say so ------------------------------------------------------------------------

for (const box of document.querySelectorAll(".scroll")) {
  const hint = document.createElement("p");
  hint.className = "more";
  hint.textContent = "more to the right →";
  hint.hidden = true;
  box.before(hint);
  const look = () => {
    const isWider = box.scrollWidth > box.clientWidth + 1;
    hint.hidden = !isWider;
    hint.classList.toggle("seen", box.scrollLeft + box.clientWidth >= box.scrollWidth - 1);
    if (isWider) {
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "A table that scrolls sideways");
    }
  };
  new ResizeObserver(look).observe(box);
  box.addEventListener("scroll", look, { passive: true });
}

// -- The playground ---------------------------------------------------------------------------------------------------

const playground = document.querySelector("form#playground");

playground?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  playground.requestSubmit(playground.querySelector("[value=run]"));
});

// A model may take its time: the button says so, and is not pressed twice.
playground?.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button?.dataset.slow) return;
  const chosen = document.createElement("input");
  chosen.type = "hidden";
  chosen.name = button.name;
  chosen.value = button.value;
  playground.append(chosen);
  button.textContent = button.dataset.slow;
  button.disabled = true;
});

// -- A new experiment: the plan while one types ----------------------------------------------------------------------------

const draft = document.querySelector("form#new-experiment");

if (draft) {
  const planned = document.querySelector("#planned");
  let waiting = null;
  let asked = null;
  const plan = async () => {
    asked?.abort();
    asked = new AbortController();
    const fields = new URLSearchParams(new FormData(draft));
    fields.set("action", "fragment");
    // The form has buttons of that name, which hide its own `action`.
    const response = await fetch(draft.getAttribute("action"), { method: "POST", body: fields, signal: asked.signal }).catch(() => null);
    // The fragment comes from our own server, which escapes what was typed.
    if (response?.ok && !response.redirected) planned.innerHTML = await response.text();
  };
  draft.addEventListener("input", (event) => {
    if (event.target.matches("select[data-submit]")) return;
    clearTimeout(waiting);
    waiting = setTimeout(plan, 350);
  });
}

// -- Choices that show at once what they lead to ----------------------------------------------------------------------

for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => {
    // Another prompt has other versions.
    if (select.name === "prompt") select.form.querySelector("[name=version]")?.remove();
    select.form.requestSubmit();
  });
}

// -- The palette and the list of keys ---------------------------------------------------------------------------------

function openDialog(fill) {
  document.querySelector("dialog.palette")?.remove();
  const dialog = document.createElement("dialog");
  dialog.className = "palette";
  fill(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function openPalette() {
  openDialog((dialog) => {
    dialog.setAttribute("aria-label", "Go anywhere");
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "A page, app, prompt, experiment, id or text";
    input.setAttribute("aria-label", "Go anywhere");
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-expanded", "true");
    input.setAttribute("aria-controls", "palette-hits");
    const list = document.createElement("ul");
    list.id = "palette-hits";
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Where to");
    let chosen = 0;
    const choose = (index) => {
      chosen = Math.max(0, Math.min(index, list.children.length - 1));
      [...list.children].forEach((item, at) => {
        item.setAttribute("aria-selected", String(at === chosen));
        if (at === chosen) {
          input.setAttribute("aria-activedescendant", item.id);
          item.scrollIntoView({ block: "nearest" });
        }
      });
    };
    let latest = 0;
    // Enter goes where what was typed leads, not where the hits of an earlier text did.
    let isEntered = false;
    const enter = () => list.children[chosen]?.querySelector("a").click();
    const look = async () => {
      const number = ++latest;
      list.setAttribute("aria-busy", "true");
      const response = await fetch(`/search.json?q=${encodeURIComponent(input.value)}`).catch(() => null);
      const hits = response?.ok ? await response.json() : [];
      if (number !== latest) return;
      list.replaceChildren(...hits.map((hit, index) => {
        const item = document.createElement("li");
        item.id = `palette-hit-${index}`;
        item.setAttribute("role", "option");
        const link = document.createElement("a");
        link.href = hit.path;
        link.tabIndex = -1;
        const kind = document.createElement("span");
        kind.className = "tag";
        kind.textContent = hit.kind;
        link.append(kind, hit.name);
        item.append(link);
        return item;
      }));
      choose(0);
      list.setAttribute("aria-busy", "false");
      if (isEntered) enter();
      isEntered = false;
    };
    input.addEventListener("input", () => {
      isEntered = false;
      look();
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
      } else if (event.key === "Enter") {
        event.preventDefault();
        if (list.getAttribute("aria-busy") === "true") isEntered = true;
        else enter();
      }
    });
    dialog.append(input, list);
    look();
  }).querySelector("input").focus();
}

function openKeys() {
  openDialog((dialog) => {
    dialog.setAttribute("aria-label", "Keys");
    const heading = document.createElement("h2");
    heading.textContent = "Keys";
    const places = [...document.querySelectorAll("nav [data-key]")].map((link) => [`g ${link.dataset.key}`, link.textContent]);
    const here = [...document.querySelectorAll("main [data-key]")].map((link) => [link.dataset.key, link.textContent.replace(link.dataset.key, "").trim()]);
    const all = [["Ctrl K or /", "go anywhere"], ["j, k", "next or previous row"], ["Enter", "open the row"], ...here, ...places, ["?", "this list"]];
    const table = document.createElement("table");
    for (const [key, meaning] of all) {
      const row = table.insertRow();
      const name = document.createElement("kbd");
      name.textContent = key;
      row.insertCell().append(name);
      row.insertCell().textContent = meaning;
    }
    dialog.append(heading, table);
  });
}

// -- Keys -------------------------------------------------------------------------------------------------------------

let isGoing = false;

function moveRow(step) {
  const rows = [...document.querySelectorAll("table.rows tbody tr")];
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.classList.contains("chosen"));
  const next = Math.max(0, Math.min(at + step, rows.length - 1));
  rows[at]?.classList.remove("chosen");
  rows[next].classList.add("chosen");
  rows[next].scrollIntoView({ block: "nearest" });
  rows[next].querySelector("a")?.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    openPalette();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
  if (isGoing) {
    isGoing = false;
    document.querySelector(`nav [data-key="${CSS.escape(event.key)}"]`)?.click();
    return;
  }
  const own = event.key.length === 1 && document.querySelector(`main [data-key="${CSS.escape(event.key)}"]`);
  if (own) {
    own.click();
  } else if (event.key === "g") {
    isGoing = true;
  } else if (event.key === "/") {
    event.preventDefault();
    openPalette();
  } else if (event.key === "?") {
    openKeys();
  } else if (event.key === "j" || event.key === "k") {
    moveRow(event.key === "j" ? 1 : -1);
  }
});

// -- The live tail ----------------------------------------------------------------------------------------------------

const MOST_ROWS = 200;
const tail = document.querySelector("[data-tail]");

if (tail) {
  const table = document.querySelector("table.calls");
  const state = document.querySelector(".live-state");
  let source = null;
  const say = (text) => {
    state.hidden = text === "";
    state.textContent = text;
  };
  const stop = () => {
    source?.close();
    source = null;
    tail.setAttribute("aria-pressed", "false");
    say("");
  };
  const start = () => {
    source = new EventSource(tail.dataset.tail);
    tail.setAttribute("aria-pressed", "true");
    say("Live: new calls appear at the top.");
    source.addEventListener("open", () => say("Live: new calls appear at the top."));
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) {
        stop();
        say("The live tail ended; press Live to go on, or reload to sign in again.");
      } else {
        say("The connection was lost; trying again. What is shown stays.");
      }
    });
    source.addEventListener("calls", (event) => {
      // The rows come from our own server, which escapes what models and users wrote.
      const fresh = document.createElement("template");
      fresh.innerHTML = event.data;
      for (const row of fresh.content.querySelectorAll("tr")) row.classList.add("fresh");
      const body = table.tBodies[0];
      body.prepend(fresh.content);
      while (body.rows.length > MOST_ROWS) body.rows[body.rows.length - 1].remove();
      table.hidden = false;
      document.querySelector(".empty")?.remove();
    });
  };
  tail.hidden = false;
  tail.addEventListener("click", () => (source ? stop() : start()));
}
