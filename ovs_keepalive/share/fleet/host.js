// SPDX-License-Identifier: Apache-2.0
// One host: what it says of itself, or said last.

import { $, attributes, clock, facts, fill, make, say, ticking } from "./text.js";
import { CLASSES, LETTERS } from "./model.js";
import { requestTable } from "./shown.js";

const GONE = "It has no session: nobody has heard of it since. What follows is what it said last, and may be true no more.";

/** told: its document; null: nobody knows it; undefined: it is being asked for. */
export function drawHost(asked, told) {
  fill($("single"), [asked, told === undefined ? "asking" : told], () => {
    const title = make("h2", "", asked.host);
    if (told === undefined) return [title, make("p", "", "Asking.")];
    if (told === null) return [title, make("p", "card UNKNOWN", `No host of that name is known in the cell ${asked.cell || "-"}.`)];
    return [title, ...parts(told)];
  });
}

function parts(told) {
  const { state, since, written, first, why, cell, said } = told;
  const letter = attributes(make("span", `letter ${CLASSES[state]}`, LETTERS[state]), { "aria-hidden": "true" });
  const time = (at) => (at === null ? "not known" : make("span", "", clock(at), ", ", ticking(at), " ago"));
  const found = [
    ...(state === "GONE" ? [make("p", "card FAILURE", GONE)] : []),
    make("dl", "", ...facts([
      ["State", make("span", state, letter, " ", make("span", "state", state))],
      ["Since", time(since)],
      ["Why", why || "nothing to say"],
      ["Cell", cell],
      ["Newest sign of life", time(written)],
      ["Joined the fleet", time(first)],
    ])),
  ];
  if (told.requests.length) found.push(make("h2", "", "Its requests for help"), scroll("Requests", requestTable(told.requests)));
  return said === null ? found : [...found, ...words(said)];
}

function words(said) {
  const numas = [...new Set([...Object.keys(said.headroom.cores), ...Object.keys(said.headroom.busy)])].sort();
  const headroom = numas.map((numa) =>
    `NUMA ${numa}: ${said.headroom.cores[numa] ?? 0} free cores, ${said.headroom.busy[numa] ?? "-"} % busy`);
  const services = Object.entries(said.services).map(([name, number]) => `${name} (${number})`);
  return [
    make("h2", "", "PMD threads"),
    scroll("PMD threads", table(["Core", "NUMA", "State", "Busy", "Rxqs", "Iterations", "Misses"], said.pmds.map((pmd) => [
      pmd.state, [pmd.core, pmd.numa ?? "-", stateOf(pmd.state), pmd.busy === null ? "-" : `${pmd.busy} %`, pmd.rxqs,
        pmd.iterations === null ? "-" : pmd.iterations.toLocaleString("en"), pmd.misses]]))),
    make("h2", "", "Tunnels"),
    scroll("Tunnels", table(["Name", "Kind", "From", "To", "BFD", "BFD there", "CFM", "For"], said.tunnels.map((one) => [
      "", [one.name, one.kind, one.local || "-", one.remote, one.bfd ?? "-", one.bfd_remote ?? "-",
        one.cfm_fault === null ? "-" : one.cfm_fault ? "fault" : "well", one.since_ms ? ticking(one.since_ms) : "-"]]))),
    make("h2", "", "More"),
    make("dl", "", ...facts([
      ["Headroom", headroom.join("; ") || "none"],
      ["Services", services.join(", ") || "none"],
      ["Address for tunnels", said.address || "none"],
      ["Version", said.ver || "-"],
      ["Boot", said.boot],
      ["Its own clock, when it said so", clock(said.t)],
    ])),
  ];
}

const stateOf = (state) =>
  make("span", "", attributes(make("span", "letter", state.slice(0, 1)), { "aria-hidden": "true" }), " ", make("span", "state", state));

function scroll(name, table_) {
  return attributes(make("div", "scroll", table_), { tabindex: "0", role: "region", "aria-label": name });
}

/** rows: [class, cells] */
function table(names, rows) {
  if (!rows.length) return make("p", "", "none");
  const head = names.map((name) => attributes(make("th", "", name), { scope: "col" }));
  const body = rows.map(([className, values]) => make("tr", className, ...values.map((value) => make("td", "", value))));
  return make("table", "", make("thead", "", make("tr", "", ...head)), make("tbody", "", ...body));
}

/** Show either the fleet or one host. */
export function showHost(isShown) {
  $("overview").hidden = isShown;
  $("single").hidden = !isShown;
  say($("home"), isShown ? "← ovs-keepalive fleet" : "ovs-keepalive fleet");
}
