// One episode: how it went, curves, the list of its turns, and one turn in full. The last step is the end.

class Pane {
  // `picked(step)`: someone chose a step (from 0; after the last turn comes the end, if there is anything to say of it).
  constructor(row, data, picked) {
    Object.assign(this, { row, data, picked, step: -1 });
    this.ended = Boolean(data.final || data.error || !data.turns.length); // there is a step at least
    this.curves = charts(data.turns, picked);
    this.links = data.turns.map((turn, i) => stepLink(i, turn, picked));
    if (this.ended) this.links.push(endLink(this.count - 1, row, picked));
    this.detail = el("article", { class: "turn", tabindex: "-1", "aria-label": "Turn" });
    this.steps = el("ol", { class: "steps", "aria-label": "Turns" }, this.links.map((link) => el("li", {}, link)));
  }

  get count() { return this.data.turns.length + (this.ended ? 1 : 0); }

  // Go to a step, or the nearest there is.
  show(step) {
    const wanted = Math.max(0, Math.min(step, this.count - 1));
    if (wanted === this.step) return wanted;
    this.links[this.step]?.removeAttribute("aria-current");
    this.step = wanted;
    const link = this.links[wanted];
    link?.setAttribute("aria-current", "step");
    if (link) this.reveal(link);
    const turn = this.data.turns[wanted];
    this.detail.replaceChildren(...(turn ? turnParts(turn, wanted, this.data.turns.length) : endParts(this.row, this.data)));
    this.detail.setAttribute("aria-label", turn ? `Turn ${wanted + 1} of ${this.data.turns.length}` : "The end");
    this.curves?.mark(wanted);
    return wanted;
  }

  // Within the list of turns only: the page stays where it is.
  reveal(link) {
    const [box, around] = [link.getBoundingClientRect(), this.steps.getBoundingClientRect()];
    if (box.top < around.top) this.steps.scrollTop -= around.top - box.top;
    if (box.bottom > around.bottom) this.steps.scrollTop += box.bottom - around.bottom;
  }
}

function stepLink(i, turn, picked) {
  const flags = [
    turn.format || turn.refused ? el("span", { class: "flag error", title: "invalid" }, turn.format ? "no action" : "refused") : "",
    turn.reward ? el("span", { class: `flag ${turn.reward > 0 ? "won" : "lost"}` }, signed(turn.reward)) : "",
  ];
  return el("button", { type: "button", class: "step", on: { click: () => picked(i) } },
    el("span", { class: "index" }, i + 1), el("code", {}, (turn.action || "(empty)").slice(0, 300)), flags);
}

function endLink(i, row, picked) {
  return el("button", { type: "button", class: "step", on: { click: () => picked(i) } },
    el("span", { class: "index" }, "■"), el("span", { class: "end" }, "end"), badge(row.outcome));
}

function turnParts(turn, i, count) {
  const marks = [
    turn.format ? el("span", { class: "badge error" }, `no action found: ${turn.format}`) : "",
    !turn.format && turn.refused ? el("span", { class: "badge error" }, "action not accepted") : "",
    turn.format || turn.refused ? "" : el("span", { class: "badge plain" }, "valid"),
    el("span", { class: `badge ${turn.reward > 0 ? "won" : turn.reward < 0 ? "lost" : "plain"}` }, `reward ${signed(turn.reward ?? 0)}`),
    turn.cut ? el("span", { class: "badge truncated" }, `response cut: ${turn.cut}`) : "",
    turn.dropped ? el("span", { class: "badge truncated" }, `${counted(turn.dropped, "turn")} left out of the prompt`) : "",
  ];
  const parts = [el("header", {}, el("h2", {}, `Turn ${i + 1} `, el("span", { class: "soft" }, `of ${count}`)), el("div", { class: "marks" }, marks))];
  const figures = turnFigures(turn);
  if (figures) parts.push(figures);
  parts.push(textBlock("Observation", turn.observation ?? ""));
  if (turn.thoughts) parts.push(textBlock("Thoughts", turn.thoughts, "thoughts"));
  parts.push(textBlock("Action", turn.action ?? "", "action"));
  if (turn.refused && !turn.format) parts.push(el("p", { class: "note" }, `environment: ${turn.refused}`));
  if (turn.response) parts.push(el("details", {}, el("summary", {}, "Whole response"), textBlock("Response", turn.response)));
  return parts;
}

// Numbers of a turn, those that were recorded.
function turnFigures(turn) {
  const known = [
    ["entropy", turn.entropy, " nats"], ["α", turn.alpha, ""], ["advantage", turn.advantage, ""], ["applied", turn.applied, ""],
    ["prompt", turn.prompt, " tokens"], ["response", turn.tokens, " tokens"],
  ].filter(([, value]) => value !== undefined);
  return known.length && el("dl", { class: "figures" }, known.map(([name, value, unit]) => el("div", {}, el("dt", {}, name), el("dd", {}, short(value, 4) + unit))));
}

function endParts(row, data) {
  const why = row.reason ? `${row.outcome}: ${row.reason}` : row.outcome;
  return [
    el("header", {}, el("h2", {}, "The end"), el("div", { class: "marks" }, badge(row.outcome, why))),
    data.error ? textBlock("Error", data.error, "failure") : "",
    data.final ? textBlock("Last observation", data.final) : "",
    data.turns.length || data.final || data.error ? "" : el("p", { class: "note" }, "Nothing was recorded of it."),
  ].filter(Boolean);
}

// The head of an episode: outcome, task, and what else is known.
function episodeHead(row, data, level = "h1") {
  const words = row.reason ? `${row.outcome}: ${row.reason}` : row.outcome;
  const line = [
    row.type, row.source, `attempt ${row.attempt}`, counted(row.turns, "turn"), `return ${short(row.result)}`, `score ${short(row.score)}`,
    row.invalid ? `${row.invalid} invalid` : "",
  ].filter(Boolean).join(" · ");
  const facts = Object.entries(data.facts).filter(([, value]) => value !== "");
  return el("header", { class: "episode-head" },
    el(level, { tabindex: "-1" }, badge(row.outcome, words), " ", el("span", { class: "task" }, row.task)),
    row.goal ? el("p", { class: "goal" }, row.goal) : "",
    el("p", { class: "soft" }, line),
    el("details", { class: "facts" }, el("summary", {}, "Details"), el("dl", {}, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]))));
}
