// SPDX-License-Identifier: Apache-2.0
// The tunnels between the hosts of a cell, from both ends: a matrix where the cell is small, else the pairs that are
// not well. It is asked for while somebody looks at it.

import { $, attributes, fill, make, say, ticking } from "./text.js";
import { cells } from "./model.js";

const LARGEST = 40; // hosts of a matrix
const MOST = 200; // pairs of a list
const AGAIN_MS = 5000;
const WAIT_MS = 8000; // for an answer
const LETTERS = { UP: "U", DOWN: "D", UNKNOWN: "?" };

let told = null; // the newest document
let asked = -Infinity;
let asking = "";

/** The cell that is meant: the one that is asked for, or the only one. */
function meant({ cell }) {
  const all = cells();
  return cell || (all.length === 1 ? all[0][0] : "");
}

export function tickTunnels(wanted) {
  if ($("tunnels").open && performance.now() - asked > AGAIN_MS) askTunnels(wanted);
}

async function askTunnels(wanted) {
  const cell = meant(wanted);
  asked = performance.now();
  if (!cell || asking) return;
  asking = cell;
  try {
    const answer = await fetch(`api/tunnels.json?${new URLSearchParams({ cell })}`, {
      cache: "no-store",
      signal: AbortSignal.timeout(WAIT_MS),
    });
    told = answer.ok ? await answer.json() : null;
  } catch (error) {
    told = null; // the banner tells that nobody answers
  } finally {
    asking = "";
  }
  drawTunnels(wanted);
}

export function drawTunnels(wanted) {
  if (!$("tunnels").open) return;
  const cell = meant(wanted);
  if (told === null || told.cell !== cell) {
    if (cell && !asking) askTunnels(wanted);
    say($("tunnels-note"), cell ? "Asking." : "Choose a cell.");
    fill($("matrix"), null, () => []);
    return;
  }
  const { UP = 0, DOWN = 0, UNKNOWN = 0 } = told.counts;
  const more = told.more ? ` ${told.more} pairs are not listed.` : "";
  say($("tunnels-note"), `Cell ${cell}: ${DOWN} pairs of hosts cannot reach each other, ${UP} can, of ${UNKNOWN} nobody tells. `
    + `D: DOWN, U: UP, ?: not known; small where only one end says so.${more}`);
  fill($("matrix"), told, () => [told.hosts.length <= LARGEST ? matrix() : list()]);
}

function matrix() {
  const found = new Map();
  for (const [a, b, kind, reach, sees, says_a, says_b] of told.links) {
    if (found.has(`${a} ${b}`)) continue; // the worst of a pair comes first
    found.set(`${a} ${b}`, [kind, reach, sees, says_a, says_b]).set(`${b} ${a}`, [kind, reach, sees, says_b, says_a]);
  }
  const heading = (scope) => (name) => attributes(make("th", "", name), { scope });
  const body = told.hosts.map((host, row) => make("tr", "", heading("row")(host), ...told.hosts.map((other, column) => {
    const what = found.get(`${row} ${column}`);
    if (!what) return make("td", "", row === column ? "·" : "");
    const [kind, reach, sees, here, there] = what;
    const cell = make("td", reach, make(sees === "agreed" ? "strong" : "small", "", LETTERS[reach] ?? "?"));
    cell.title = `${host} – ${other}, ${kind}: ${reach}, ${sees} (${here}, ${there})`;
    return cell;
  })));
  const head = make("tr", "", make("td"), ...told.hosts.map(heading("col")));
  return make("table", "", make("thead", "", head), make("tbody", "", ...body));
}

function list() {
  const ill = told.links.filter(([, , , reach]) => reach !== "UP").slice(0, MOST);
  if (!ill.length) return make("p", "", "All pairs that have a tunnel reach each other.");
  const names = ["Host", "Host", "Kind", "Reach", "Seen", "First says", "Second says", "For"];
  const head = make("tr", "", ...names.map((name) => attributes(make("th", "", name), { scope: "col" })));
  const body = ill.map(([a, b, kind, reach, sees, says_a, says_b, from]) => {
    const values = [told.hosts[a], told.hosts[b], kind, reach, sees, says_a, says_b, from ? ticking(from) : "-"];
    return make("tr", "", ...values.map((value) => make("td", "", value)));
  });
  return make("table", "", make("thead", "", head), make("tbody", "", ...body));
}

$("tunnels").addEventListener("toggle", () => { asked = -Infinity; });
