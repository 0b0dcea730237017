// Making elements. A text only ever becomes a text node: nothing in these files turns a string into markup, and the
// page's policy (trusted types) would refuse it.

const SVG = "http://www.w3.org/2000/svg";

// An HTML element. `attributes.on` maps events to handlers; null, undefined and false leave an attribute out.
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// An SVG element, likewise.
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else {
      node.setAttribute(key, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

function button(label, onClick, attributes = {}) {
  return el("button", { type: "button", on: { click: onClick }, ...attributes }, label);
}

// Screen readers are told what changed.
function announce(words) {
  document.getElementById("live").textContent = words;
}

// "1 game", "2 games", "10,000 games".
function counted(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

// A number in few digits.
function short(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  return String(Number.isInteger(value) ? value : Number(value.toPrecision(digits))).replace("-", "−");
}

function signed(value, digits = 3) {
  return value === null || value === undefined ? "–" : `${value > 0 ? "+" : value < 0 ? "−" : ""}${short(Math.abs(value), digits)}`;
}

function largest(values) {
  return values.reduce((most, value) => Math.max(most, value), -Infinity); // Math.max(...values) has an end
}

function smallest(values) {
  return values.reduce((least, value) => Math.min(least, value), Infinity);
}

// A whole number as an address or a field has it; null for anything else.
function integer(text) {
  return /^\d{1,6}$/.test(text ?? "") ? Number(text) : null;
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

const OUTCOMES = ["won", "lost", "truncated", "error"];

// A coloured word for how an episode ended; the word says it without the colour.
function badge(outcome, words = outcome) {
  return el("span", { class: `badge ${outcome}` }, words);
}

// A labelled text, the beginning of it where it is long.
const SHOWN = 6000;

function textBlock(label, text, style = "") {
  const body = el("pre", { class: style, tabindex: "0", "aria-label": label }, text.slice(0, SHOWN));
  const block = el("section", { class: "block" }, el("h3", {}, label), body);
  if (text.length > SHOWN) {
    const more = button(`Show all ${text.length.toLocaleString("en")} characters`, () => {
      body.textContent = text;
      more.remove();
      body.focus();
    }, { class: "quiet" });
    block.append(more);
  }
  return block;
}
