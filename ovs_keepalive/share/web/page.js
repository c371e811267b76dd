// SPDX-License-Identifier: Apache-2.0
// The node's page: where its news come from, and when it draws. /api/events brings the whole document again and again;
// where there are too many viewers for that, the page asks for /api/node.json. What it cannot know to be new it does
// not show as new.

import { $, age, attributes, clock, facts, fill, instant, make, now, say, since, span, ticking, view } from "./text.js";
import { drawVerdict, drawWord, isStale } from "./verdict.js";
import { cellLength, drawTable, keepStrip, takeStrip, tickTable, toggle } from "./table.js";

const VERSION = 1; // of the documents
const POLL_MS = 5000;
const HALF_OPEN_MS = 5000; // without news on a connection of which nobody says that it is lost
const RETRY_MS = 30000; // between two tries to get a place among the live viewers
const STRIP_RETRY_MS = 2000;
const TURN_MS = 250;
const LATER = ["breaks", "ports", "offload"]; // shown where there is something of them to tell

const percent = (part) => `${(100 * part).toFixed(1)} %`;
const READ = { at: clock, since: clock, share: percent, best: percent, efficiency: percent }; // numbers, by their keys

let source = null; // the stream of events
let listened = -Infinity; // when it was last asked for
let polled = -Infinity; // when the document was
let stripDue = true;
let stripAsked = -Infinity;

// --- drawing -----------------------------------------------------------------------------------------

function draw() {
  const { node } = view;
  keepStrip();
  drawVerdict();
  drawTable();
  drawVswitchd(node.vswitchd);
  fill($("transitions"), node.transitions, () => node.transitions.map(transition).reverse());
  fill($("blind"), node.blind, () => (node.blind.length ? node.blind : ["nothing"]).map((why) => make("li", "", why)));
  const pairs = [
    ...Object.entries(node.daemon),
    ["interval", `${node.interval_ms} ms, effective ${node.effective_interval_ms} ms`],
    ["looks", `${node.cost.looks}, ${node.cost.looks_failed} failed`],
    ["own blind time", span(node.cost.own_blind_ms)],
  ];
  fill($("daemon"), pairs, () => facts(pairs));
  const later = LATER.filter((key) => Object.keys(node[key] ?? {}).length);
  fill($("later"), later.map((key) => node[key]), () => later.map((key) => section(key, node[key])));
}

function drawVswitchd(vswitchd) {
  const { state, pid, since: from, silent_ms: silent, witness, culprit, warnings, threads } = vswitchd;
  fill($("vswitchd-facts"), vswitchd, () => facts([
    ["State", make("span", "state", state)],
    ["Process", pid === null ? "none" : pid],
    ["Since", from ? make("span", "", clock(from), ", for ", ticking(from)) : "not known"],
    ["Main thread", silent ? `silent for ${span(silent)}: PMDs are judged by /proc alone` : "owes no answer"],
    ["Seen", witness || "nothing to say"],
    ["Held up by", culprit || "no PMD"],
    ["Other threads", `${threads.length}, ${warnings.join("; ") || "nothing to say of them"}`],
  ]));
}

function transition({ at, who, from, to, cause, evidence }) {
  const why = [cause === "none" ? "" : cause, evidence].filter(Boolean).join(": ");
  return make("li", "", clock(at), ` ${who} ${from} → ${to}${why ? `, ${why}` : ""}`);
}

function section(key, value) {
  const area = attributes(make("div", "scroll", generic(value)), { tabindex: "0", role: "region", "aria-label": key });
  return make("section", "", make("h2", "", key.charAt(0).toUpperCase() + key.slice(1)), area);
}

/** A list of records, or records by name, as a table; all else as names and values. */
function generic(value) {
  const isRecord = (one) => one !== null && typeof one === "object" && !Array.isArray(one);
  const cell = (key, one) => (typeof one === "number" && READ[key] ? READ[key](one) : short(one));
  const short = (one) => (typeof one === "object" && one !== null ? JSON.stringify(one) : one ?? "-");
  if (value === null || typeof value !== "object") return make("p", "", short(value));
  const entries = Array.isArray(value) ? value.map((one, number) => [number + 1, one]) : Object.entries(value);
  if (!entries.length) return make("p", "", "none");
  if (!entries.every(([, one]) => isRecord(one))) {
    return make("dl", "", ...facts(entries.map(([name, one]) => [name, short(one)])));
  }
  const names = [...new Set(entries.flatMap(([, one]) => Object.keys(one)))];
  const heading = (scope) => (name) => attributes(make("th", "", name), { scope });
  const head = make("tr", "", make("td"), ...names.map(heading("col")));
  const body = entries.map(([name, one]) =>
    make("tr", "", heading("row")(name), ...names.map((column) => make("td", "", cell(column, one[column])))));
  return make("table", "", make("thead", "", head), make("tbody", "", ...body));
}

/** Ages go on by themselves, and news grows old: then nobody knows whether they go on. */
function tick() {
  drawWord();
  if (view.node === null || isStale()) return;
  for (const element of document.querySelectorAll(".ticking")) {
    say(element, span(now() - Number(element.dataset.from)));
  }
  tickTable();
}

// --- the news ----------------------------------------------------------------------------------------

function news(text) {
  const was = view.node;
  try {
    const node = JSON.parse(text);
    if (node.version !== VERSION) throw new Error(`its version is ${node.version}, this page wants ${VERSION}: reload`);
    const isNew = was === null || node.sequence !== was.sequence || node.at !== was.at;
    const isGap = was === null || node.sequence < was.sequence || Math.abs(node.at - was.at) > cellLength();
    stripDue ||= isGap || view.trouble !== "";
    // The same one again is as old as it was.
    const made = instant(node.age_ms);
    const born = isNew || since(made) > since(view.born) ? made : view.born;
    Object.assign(view, { node, born, come: instant(), trouble: "" });
    draw();
  } catch (error) {
    Object.assign(view, { node: null, born: null }); // nothing of it may be taken for true
    lost(`The daemon's answer cannot be shown: ${error.message}.`);
  }
  if (stripDue && view.node !== null && performance.now() - stripAsked > STRIP_RETRY_MS) fetchStrip();
}

function lost(why) {
  view.trouble = why;
  drawWord();
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(POLL_MS - 1000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

async function fetchStrip() {
  stripDue = false;
  stripAsked = performance.now();
  try {
    takeStrip(await (await ask("api/strip.json")).json());
    keepStrip();
    drawTable();
  } catch (error) {
    stripDue = true; // it is asked for again with a later document; what the documents tell is shown meanwhile
  }
}

function listen() {
  listened = performance.now();
  if (source !== null) source.close();
  const mine = new EventSource("api/events");
  source = mine;
  mine.addEventListener("node", (event) => {
    view.polling = false;
    news(event.data);
  });
  mine.addEventListener("error", () => {
    if (mine.readyState === EventSource.CLOSED) {
      source = null; // refused: too many viewers, or nobody is there
      if (!view.polling) poll();
    } else if (!view.polling) {
      lost("The connection is lost."); // the browser tries again by itself
    }
  });
}

async function poll() {
  polled = performance.now();
  try {
    const text = await (await ask("api/node.json")).text();
    view.polling = true;
    news(text);
  } catch (error) {
    lost("The connection is lost.");
  }
}

function turn() {
  const at = performance.now();
  const isLive = source !== null && !view.polling;
  if (isLive && age() > HALF_OPEN_MS && at - listened > HALF_OPEN_MS) listen();
  if (!isLive && at - polled >= POLL_MS) poll();
  if (source === null && at - listened > (view.trouble ? POLL_MS : RETRY_MS)) listen();
  tick();
}

$("host").textContent = `on ${location.host}`;
$("fold").addEventListener("click", toggle);
document.addEventListener("visibilitychange", turn);
addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
setInterval(turn, TURN_MS);
listen();
