// What stands above a list: the run, or the two runs and how they differ; and what a row of either list looks like.

// A run that was not played to its end; nothing of one that was.
function incomplete(run, name) {
  return run.missing ? el("p", { class: "warn" }, `${name} is incomplete: ${counted(run.missing, "planned episode")} not played`) : "";
}

function runHead(run) {
  const rates = run.rates;
  const facts = rates
    ? [["Success", percent(rates.success), `95 %: ${(100 * rates.interval[0]).toFixed(1)}–${percent(rates.interval[1])}`],
      ["Won", rates.won.toLocaleString("en"), `of ${counted(rates.n, "episode")}`]]
    : [["Episodes", run.count.toLocaleString("en"), run.training ? "recorded in training" : "none completed"]];
  facts.push(["Tasks", run.names.task.length.toLocaleString("en"), run.names.type.length > 1 ? `${run.names.type.length} types` : ""]);
  const link = run.report ? el("a", { href: run.report }, "Report") : "";
  return el("div", { class: "title" }, el("div", { class: "what" }, el("h1", {}, run.name), el("p", { class: "soft" }, run.details, link ? " · " : "", link), incomplete(run, "The run")),
    el("dl", { class: "tiles" }, facts.map(([name, value, note]) => el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, note))))));
}

function comparisonHead(runs, comparison) {
  const names = runs.map((run, i) => el("p", {}, el("b", { class: "letter" }, i ? "B" : "A"), " ", run.name, " ", el("span", { class: "soft" }, run.details)));
  const lines = [...differing(comparison.different), ...runs.map((run, i) => incomplete(run, i ? "B" : "A"))];
  const found = comparison.summary;
  if (!found && !runs[0].training) lines.push(el("p", { class: "warn" }, "No task was completed in both runs: there is no difference to tell"));
  if (found?.other_data) lines.push(el("p", { class: "warn" }, `${counted(found.other_data, "common task")} had other data in B`));
  const table = found ? differences(found) : "";
  return el("div", { class: "title" }, el("div", { class: "what" }, el("h1", {}, "Two runs"), names, lines), table);
}

// Settings in which the runs differ; many are folded.
function differing(lines) {
  const shown = lines.map((line) => el("p", { class: "warn" }, `The runs differ: ${line}`));
  return lines.length < 3 ? shown : [el("details", { class: "differing" }, el("summary", {}, `The runs differ in ${lines.length} settings`), shown)];
}

// B against A over their common tasks, with the 95 % interval of the difference.
function differences({ metrics, tasks }) {
  const rows = Object.entries(metrics).map(([name, { a, b, difference, interval }]) => {
    const scale = (value) => (name === "success" ? Math.round(1000 * value) / 10 : value); // in points
    const plain = (value) => (name === "success" ? percent(value) : short(value));
    return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, plain(a)), el("td", {}, plain(b)),
      el("td", { class: "strong" }, signed(scale(difference)), name === "success" ? " pt" : ""),
      el("td", {}, `${signed(scale(interval[0]))} to ${signed(scale(interval[1]))}`));
  });
  const words = `Over ${counted(tasks, "common task")}, B − A with its 95 % interval`;
  const table = el("table", { class: "differences", "aria-label": words },
    el("thead", {}, el("tr", {}, ["", "A", "B", "B − A", "95 %"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows));
  return el("details", { class: "found", open: !(narrow.matches || low.matches) }, el("summary", {}, words), el("div", { class: "scroll" }, table));
}

// What tells an episode from others of its name, and what it was about.
function noteOf(row, reason = true) {
  const attempt = row.run.names.attempts > 1 ? `attempt ${row.attempt}` : "";
  return [row.source, attempt, row.goal || row.type, reason ? row.reason : ""].filter(Boolean).join(" · ");
}

// A row of the list of episodes: an element that is filled again and again as the list scrolls.
function episodeRow(kind) {
  const names = ["number", "end", "task", "note", "turns", "invalid", "score", "entropy"];
  const parts = Object.fromEntries(names.map((name) => [name, el("span", { class: name })]));
  const shown = (name) => kind.sorts.find((s) => s.key === name).shown !== false;
  for (const name of ["invalid", "entropy"]) parts[name].hidden = !shown(name);
  const end = el("span");
  parts.end.append(end);
  const node = el("div", { class: "row episode-row" }, Object.values(parts));
  const show = (row) => {
    parts.number.textContent = row.number;
    end.className = `badge ${row.outcome}`;
    end.textContent = row.outcome;
    parts.task.textContent = parts.task.title = row.task;
    parts.note.textContent = noteOf(row);
    parts.turns.textContent = counted(row.turns, "turn");
    parts.invalid.textContent = row.invalid ? `${row.invalid} invalid` : "";
    parts.score.textContent = `score ${short(row.score)}`;
    parts.entropy.textContent = row.entropy === null ? "" : `H ${short(row.entropy)}`;
  };
  return { node, show };
}

// A row of the list of pairs.
function pairRow() {
  const parts = Object.fromEntries(["number", "task", "note"].map((name) => [name, el("span", { class: name })]));
  const sides = ["A", "B"].map((letter) => {
    const [end, turns] = [el("span"), el("span", { class: "turns" })];
    return { node: el("span", { class: "ends" }, el("b", { class: "letter" }, letter), end, turns), end, turns };
  });
  const node = el("div", { class: "row pair-row" }, parts.number, parts.task, parts.note, sides.map((side) => side.node));
  const show = (pair) => {
    parts.number.textContent = pair.number;
    parts.task.textContent = parts.task.title = pair.a.task;
    parts.note.textContent = noteOf(pair.a, false);
    [pair.a, pair.b].forEach((row, i) => {
      sides[i].end.className = `badge ${row.outcome}`;
      sides[i].end.textContent = row.outcome;
      sides[i].turns.textContent = row.turns;
      sides[i].turns.title = counted(row.turns, "turn");
    });
  };
  return { node, show };
}
