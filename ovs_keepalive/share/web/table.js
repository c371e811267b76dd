// SPDX-License-Identifier: Apache-2.0
// The table of PMD threads, worst first, and of each the strip of the last 10 minutes.

import { $, attributes, clock, make, plain, say, since, span, view } from "./text.js";
import { isBad, isIll, isUnverified, rank } from "./verdict.js";

const FEW = 16; // well PMDs that are shown without being asked for
const CELLS = 120; // of a strip
const WORST = "GDMSAU."; // its letters, worst first
// Of each letter the bars in a cell: top and height, of 12. Told apart by their height too, not by colour alone.
const BARS = { A: [[9, 3]], S: [[9, 3]], U: [[10, 1]], M: [[6, 6]], D: [[0, 12]], G: [[0, 5], [7, 5]] };
const SVG = "http://www.w3.org/2000/svg";

const rows = new Map(); // by thread: what is made once is filled again, so that focus and selection stay
let unfolded = false; // whether a person wants to see the well PMDs, however many
let strip = { end: 0, step: 5000, cells: new Map() };

// --- the strip ---------------------------------------------------------------------------------------

/** Take what /api/strip.json told. */
export function takeStrip(told) {
  strip = { end: told.end, step: told.step_ms, cells: new Map(Object.entries(told.pmds)) };
}

/** Milliseconds that a cell covers: a longer time without a document is a gap in the strip. */
export const cellLength = () => strip.step;

/** Go on from there by what the documents tell: a cell keeps the worst of its time. */
export function keepStrip() {
  const { at, enabled, pmds } = view.node;
  if (at - strip.end >= CELLS * strip.step) strip.end = at - (at % strip.step); // all of it is older
  const steps = Math.max(0, Math.floor((at - strip.end) / strip.step) + 1);
  strip.end += steps * strip.step;
  const was = strip.cells;
  strip.cells = new Map(pmds.map(({ name, state }) => {
    const cells = `${(was.get(name) || "").padStart(CELLS, ".")}${".".repeat(steps)}`.slice(-CELLS);
    const letters = [enabled ? state.slice(0, 1) : ".", cells.slice(-1)];
    const [worst] = letters.sort((one, other) => WORST.indexOf(one) - WORST.indexOf(other));
    return [name, cells.slice(0, -1) + worst];
  }));
}

function drawStrip(row, cells) {
  if (row.drawn === cells) return;
  row.drawn = cells;
  const paths = {};
  for (const { 0: run, index } of cells.matchAll(/([ASUMDG])\1*/g)) {
    for (const [top, height] of BARS[run[0]]) {
      paths[run[0]] = `${paths[run[0]] || ""}M${index} ${top}h${run.length}v${height}h-${run.length}z`;
    }
  }
  row.strip.replaceChildren(...Object.entries(paths).map(([letter, d]) =>
    attributes(document.createElementNS(SVG, "path"), { class: letter, d })));
  const long = (letter) => (cells.split(letter).length - 1) * strip.step;
  const told = ["GONE", "DEAD", "MISSING"].filter((state) => long(state[0]))
    .map((state) => `${state} for ${span(long(state[0]))}`);
  attributes(row.strip, { "aria-label": `last 10 minutes: ${told.join(", ") || "no stall seen"}` });
}

// --- the rows ----------------------------------------------------------------------------------------

function newRow() {
  const row = { tr: attributes(make("tr"), { role: "row" }) };
  const cell = (name, label, className, ...children) => {
    row[name] = make(name === "pmd" ? "th" : "td", className, ...children);
    attributes(row[name], { role: name === "pmd" ? "rowheader" : "cell" });
    if (label) row[name].dataset.label = label;
    row.tr.append(row[name]);
  };
  row.letter = attributes(make("span", "letter"), { "aria-hidden": "true" });
  row.word = make("span");
  row.cause = make("span", "cause");
  row.parts = ["busy", "sleep", "rest"].map((part) => make("span", part));
  row.shares = make("span", "shares");
  row.strip = document.createElementNS(SVG, "svg");
  attributes(row.strip, { class: "strip", role: "img", viewBox: `0 0 ${CELLS} 12`, preserveAspectRatio: "none" });
  cell("pmd", "", "");
  cell("state", "", "state", row.letter, " ", row.word, row.cause);
  cell("age", "Last progress", "age");
  cell("core", "Core", "");
  cell("numa", "NUMA", "");
  cell("rate", "Iterations/s", "");
  cell("use", "", "wide", attributes(make("div", "bar", ...row.parts), { "aria-hidden": "true" }), row.shares);
  cell("rxqs", "Rxqs", "wide");
  cell("past", "", "wide", row.strip);
  return row;
}

const NOTHING = { rate: null, busy: null, idle: null, sleep: null };
const percent = (part) => (part === null ? "-" : `${Math.round(part * 100)} %`);

function fillRow(row, pmd) {
  row.of = pmd;
  row.tr.className = `${plain(pmd.state)}${isIll(pmd) ? " ill" : ""}`;
  say(row.pmd, pmd.name);
  say(row.letter, pmd.state.slice(0, 1));
  say(row.word, pmd.state);
  say(row.cause, pmd.cause !== "none" ? pmd.cause : isUnverified(pmd) ? "unverified" : "");
  say(row.core, pmd.core);
  say(row.numa, pmd.numa === null ? "-" : pmd.numa);
  say(row.rxqs, pmd.rxqs === null ? "not told" : pmd.rxqs.map((rxq) => plain(rxq, 100)).join(" ") || "-");
  // What it did before it stalled is not what it does.
  const { rate, busy, idle, sleep } = (!isBad(pmd) && pmd.shares) || NOTHING;
  say(row.rate, rate === null ? "-" : Math.round(rate).toLocaleString("en"));
  say(row.shares, busy === null ? "-" : `${percent(busy)} / ${percent(idle)} / ${percent(sleep)}`);
  // The iterations in which it slept are some of the idle ones.
  const asleep = Math.min(sleep || 0, 1 - (busy || 0));
  const parts = [busy || 0, asleep, 1 - (busy || 0) - asleep];
  parts.forEach((part, number) => { row.parts[number].style.flexGrow = part.toFixed(3); });
  drawStrip(row, strip.cells.get(pmd.name) || "");
  tickRow(row);
}

function tickRow({ age, of }) {
  say(age, of.age_ms === null ? "never" : `${span(of.age_ms + since(view.come))} ago`);
}

/** The rows in this order, each moved only if it stands elsewhere; what else is there goes. */
function place(body, wanted) {
  let next = body.firstElementChild;
  for (const { tr } of wanted) {
    if (tr === next) next = next.nextElementSibling;
    else body.insertBefore(tr, next);
  }
  while (next !== null) {
    const after = next.nextElementSibling;
    next.remove();
    next = after;
  }
}

export function drawTable() {
  const { pmds, at } = view.node;
  const ills = pmds.filter(isIll).sort((one, other) => rank(one) - rank(other) || one.core - other.core);
  const wells = pmds.filter((pmd) => !isIll(pmd));
  const hadTrouble = (pmd) => /[MDG]/.test(strip.cells.get(pmd.name) || "");
  const some = wells.filter(hadTrouble);
  const lately = some.length > FEW ? [] : some; // these are not folded, unless all were
  const calm = wells.filter((pmd) => !lately.includes(pmd));
  const shown = calm.length <= FEW || unfolded;
  const used = new Map();
  const draw = (these) => these.map((pmd) => {
    const key = `${pmd.tid} ${pmd.name}`;
    const row = rows.get(key) || newRow();
    used.set(key, row);
    fillRow(row, pmd);
    return row;
  });
  place($("ill-rows"), draw(ills));
  place($("well-rows"), draw([...lately, ...(shown ? calm : [])])); // what nobody sees is not drawn
  rows.clear();
  for (const [key, row] of used) rows.set(key, row);
  $("fold").hidden = calm.length <= FEW;
  attributes($("fold"), { "aria-expanded": String(shown) });
  say($("fold"), `${shown ? "Hide" : "Show"} ${calm.length} PMD threads that are well`);
  $("as-of").replaceChildren(...(pmds.length ? ["As of ", clock(at), "."] : ["There are no PMD threads."]));
}

export function tickTable() {
  for (const row of rows.values()) tickRow(row);
}

export function toggle() {
  unfolded = !unfolded;
  drawTable();
}
