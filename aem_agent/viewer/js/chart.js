// Small curves over the turns of an episode: one each for what was recorded of them.

const CURVES = [
  { key: "entropy", label: "Mean token entropy", unit: "nats", from: 0 },
  { key: "alpha", label: "α", unit: "", mark: 1 },
  { key: "advantage", label: "Advantage, before α", unit: "", mark: 0 },
];
const [LEFT, RIGHT, TOP, BOTTOM, HIGH] = [44, 12, 8, 18, 84];

// {node, mark(turn)}; null where no turn has any of them. `pick(turn)` is called on a click (turns count from 0).
function charts(turns, pick) {
  const curves = CURVES.filter(({ key }) => turns.some((turn) => turn[key] !== undefined));
  if (!curves.length) return null;
  const node = el("div", { class: "charts" });
  let [marked, width] = [0, 0];
  let drawn = [];
  const draw = () => {
    if (!node.clientWidth) return;
    width = node.clientWidth;
    drawn = curves.map((curve) => figure(curve, turns, chartWidth(node, curves.length), pick));
    node.replaceChildren(...drawn.map((d) => d.node));
    drawn.forEach((d) => d.mark(marked));
  };
  const resized = () => { if (node.clientWidth !== width) draw(); };
  new ResizeObserver(() => requestAnimationFrame(resized)).observe(node); // drawing changes the size that is observed
  return {
    node,
    mark: (turn) => {
      marked = turn;
      if (drawn.length) drawn.forEach((d) => d.mark(turn));
      else draw();
    },
  };
}

// Side by side where there is room; the style sheet does the same.
function chartWidth(node, count) {
  const columns = node.clientWidth >= 640 ? Math.min(count, 3) : 1;
  return Math.floor((node.clientWidth - 20 * (columns - 1)) / columns);
}

function figure({ key, label, unit, from, mark }, turns, width, pick) {
  const points = turns.map((turn, i) => [i, turn[key]]).filter(([, value]) => value !== undefined);
  const values = points.map(([, value]) => value).concat(mark ?? [], from ?? []);
  let [low, high] = [smallest(values), largest(values)];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const x = (i) => LEFT + (turns.length > 1 ? i / (turns.length - 1) : 0.5) * (width - LEFT - RIGHT);
  const y = (value) => HIGH - BOTTOM - ((value - low) / (high - low)) * (HIGH - TOP - BOTTOM);
  const here = svg("line", { y1: TOP - 4, y2: HIGH - BOTTOM + 4, class: "here" });
  const dot = svg("circle", { r: 4, class: "dot" });
  const text = (at, up, words, anchor) => svg("text", { x: at, y: up, "text-anchor": anchor }, words);
  const rule = (value, style) => svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: style });
  const mean = points.reduce((sum, [, value]) => sum + value, 0) / points.length;
  const recorded = points.map(([, value]) => value);
  const summary = `${label} by turn: ${short(smallest(recorded))} to ${short(largest(recorded))}, mean ${short(mean)}`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HIGH}`, width, height: HIGH, role: "img", "aria-label": summary,
    on: { click: (event) => pick(nearest(event, picture, width, turns.length)) } },
  rule(low, "grid"), rule(high, "grid"), mark === undefined ? "" : rule(mark, "level"),
  text(LEFT - 6, y(high) + 4, short(high), "end"), text(LEFT - 6, y(low) + 4, short(low), "end"),
  text(LEFT, HIGH - 3, "1", "middle"), turns.length > 1 ? text(width - RIGHT, HIGH - 3, String(turns.length), "middle") : "",
  here, svg("polyline", { points: points.map(([i, value]) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" "), class: `curve ${key}` }),
  turns.length <= 60 ? points.map(([i, value]) => svg("circle", { cx: x(i), cy: y(value), r: 2, class: `point ${key}` })) : "", dot);
  const value = el("span", { class: "now" });
  const show = (turn) => {
    const now = turns[turn]?.[key];
    for (const part of [here, dot]) part.classList.toggle("away", now === undefined);
    value.textContent = now === undefined ? "" : `turn ${turn + 1}: ${short(now)}${unit && ` ${unit}`}`;
    if (now === undefined) return;
    here.setAttribute("x1", x(turn));
    here.setAttribute("x2", x(turn));
    dot.setAttribute("cx", x(turn));
    dot.setAttribute("cy", y(now));
  };
  return { node: el("figure", {}, el("figcaption", {}, el("span", {}, unit ? `${label}, ${unit}` : label), value), picture), mark: show };
}

function nearest(event, picture, width, count) {
  const box = picture.getBoundingClientRect();
  const across = ((event.clientX - box.left) / box.width) * width;
  const share = (across - LEFT) / Math.max(1, width - LEFT - RIGHT);
  return Math.max(0, Math.min(count - 1, Math.round(share * (count - 1))));
}
