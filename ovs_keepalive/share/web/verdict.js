// SPDX-License-Identifier: Apache-2.0
// The one word, and what is wrong, worst first: since when, why, which ports suffer, what to do.

import { $, age, clock, fill, listed, make, plain, say, span, ticking, view } from "./text.js";

const STALE_MS = 5000; // a document older than that is no news …
const POLL_STALE_MS = 9000; // … or than that, where the page has to ask for each one
const CARDS = 8;
const OWN = ["ovsdb", "lock", "columns"]; // who of the transitions is of the daemon's database, not of the node

const BAD = ["GONE", "DEAD", "MISSING"]; // worst first
const SIGNS = { WELL: "✓", WARNING: "!", FAILURE: "✕", RESTARTING: "↻", DISABLED: "–" };
const ICONS = { WELL: "icon-well.svg", WARNING: "icon-warning.svg", FAILURE: "icon-failure.svg" };
// The words of keepalive/explain (formats/tables.py).
const WHY = {
  "stopped": "it is stopped by a signal (SIGSTOP). kill -CONT lets it go on.",
  "traced": "a debugger or tracer holds it. Detach the tracer.",
  "blocked": "it waits in a system call and finishes no iteration.",
  "uninterruptible": "it waits in the kernel and no signal can reach it: storage, memory or a driver hangs.",
  "frozen": "its cgroup is frozen. Thaw it (cgroup.freeze).",
  "starved": "it is runnable and gets no CPU. Something else runs on its core.",
  "spinning": "it runs but finished no iteration: spinning.",
  "exited": "its thread has ended while its process lives on. Only a restart of vswitchd brings it back.",
  "process-gone": "the ovs-vswitchd process has ended. Start it, then read its log and core dump.",
  "unknown": "it finished no iteration, and what can be seen does not say why.",
  "none": "it finished no iteration.",
};
const STARVED = "it gets too little of its CPU. Keep everything else off its core.";
const UNVERIFIED = "vswitchd does not answer, so nobody can tell whether it makes progress.";
const VSWITCHD = {
  "STARTING": "a new process that has not answered yet. Wait: hundreds of PMDs take half a minute.",
  "HUNG": "its main thread does not answer: no port, bridge or flow can be changed.",
  "STOPPED": "all of it is stopped by a signal. kill -CONT lets it go on.",
  "RESTARTING": "it ended in an orderly way and has until its deadline to be back. Wait.",
  "GONE": "it crashed, or did not come back in time, or was never there. Start it; read its log.",
  "CRASH-LOOP": "it crashes again and again. Find out why before it is started again: its log, its core dumps.",
};

export const isBad = (pmd) => BAD.includes(pmd.state);
const isFailed = (pmd) => pmd.state === "DEAD" || pmd.state === "GONE";
const begun = (pmd) => (pmd.cause === "none" ? pmd.since : Math.min(pmd.since, pmd.cause_since));
const port = (rxq) => rxq.slice(0, rxq.lastIndexOf("/"));

export const isUnverified = (pmd) => pmd.witness.includes("unverified");

/** 0 is worst; 5 is well. */
export function rank(pmd) {
  if (isBad(pmd)) return BAD.indexOf(pmd.state);
  if (pmd.cause !== "none") return 3;
  return isUnverified(pmd) ? 4 : 5;
}

export const isIll = (pmd) => rank(pmd) < 5;

export const isStale = () => view.trouble !== "" || age() > (view.polling ? POLL_STALE_MS : STALE_MS);

/** The word, in the page, its title and its icon. Without news it is NO NEWS, whatever it was. */
export function drawWord() {
  const { node } = view;
  const stale = isStale();
  const word = stale ? "NO NEWS" : plain(node.health);
  const summary = node === null ? "" : plain(node.summary);
  document.body.classList.toggle("stale", stale);
  say($("sign"), SIGNS[word] || "?");
  say($("word"), word);
  // For who hears the page: only what is bad, for a PMD that falls asleep and wakes up is no news.
  const bad = stale ? [] : node.pmds.filter(isBad).map((pmd) => `${pmd.name} ${pmd.state}`);
  say($("spoken"), listed(bad));
  say($("summary"), stale && node !== null ? `Last known: ${node.health}. ${summary}` : summary);
  $("glance").className = stale ? "UNKNOWN" : word;
  say($("link"), link(stale));
  $("link").classList.toggle("lost", stale);
  const title = `${word} on ${location.host}${stale ? "" : `: ${plain(summary, 80)}`}`;
  if (document.title !== title) document.title = title;
  const icon = (!stale && ICONS[word]) || "icon.svg";
  if ($("icon").getAttribute("href") !== icon) $("icon").setAttribute("href", icon);
}

function link(stale) {
  const old = view.born === null ? "" : `The newest news is ${span(age())} old.`;
  if (view.trouble) return `${view.trouble} ${old}`;
  if (view.node === null) return "Asking for news.";
  if (stale) return `No news comes. ${old}`;
  return view.polling ? `Asked every 5 s, for there are too many live viewers. ${old}` : `Live. ${old}`;
}

/** Since when the node is as it is: the oldest failure, else the oldest of what is wrong, else the last change. */
function begin() {
  const { pmds, transitions, vswitchd } = view.node;
  const ills = pmds.filter(isFailed).map(begun);
  if (vswitchd.state !== "RUNNING") ills.push(vswitchd.since);
  if (!ills.length) ills.push(...pmds.filter(isIll).map(begun));
  if (ills.length) return Math.min(...ills);
  const last = transitions.filter(({ who }) => !OWN.includes(who)).pop();
  return last === undefined ? vswitchd.since : last.at;
}

export function drawVerdict() {
  const { enabled, vswitchd, blind, pmds } = view.node;
  drawWord();
  const from = begin();
  fill($("since"), from, () => (from ? ["since ", clock(from), ", for ", ticking(from)] : []));
  const ills = pmds.filter(isIll).sort((one, other) => rank(one) - rank(other));
  const groups = grouped(ills);
  const seen = (pmd) => [pmd.name, pmd.state, pmd.cause, pmd.witness, begun(pmd)];
  const rxqs = ills.length ? pmds.map((pmd) => pmd.rxqs) : [];
  const { state, since, witness, culprit, warnings } = vswitchd;
  fill($("ills"), [enabled, ills.map(seen), rxqs, state, since, witness, culprit, warnings, blind], () => {
    if (!enabled) return [disabled()];
    const more = groups.length - CARDS;
    return [
      ...(state === "RUNNING" ? [] : [vswitchdCard(vswitchd)]),
      ...groups.slice(0, CARDS).map(pmdCard),
      ...(more > 0 ? [card("WARNING", `${more} more kinds of trouble: see the table`, 0, [])] : []),
      ...warnings.map((warning) => card("WARNING", `ovs-vswitchd: ${warning}`, 0, [])),
      ...(blind.length ? [card("UNKNOWN", `It cannot see all: ${blind.join("; ")}`, 0, [])] : []),
    ];
  });
}

/** PMDs that have the same state for the same reason share a card: 256 that went with their process are one fact. */
function grouped(pmds) {
  const groups = new Map();
  for (const pmd of pmds) {
    const key = JSON.stringify([pmd.state, pmd.cause, pmd.witness]);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(pmd);
  }
  return [...groups.values()];
}

function card(health, title, from, lines) {
  const heading = make("h2", "", title);
  if (from) heading.append(" since ", clock(from), ", for ", ticking(from));
  return make("article", `card ${health}`, heading, ...lines);
}

const command = (text) => make("p", "", "Do: ", make("code", "", text));
const seen = (witness) => make("p", "", `Seen: ${witness || "nothing more"}.`);

function disabled() {
  const cure = "ovs-vsctl set Open_vSwitch . other_config:enable-keepalive=true";
  return card("UNKNOWN", "Disabled: nothing is watched", 0, [command(cure)]);
}

function vswitchdCard({ state, since, witness, culprit }) {
  const lines = [make("p", "why", VSWITCHD[state] || ""), seen(witness)];
  if (culprit) lines.push(make("p", "", `${culprit} holds it up.`));
  lines.push(command("ovs-appctl -t ovs-keepalive keepalive/explain vswitchd"));
  const mild = state === "STARTING" || state === "RESTARTING";
  return card(mild ? "WARNING" : "FAILURE", `ovs-vswitchd ${state}`, since, lines);
}

function pmdCard(pmds) {
  const [pmd] = pmds;
  const health = isFailed(pmd) ? "FAILURE" : "WARNING";
  const names = pmds.length > 1 ? `${pmds.length} PMDs (${listed(pmds.map((one) => one.name))})`
    : `${pmd.name} on core ${pmd.core}`;
  const lines = [make("p", "why", why(pmd)), seen(pmd.witness), make("p", "ports", suffering(pmds, health))];
  // It is pasted into a shell: a thread may have called itself anything.
  const name = /^[\w:/-]+$/.test(pmd.name) ? pmd.name : `pmd-c${String(pmd.core).padStart(2, "0")}`;
  lines.push(command(`ovs-appctl -t ovs-keepalive keepalive/explain ${name}`));
  const doubt = isUnverified(pmd) ? ", unverified" : "";
  return card(health, `${names} ${pmd.state}${doubt}`, Math.min(...pmds.map(begun)), lines);
}

function why(pmd) {
  if (isBad(pmd)) return `${pmd.cause === "none" ? "" : `${pmd.cause}: `}${WHY[pmd.cause] || ""}`;
  if (pmd.cause === "starved") return `starved: ${STARVED}`;
  return isUnverified(pmd) ? UNVERIFIED : pmd.cause;
}

/** Which ports suffer, and how. Of a port that has rxqs elsewhere too, only those here do. */
function suffering(pmds, health) {
  const rxqs = pmds.flatMap((pmd) => pmd.rxqs || []);
  if (!rxqs.length) return pmds.every((pmd) => pmd.rxqs) ? "It polls no port." : "Its ports: not told yet.";
  const others = view.node.pmds.filter((pmd) => !pmds.includes(pmd) && !isBad(pmd));
  const elsewhere = new Set(others.flatMap((pmd) => pmd.rxqs || []).map(port));
  const shared = rxqs.some((rxq) => elsewhere.has(port(rxq)));
  const named = (rxq) => (elsewhere.has(port(rxq)) ? `${port(rxq)} (rxq ${rxq} of it)` : port(rxq));
  const names = [...new Set(rxqs.map(named))];
  const ports = `Ports: ${listed(names)}.`;
  if (health !== "FAILURE") return `${ports} They may suffer.`;
  return `${ports} Nothing of these ${shared ? "ports and rxqs" : "ports"} is forwarded.`;
}
