// The two things that open from a list: an episode, and a pair of episodes side by side.

// Curves take no room on a narrow page until they are asked for.
function foldedCurves(pane) {
  return pane.curves && el("details", { class: "curves", open: !narrow.matches }, el("summary", {}, "By turn"), pane.curves.node);
}

// One episode. `moved(step)` is told where the reader is; the result has {node, show, count, step, focus}.
async function episodeView(row, moved) {
  const data = await contents(row);
  const pane = new Pane(row, data, (step) => moved(step));
  const folded = el("details", { class: "fold", open: !narrow.matches }, el("summary", {}, "All turns"), pane.steps);
  const head = episodeHead(row, data);
  const style = pane.curves ? "single with-curves" : "single";
  const node = el("div", { class: style }, head, foldedCurves(pane), el("div", { class: "columns" }, folded, pane.detail));
  return {
    node,
    show: (step) => pane.show(step),
    get count() { return pane.count; },
    get step() { return pane.step; },
    focus: () => head.querySelector("h1").focus({ preventScroll: true }),
  };
}

// Two episodes of one task, turn beside turn; on a narrow page one of them at a time.
async function pairView(pair, moved) {
  const sides = await Promise.all([pair.a, pair.b].map(async (row, i) => {
    const data = await contents(row);
    const pane = new Pane(row, data, (step) => moved(step));
    const folded = el("details", { class: "fold", open: !narrow.matches }, el("summary", {}, `All ${counted(pane.count, "step")}`), pane.steps);
    const head = episodeHead(row, data, "h2");
    const node = el("section", { class: "side", "aria-label": i ? "B" : "A" },
      el("p", { class: "run-name" }, el("b", {}, i ? "B" : "A"), " ", row.run.name), head, foldedCurves(pane), pane.detail, folded);
    return { node, pane };
  }));
  const heading = el("h1", { tabindex: "-1" }, el("span", { class: "task" }, pair.a.task));
  const node = el("div", { class: "pair show-a" }, heading, el("div", { class: "columns" }, sides.map((side) => side.node)));
  const tabs = ["A", "B"].map((name) => button(name, () => choose(name), { "aria-pressed": String(name === "A") }));
  const choose = (name) => {
    node.className = `pair show-${name.toLowerCase()}`;
    for (const tab of tabs) tab.setAttribute("aria-pressed", tab.textContent === name);
  };
  heading.after(el("div", { class: "tabs", role: "group", "aria-label": "Which run" }, tabs));
  let at = -1;
  const count = Math.max(...sides.map((side) => side.pane.count));
  return {
    node,
    show: (step) => {
      at = Math.max(0, Math.min(step, count - 1));
      for (const { pane } of sides) pane.show(at);
      return at;
    },
    get count() { return count; },
    get step() { return at; },
    focus: () => heading.focus({ preventScroll: true }),
  };
}
