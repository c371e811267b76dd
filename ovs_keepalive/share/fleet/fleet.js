// SPDX-License-Identifier: Apache-2.0
// The fleet's page: where its news come from, and when it draws. The whole comes once from /api/fleet.json, then
// /api/events tells what changes, each change with a number; after a gap the whole is asked for again. Where there are
// too many viewers, the page asks for the whole every few seconds. What it shows stands in its address.

import { $, instant, now, say, since, span, view } from "./text.js";
import { address, fleet, keyOf, takeDelta, takeHead, takeSnapshot, wish } from "./model.js";
import { drawBanner, drawCells, drawEvents, drawRequests, isStale } from "./shown.js";
import { drawHosts, goOn, tickHosts } from "./hosts.js";
import { drawHost, showHost } from "./host.js";
import { tickTunnels, drawTunnels } from "./tunnels.js";

const POLL_MS = 5000;
const HALF_OPEN_MS = 5000; // without a word on a connection of which nobody says that it is lost
const RETRY_MS = 30000; // between two tries to get a place among the live viewers
const WAIT_MS = 8000; // for an answer
const TURN_MS = 250;
const TYPING_MS = 150; // from a letter to the rows that have it

let source = null; // the stream of events
let asking = false; // for the whole
let asked = -Infinity; // when the whole was asked for last
let listened = -Infinity; // when the stream was
let wanted = wish(location.search);
let single = { key: "", told: undefined, due: false, asking: false };
let typing = 0;
let drawing = 0;

// --- drawing -----------------------------------------------------------------------------------------

function draw() {
  drawBanner();
  if (view.node === null) return;
  const isHost = wanted.host !== "";
  const wasHost = $("overview").hidden;
  showHost(isHost);
  if (isHost) {
    drawHost(wanted, single.told);
    return;
  }
  if (wasHost) goOn();
  drawCells(wanted);
  drawRequests();
  drawHosts(wanted);
  drawEvents();
  drawTunnels(wanted);
}

/** Once for all that has come meanwhile: a browser that is behind does not draw each change. */
function drawSoon() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    draw();
  }, 0);
}

/** Ages go on by themselves, and news grow old: then nobody knows whether they go on. */
function tick() {
  drawBanner();
  if (view.node === null || isStale()) return;
  for (const element of document.querySelectorAll(".ticking")) {
    say(element, span(now() - Number(element.dataset.from)));
  }
  if (!wanted.host) {
    tickHosts();
    tickTunnels(wanted);
  }
}

// --- the news ----------------------------------------------------------------------------------------

/** What a document says, if it can be shown; it is as old as it came. */
function news(text, take) {
  try {
    const told = JSON.parse(text);
    if (take(told) === false) return false;
    const born = instant();
    Object.assign(view, { node: { at: told.at }, born, come: born, trouble: "" });
    return told;
  } catch (error) {
    Object.assign(view, { node: null, born: null }); // nothing of it may be taken for true
    lost(`The answer cannot be shown: ${error.message}.`);
    return null;
  }
}

function lost(why) {
  view.trouble = why;
  drawBanner();
}

async function ask(path) {
  return fetch(path, { cache: "no-store", signal: AbortSignal.timeout(WAIT_MS) });
}

/** The whole. */
async function askAll() {
  if (asking) return false;
  asking = true;
  asked = performance.now();
  try {
    const answer = await ask("api/fleet.json");
    if (!answer.ok) throw new Error(answer.status);
    const told = news(await answer.text(), takeSnapshot);
    if (told) single.due = true;
    draw();
    return Boolean(told);
  } catch (error) {
    lost("The connection is lost.");
    return false;
  } finally {
    asking = false;
  }
}

/** What comes after it. */
async function listen() {
  listened = performance.now();
  if (source !== null) source.close();
  source = null;
  if (!(await askAll())) return;
  const mine = new EventSource(`api/events?after=${encodeURIComponent(`${fleet.boot}-${fleet.seq}`)}`);
  source = mine;
  mine.addEventListener("beat", (event) => {
    const told = JSON.parse(event.data);
    // A beat may come in between a delta that is on its way: its number is not taken.
    news(event.data, () => (told.boot === fleet.boot ? takeHead({ ...told, seq: fleet.seq }) : false));
    view.polling = false;
  });
  mine.addEventListener("delta", (event) => {
    const told = news(event.data, takeDelta);
    if (told === false) listen(); // one was missed
    if (!told) return;
    if ((told.hosts ?? []).some(([cell, host]) => keyOf(cell, host) === single.key) || told.requests) single.due = true;
    drawSoon();
    askHost();
  });
  mine.addEventListener("gap", () => { if (source === mine) listen(); });
  mine.addEventListener("error", () => {
    if (source !== mine) return;
    if (mine.readyState === EventSource.CLOSED) {
      source = null; // refused: too many viewers, or nobody is there
      view.polling = true;
    } else {
      lost("The connection is lost."); // the browser tries again by itself
    }
  });
}

/** The document of the host that is shown. */
async function askHost() {
  const key = wanted.host ? keyOf(wanted.cell, wanted.host) : "";
  if (key !== single.key) single = { key, told: undefined, due: true, asking: false };
  if (!key || !single.due || single.asking) return;
  const mine = single;
  Object.assign(mine, { due: false, asking: true });
  try {
    const answer = await ask(`api/host.json?${new URLSearchParams({ cell: wanted.cell, host: wanted.host })}`);
    if (!answer.ok && answer.status !== 404) throw new Error(answer.status);
    mine.told = answer.ok ? await answer.json() : null;
    if (mine === single) draw();
  } catch (error) {
    mine.due = true; // it is asked for again; the banner tells that nobody answers
  } finally {
    mine.asking = false;
  }
}

function turn() {
  const at = performance.now();
  if (source !== null && age() > HALF_OPEN_MS && at - listened > HALF_OPEN_MS) listen();
  if (source === null && view.polling && at - asked >= POLL_MS) askAll();
  if (source === null && !asking && at - listened > (view.polling && !view.trouble ? RETRY_MS : POLL_MS)) listen();
  askHost();
  tick();
}

const age = () => (view.come === null ? Infinity : since(view.come));

// --- the address -------------------------------------------------------------------------------------

function go(search, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", search);
  else history.pushState(null, "", search);
  route();
}

function route() {
  wanted = wish(location.search);
  if (!wanted.host) $("text").value = wanted.text;
  askHost();
  draw();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const leads = link?.getAttribute("href") ?? "";
  if (!leads.startsWith("?") || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(leads === "?" ? location.pathname : leads);
});
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => go(address({ ...wanted, text: $("text").value }), { replace: true }), TYPING_MS);
});
$("clear").addEventListener("click", () => go(location.pathname));
addEventListener("popstate", route);
addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
document.addEventListener("visibilitychange", turn);
say($("where"), `on ${location.host}`);
setInterval(turn, TURN_MS);
route();
listen();
