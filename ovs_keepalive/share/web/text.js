// SPDX-License-Identifier: Apache-2.0
// Text and time, as every part of the page shows them. All text gets in through plain(), and as text: names of ports
// and threads are other people's, and may be hostile.

const NAMES = 6; // that a sentence spells out

export const $ = (id) => document.getElementById(id);

/** What is known now; page.js writes it, all others read it. */
export const view = {
  node: null, // the newest document
  born: null, // when it was made, on this browser's clocks
  come: null, // when it arrived, on the same
  polling: false, // because there is no place among the live viewers
  trouble: "", // why there is no news, where that is known
};

// --- time --------------------------------------------------------------------------------------------

export const instant = (ago = 0) => ({ mono: performance.now() - ago, wall: Date.now() - ago });

/** Milliseconds. One clock may stand still while the machine sleeps, the other may be set: whichever went further. */
export const since = (then) => Math.max(performance.now() - then.mono, Date.now() - then.wall, 0);

/** Milliseconds since the newest document was made. */
export const age = () => (view.born === null ? Infinity : since(view.born));

/** The node's wall clock, as far as this browser can tell. */
export const now = () => view.node.at + age();

/** 3.4 s, 34 s, 5 min 3 s, 3 h 5 min, 2 d 3 h */
export function span(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  const [big, name, small, rest] =
    seconds < 7200 ? [60, "min", 1, "s"] : seconds < 172800 ? [3600, "h", 60, "min"] : [86400, "d", 3600, "h"];
  return `${Math.floor(seconds / big)} ${name} ${Math.floor((seconds % big) / small)} ${rest}`;
}

/** 05:18:59 UTC, with the day before it if that is not the node's today */
export function clock(ms) {
  const iso = new Date(ms).toISOString();
  const today = new Date(view.node.at).toISOString().slice(0, 10);
  const time = make("time", "", `${iso.startsWith(today) ? "" : `${iso.slice(0, 10)} `}${iso.slice(11, 19)} UTC`);
  time.dateTime = iso;
  return time;
}

/** How long that is ago; goes on by itself (page.js). */
export function ticking(from) {
  const element = make("span", "ticking", span(now() - from));
  element.dataset.from = from;
  return element;
}

// --- text --------------------------------------------------------------------------------------------

/** Text that can be shown: what steers, hides or turns is spelled out; what is too long loses its middle. */
export function plain(value, most = 1000) {
  const said = String(value).replace(/[\p{C}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
  return said.length <= most ? said : `${said.slice(0, most - 21)}…${said.slice(-20)}`;
}

/** a, b, c and 3 more */
export function listed(names) {
  const said = names.slice(0, NAMES).map((name) => plain(name, 100)).join(", ");
  return names.length > NAMES ? `${said} and ${names.length - NAMES} more` : said;
}

/** An element with text and elements in it. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.map((child) => (child instanceof Node ? child : plain(child))));
  return element;
}

export function attributes(element, values) {
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
  return element;
}

/** Say it, unless it is said already: what does not change is not read out again. */
export function say(element, value) {
  const said = plain(value, 4000);
  if (element.textContent !== said) element.textContent = said;
}

const drawn = new WeakMap();

/** Fill an element anew if what it is made of has changed: focus and selection stay where nothing has. */
export function fill(element, madeOf, children) {
  const key = JSON.stringify(madeOf);
  if (drawn.get(element) === key) return;
  drawn.set(element, key);
  element.replaceChildren(...children());
}

export function facts(pairs) {
  return pairs.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]);
}
