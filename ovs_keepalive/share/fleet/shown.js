// SPDX-License-Identifier: Apache-2.0
// What stands around the table: the banner, the cells, requests for help, what happened, the tunnels of a cell.

import { $, age, attributes, clock, fill, make, plain, say, span, ticking, view } from "./text.js";
import { CLASSES, LETTERS, address, cells, counts, fleet, isBad } from "./model.js";

const LOST_MS = 5000; // without a word from the server: it has one every 2 s …
const POLL_LOST_MS = 9000; // … or than that, where the page has to ask for each one
const OLD_MS = 20000; // data older than that are no news: the store is read every few seconds
const SHOWN_EVENTS = 50;
const SIGNS = { FAILURE: "✕", WARNING: "!", RESTARTING: "↻", WELL: "✓" };
const ICONS = { WELL: "icon-well.svg", WARNING: "icon-warning.svg", FAILURE: "icon-failure.svg" };
// What the worst state of a host makes of the fleet: the banner has the node's colours.
const BANNER = { GONE: "FAILURE", FAILURE: "FAILURE", RESTARTING: "RESTARTING", WARNING: "WARNING", UNKNOWN: "WARNING" };

/** Milliseconds since all of the store was read. */
const dataAge = () => (fleet.dataAge === null ? Infinity : fleet.dataAge + age());

const isLost = () => view.trouble !== "" || age() > (view.polling ? POLL_LOST_MS : LOST_MS);

export const isStale = () => isLost() || dataAge() > OLD_MS;

/** The counts, in the page, its title and its icon. Without news it is NO NEWS, whatever it was. */
export function drawBanner() {
  const stale = isStale();
  const states = counts(fleet.hosts.values());
  const bad = states.filter(([state]) => isBad(state)).map(([state, count]) => `${count.toLocaleString("en")} ${state}`);
  const quiet = fleet.hosts.size ? "ALL WELL" : "NO HOSTS";
  const word = stale ? "NO NEWS" : bad.join(" · ") || quiet;
  const banner = stale || !fleet.hosts.size ? "UNKNOWN" : BANNER[states[0][0]] ?? "WELL";
  document.body.classList.toggle("stale", stale);
  say($("sign"), SIGNS[banner] ?? "?");
  say($("word"), word);
  $("glance").className = banner;
  const all = states.map(([state, count]) => `${count.toLocaleString("en")} ${state}`).join(", ");
  const last = stale && fleet.hosts.size ? "Last known: " : "";
  say($("summary"), `${last}${fleet.hosts.size.toLocaleString("en")} hosts${all ? `: ${all}` : ""}`);
  const [store, why] = fleet.store;
  const old = dataAge() === Infinity ? "Nothing was read yet." : `The data are ${span(dataAge())} old.`;
  say($("store"), store ? `Store ${store}${why ? `: ${why}` : ""}. ${old}` : "");
  say($("link"), link());
  $("link").classList.toggle("lost", isLost());
  const title = `${word} on ${location.host}`;
  if (document.title !== title) document.title = title;
  const icon = ICONS[banner] ?? "icon.svg";
  if ($("icon").getAttribute("href") !== icon) $("icon").setAttribute("href", icon);
}

function link() {
  if (view.node === null) return view.trouble || "Asking for news.";
  const old = `The newest word is ${span(age())} old.`;
  if (view.trouble) return `${view.trouble} ${old}`;
  if (isLost()) return `No news comes. ${old}`;
  return view.polling ? "Asked every 5 s, for there are too many live viewers." : "Live.";
}

/** A tile for each cell: its worst state as a colour and a letter, and how many of its hosts are not well. */
export function drawCells(asked) {
  const glances = cells().map(([cell, rows]) => {
    const states = counts(rows);
    return [cell, states[0][0], states.filter(([state]) => isBad(state)), rows.length];
  });
  fill($("cells"), [glances, asked], () => glances.map(([cell, worst, bad, size]) => {
    const letter = attributes(make("span", `letter ${CLASSES[worst]}`, LETTERS[worst]), { "aria-hidden": "true" });
    const ill = bad.map(([state, count]) => `${count} ${state}`).join(", ");
    const told = make("span", "", ill ? `${ill} of ${size}` : `${size} hosts`);
    const tile = make("a", `tile ${worst}`, letter, make("strong", "", cell), told);
    tile.href = address({ ...asked, host: "", cell: asked.cell === cell ? "" : cell });
    return attributes(tile, { "aria-current": String(asked.cell === cell) });
  }));
}

export function drawRequests() {
  const [unread, lines] = fleet.unread;
  $("help").hidden = !fleet.requests.length && !unread;
  fill($("requests"), [fleet.requests, fleet.unread], () => [
    ...(fleet.requests.length ? [requestTable(fleet.requests)] : []),
    ...(unread ? [make("p", "note", `${unread} that cannot be read:`), ...lines.map((line) => make("p", "note", line))] : []),
  ]);
}

/** Who asks for what, who has claimed it, since when. */
export function requestTable(requests) {
  const heading = (name) => attributes(make("th", "", name), { scope: "col" });
  const names = ["Host", "Cell", "Kind", "State", "Asked for", "Claimed by", "For", "Tries", "Why", "Last try"];
  const body = requests.map((one) => {
    const host = make("a", "", one.host);
    host.href = address({ state: "", text: "", cell: one.cell, host: one.host });
    const claimed = one.claimed === null ? "-" : ticking(one.claimed);
    const cellsOf = [host, one.cell, one.kind, make("span", "request", one.state), ticking(one.t), one.by || "nobody",
      claimed, one.n, one.why, one.last || "-"];
    return make("tr", one.state, ...cellsOf.map((value) => make("td", "", value)));
  });
  return make("table", "", make("thead", "", make("tr", "", ...names.map(heading))), make("tbody", "", ...body));
}

export function drawEvents() {
  const newest = fleet.events.slice(-SHOWN_EVENTS).reverse();
  fill($("events"), newest, () => (newest.length ? newest.map(eventLine) : [make("li", "", "Nothing yet.")]));
}

function eventLine([at, cell, who, from, to, why]) {
  return make("li", "", clock(at), ` ${cell ? `${plain(cell)}/` : ""}${plain(who)} ${from} → ${to}${why ? `, ${why}` : ""}`);
}
