// From columns to rows, and what filters, sorting and the list need to know of them: a "kind" of list.

const NAMED = ["task", "type", "goal", "reason", "source"]; // columns that count in a table of names

function makeRun(data, number) {
  const run = { ...data, number };
  run.rows = Array.from({ length: data.count }, (_, i) => {
    const row = { run, number: i + 1 };
    for (const [name, values] of Object.entries(data.columns)) row[name] = values[i];
    for (const name of NAMED) row[name] = data.names[name][row[name]];
    row.found = `${row.task} ${row.goal}`.toLowerCase();
    return row;
  });
  return run;
}

// Episodes of one run.
function episodeKind(run) {
  const has = (name) => run.rows.some((row) => row[name] !== null && row[name] !== "");
  const several = (name) => new Set(run.rows.map((row) => row[name])).size > 1;
  return {
    noun: "episode",
    items: run.rows,
    chips: { label: "Outcome", values: OUTCOMES, words: (v) => v, of: (row) => row.outcome },
    selects: [
      { key: "reason", label: "Why it ended", of: (row) => row.reason, shown: has("reason") },
      { key: "type", label: "Task type", of: (row) => row.type, shown: several("type") },
      { key: "source", label: "When", of: (row) => row.source, shown: several("source") },
      { key: "attempt", label: "Attempt", of: (row) => String(row.attempt), shown: several("attempt") },
    ],
    length: (row) => row.turns,
    sorts: [
      { key: "number", label: "Number", of: (row) => row.number },
      { key: "outcome", label: "Outcome", of: (row) => OUTCOMES.indexOf(row.outcome) },
      { key: "task", label: "Task", of: (row) => row.task },
      { key: "attempt", label: "Attempt", of: (row) => row.attempt, shown: several("attempt") },
      { key: "turns", label: "Turns", of: (row) => row.turns },
      { key: "invalid", label: "Invalid turns", of: (row) => row.invalid, shown: run.rows.some((row) => row.invalid) },
      { key: "score", label: "Score", of: (row) => row.score },
      { key: "entropy", label: "Entropy", of: (row) => row.entropy, shown: has("entropy") },
    ],
  };
}

const VERDICTS = { a: "won in A only", b: "won in B only", both: "both", neither: "neither", error: "errored" };

// An errored episode is neither won nor lost.
function verdict(a, b) {
  if (a.outcome === "error" || b.outcome === "error") return "error";
  if (a.outcome === "won") return b.outcome === "won" ? "both" : "a";
  return b.outcome === "won" ? "b" : "neither";
}

// Episodes of two runs, paired by task and attempt.
function pairKind(a, b, pairs) {
  const items = pairs.map(([i, j], k) => {
    const [left, right] = [a.rows[i], b.rows[j]];
    return { number: k + 1, a: left, b: right, verdict: verdict(left, right), found: left.found };
  });
  const several = (name) => new Set(items.map((pair) => pair.a[name])).size > 1;
  return {
    noun: "pair",
    items,
    chips: { label: "Who won", values: Object.keys(VERDICTS), words: (v) => VERDICTS[v], of: (pair) => pair.verdict },
    selects: [
      { key: "type", label: "Task type", of: (pair) => pair.a.type, shown: several("type") },
      { key: "source", label: "When", of: (pair) => pair.a.source, shown: several("source") },
      { key: "attempt", label: "Attempt", of: (pair) => String(pair.a.attempt), shown: several("attempt") },
    ],
    length: (pair) => Math.max(pair.a.turns, pair.b.turns),
    sorts: [
      { key: "number", label: "Number", of: (pair) => pair.number },
      { key: "task", label: "Task", of: (pair) => pair.a.task },
      { key: "attempt", label: "Attempt", of: (pair) => pair.a.attempt, shown: several("attempt") },
      { key: "a", label: "A", of: (pair) => OUTCOMES.indexOf(pair.a.outcome) * 1e6 + pair.a.turns },
      { key: "b", label: "B", of: (pair) => OUTCOMES.indexOf(pair.b.outcome) * 1e6 + pair.b.turns },
      { key: "difference", label: "Turns B − A", of: (pair) => pair.b.turns - pair.a.turns },
    ],
  };
}
