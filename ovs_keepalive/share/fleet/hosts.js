// SPDX-License-Identifier: Apache-2.0
// The table of hosts, worst first. Of 10,000 rows only those in sight are there: each is as high as the others, and an
// empty one above and below stands for the rest.

import { $, attributes, fill, make, now, say, span } from "./text.js";
import { CLASSES, LETTERS, address, counts, fleet, wanted } from "./model.js";

const BEYOND = 8; // rows drawn above and below those in sight
const ROW = 36; // CSS pixels, until one was measured

let asked = { state: "", cell: "", text: "", host: "" }; // what is wanted
let rows = []; // in their order
let drawn = new Map(); // by place in the table
let height = ROW;
let framed = false;
let top = 0; // how far it is scrolled: a table that is not shown forgets it

/** The whole table anew: the hosts or the wish have changed. */
export function drawHosts(wish) {
  if (address({ ...asked, host: "" }) !== address({ ...wish, host: "" })) $("box").scrollTop = top = 0;
  asked = wish;
  rows = wanted(asked);
  const of = asked.cell ? [...fleet.hosts.values()].filter((row) => row.cell === asked.cell) : fleet.hosts.values();
  const states = counts(of);
  fill($("states"), [states, asked], () => states.map(([state, count]) => stateButton(state, count)));
  if ($("text").value !== asked.text && document.activeElement !== $("text")) $("text").value = asked.text;
  $("clear").hidden = !asked.state && !asked.cell && !asked.text;
  say($("found"), `${rows.length.toLocaleString("en")} of ${fleet.hosts.size.toLocaleString("en")} hosts`
    + `${asked.cell ? `, cell ${asked.cell}` : ""}${asked.state ? `, ${asked.state}` : ""}`
    + `${asked.text ? `, with “${asked.text}”` : ""}`);
  attributes($("table"), { "aria-rowcount": String(rows.length + 1) });
  drawRows();
}

function stateButton(state, count) {
  const letter = attributes(make("span", `letter ${CLASSES[state]}`, LETTERS[state]), { "aria-hidden": "true" });
  const tile = make("a", `tile ${state}`, letter, ` ${state} ${count.toLocaleString("en")}`);
  const chosen = asked.state === state;
  tile.href = address({ ...asked, host: "", state: chosen ? "" : state });
  return attributes(tile, { "aria-current": String(chosen) });
}

/** Those rows that are in sight. A row that stays is filled again, so that focus and selection stay too. */
function drawRows() {
  const box = $("box");
  const from = Math.max(0, Math.floor(box.scrollTop / height) - BEYOND);
  const to = Math.min(rows.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + BEYOND);
  const was = drawn;
  drawn = new Map();
  let next = $("rows").firstElementChild;
  const kept = new Map([...was.values()].map((one) => [one.of.key, one]));
  for (let place = from; place < to; place += 1) {
    const one = kept.get(rows[place].key) ?? newRow();
    kept.delete(rows[place].key);
    fillRow(one, rows[place], place);
    drawn.set(place, one);
    if (one.tr === next) next = next.nextElementSibling;
    else $("rows").insertBefore(one.tr, next);
  }
  for (const { tr } of kept.values()) tr.remove();
  stand($("above"), from);
  stand($("below"), rows.length - to);
  const first = drawn.get(from);
  const measured = first ? first.tr.getBoundingClientRect().height : 0;
  if (measured && Math.abs(measured - height) > 0.1) {
    height = measured;
    drawLater();
  }
}

/** An empty row as high as so many rows. */
function stand(body, count) {
  if (!body.firstElementChild) {
    const row = attributes(make("tr", "", make("td")), { "aria-hidden": "true" });
    row.firstElementChild.colSpan = 10;
    body.append(row);
  }
  body.firstElementChild.style.height = `${count * height}px`;
}

function newRow() {
  const one = { tr: attributes(make("tr"), { role: "row" }) };
  const cell = (name, className, ...children) => {
    one[name] = make(name === "name" ? "th" : "td", className, ...children);
    attributes(one[name], { role: name === "name" ? "rowheader" : "cell" });
    one.tr.append(one[name]);
  };
  one.link = make("a");
  one.letter = attributes(make("span"), { "aria-hidden": "true" });
  one.word = make("span", "state");
  cell("name", "name", one.link);
  cell("cell", "cell");
  cell("what", "what", one.letter, " ", one.word);
  for (const name of ["since", "pmds", "busy", "cores", "heard", "version"]) cell(name, "number");
  cell("why", "reason");
  return one;
}

function fillRow(one, row, place) {
  one.of = row;
  one.tr.className = row.state;
  attributes(one.tr, { "aria-rowindex": String(place + 2) });
  say(one.link, row.host);
  const leads = address({ ...asked, cell: row.cell, host: row.host });
  if (one.link.getAttribute("href") !== leads) one.link.href = leads;
  say(one.cell, row.cell);
  say(one.letter, LETTERS[row.state]);
  one.letter.className = `letter ${CLASSES[row.state]}`;
  say(one.word, row.state);
  say(one.pmds, row.pmds === null ? "-" : `${row.pmds} / ${row.failed}`);
  say(one.busy, row.busy === null ? "-" : `${row.busy} %`);
  say(one.cores, row.cores === null ? "-" : row.cores);
  say(one.version, row.version || "-");
  say(one.why, row.why);
  one.why.title = row.why;
  tickRow(one);
}

const whole = (ms) => (ms < 10000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : span(ms));

function tickRow({ since, heard, of }) {
  say(since, of.since === null ? "not known" : whole(now() - of.since));
  say(heard, of.written === null ? "never" : `${whole(now() - of.written)} ago`);
}

/** Ages go on by themselves. */
export function tickHosts() {
  for (const one of drawn.values()) tickRow(one);
}

/** Where it was before something else was shown. */
export function goOn() {
  $("box").scrollTop = top;
}

function drawLater() {
  if (framed) return;
  framed = true;
  requestAnimationFrame(() => {
    framed = false;
    drawRows();
  });
}

$("box").addEventListener("scroll", () => {
  if ($("box").clientHeight) top = $("box").scrollTop;
  drawLater();
}, { passive: true });
addEventListener("resize", drawLater);
