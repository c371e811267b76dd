// SPDX-License-Identifier: Apache-2.0
// The fleet as the page knows it: read from the snapshot, kept by the deltas; which of its hosts are wanted, and in
// which order. Nothing here draws.

const VERSION = 1; // of the documents
const EVENTS = 200; // kept
export const WORST = ["GONE", "FAILURE", "RESTARTING", "WARNING", "UNKNOWN", "DISABLED", "WELL"];
const STATES = { W: "WELL", D: "DISABLED", "?": "UNKNOWN", "!": "WARNING", R: "RESTARTING", F: "FAILURE", G: "GONE" };
const RANKS = Object.fromEntries(WORST.map((state, rank) => [state, rank]));
export const CLASSES = { GONE: "G", FAILURE: "F", RESTARTING: "R", WARNING: "A", UNKNOWN: "Q", DISABLED: "D", WELL: "W" };
export const LETTERS = Object.fromEntries(Object.entries(STATES).map(([letter, state]) => [state, letter]));

export const fleet = {
  boot: "", // of the process that told it
  seq: 0, // up to which delta
  store: ["", ""], // state and why
  dataAge: null, // ms, when it was told; null: nothing was read yet
  hosts: new Map(), // by keyOf
  requests: [],
  unread: [0, []], // of requests that cannot be read how many there are, and a line for each of the first
  events: [], // oldest first
};

export const keyOf = (cell, host) => `${cell}\n${host}`; // a name has no control characters
export const isBad = (state) => state !== "WELL" && state !== "DISABLED";

/** Take what stands above each document; throws if it is of another version. */
export function takeHead(told) {
  if (told.version !== VERSION) throw new Error(`its version is ${told.version}, this page wants ${VERSION}: reload`);
  Object.assign(fleet, { boot: told.boot, seq: told.seq, store: told.store, dataAge: told.age_ms });
}

/** Take the whole. */
export function takeSnapshot(told) {
  takeHead(told);
  fleet.hosts = new Map();
  for (const [cell, columns] of Object.entries(told.cells)) takeCell(cell, columns, told.at);
  fleet.requests = told.requests;
  fleet.unread = told.unread;
  fleet.events = told.events;
}

/** Take what changed; false: it is not the next one. */
export function takeDelta(told) {
  if (told.boot !== fleet.boot || told.seq !== fleet.seq + 1) return false;
  takeHead(told);
  for (const values of told.hosts ?? []) take(values, told.at);
  for (const [cell, host] of told.forgotten ?? []) fleet.hosts.delete(keyOf(cell, host));
  if (told.requests) Object.assign(fleet, { requests: told.requests, unread: told.unread });
  if (told.events) fleet.events = [...fleet.events, ...told.events].slice(-EVENTS);
  return true;
}

function takeCell(cell, columns, at) {
  const numbers = ["since", "written", "pmds", "failed", "busy", "cores", "version", "why"].map((name) => column(columns[name]));
  const domain = column(columns.domains);
  let name = "";
  for (let place = 0; place < columns.states.length; place += 1) {
    name = name.slice(0, columns.names[2 * place]) + columns.names[2 * place + 1];
    take([cell, name + domain(place), columns.states[place], ...numbers.map((of) => of(place))], at);
  }
}

/** A column is a list; or, where most are alike, that one and the others by their places; or of few words which. */
function column(told) {
  if (Array.isArray(told)) return (place) => told[place];
  return told.of ? (place) => told.of[told.at[place]] : (place) => told.but[place] ?? told.most;
}

const ago = (seconds, at) => (seconds < 0 ? null : at - seconds * 1000);
const known = (number) => (number < 0 ? null : number);

function take([cell, host, letter, since, written, pmds, failed, busy, cores, version, why], at) {
  const key = keyOf(cell, host);
  const state = STATES[letter] ?? "UNKNOWN";
  const row = { key, cell, host, state, since: ago(since, at), written: ago(written, at), pmds: known(pmds), failed };
  fleet.hosts.set(key, Object.assign(row, { busy: known(busy), cores: known(cores), version, why }));
}

// --- what is wanted of it ----------------------------------------------------------------------------

/** What the address of the page asks for: {state, cell, text, host}. */
export function wish(search) {
  const asked = new URLSearchParams(search);
  const word = (name) => asked.get(name) ?? "";
  return { state: word("state"), cell: word("cell"), text: word("q"), host: word("host") };
}

/** The same as an address. */
export function address({ state, cell, text, host }) {
  const asked = new URLSearchParams();
  for (const [name, value] of [["state", state], ["cell", cell], ["q", text], ["host", host]]) {
    if (value) asked.set(name, value);
  }
  return `?${asked}`;
}

/** The hosts that are wanted, worst first, of these the newest. */
export function wanted({ state, cell, text }) {
  const sought = text.toLowerCase();
  const is = (row) => (!state || row.state === state) && (!cell || row.cell === cell)
    && (!sought || row.host.toLowerCase().includes(sought) || row.why.toLowerCase().includes(sought));
  return [...fleet.hosts.values()].filter(is).sort((one, other) =>
    RANKS[one.state] - RANKS[other.state] || (isBad(one.state) ? (other.since ?? 0) - (one.since ?? 0) : 0)
    || compare(one.cell, other.cell) || compare(one.host, other.host));
}

const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

/** How many are in each state that there is: [state, count], worst first. */
export function counts(rows) {
  const found = new Map();
  for (const { state } of rows) found.set(state, (found.get(state) ?? 0) + 1);
  return WORST.filter((state) => found.has(state)).map((state) => [state, found.get(state)]);
}

/** Each cell with its rows, by name. */
export function cells() {
  const found = new Map();
  for (const row of fleet.hosts.values()) {
    if (!found.has(row.cell)) found.set(row.cell, []);
    found.get(row.cell).push(row);
  }
  return [...found].sort(([one], [other]) => compare(one, other));
}
