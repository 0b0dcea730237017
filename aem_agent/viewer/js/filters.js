// Which items of a list are shown, in which order; the controls for it; and the same as part of the page's address.

// State from the address (URLSearchParams).
function readFilters(kind, address) {
  const state = {
    q: address.get("q") ?? "",
    chips: new Set((address.get("outcome") ?? "").split(",").filter((v) => kind.chips.values.includes(v))),
    least: integer(address.get("least")),
    most: integer(address.get("most")),
    sort: kind.sorts.some((s) => s.key === address.get("sort")) ? address.get("sort") : "number",
    descending: address.get("order") === "desc",
  };
  for (const { key } of kind.selects) state[key] = address.get(key);
  return state;
}

// And back: only what is not at its default.
function writeFilters(kind, state, address) {
  if (state.q) address.set("q", state.q);
  if (state.chips.size) address.set("outcome", [...state.chips].join(","));
  if (state.least !== null) address.set("least", state.least);
  if (state.most !== null) address.set("most", state.most);
  if (state.sort !== "number") address.set("sort", state.sort);
  if (state.descending) address.set("order", "desc");
  for (const { key } of kind.selects) if (state[key] !== null) address.set(key, state[key]);
}

// {items, counts}: what is shown, in order, and how many there would be of each chip's value.
function select(kind, state) {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = kind.selects.filter(({ key }) => state[key] !== null);
  const counts = Object.fromEntries(kind.chips.values.map((value) => [value, 0]));
  const items = kind.items.filter((item) => {
    const length = kind.length(item);
    if (state.least !== null && length < state.least) return false;
    if (state.most !== null && length > state.most) return false;
    if (!words.every((word) => item.found.includes(word))) return false;
    if (!chosen.every(({ key, of }) => of(item) === state[key])) return false;
    const value = kind.chips.of(item);
    counts[value] += 1;
    return !state.chips.size || state.chips.has(value);
  });
  return { items: ordered(items, kind.sorts.find((s) => s.key === state.sort), state.descending), counts };
}

// What has no value comes last, either way round; equals stay in the order of their numbers.
function ordered(items, { of }, descending) {
  const sign = descending ? -1 : 1;
  return items
    .map((item) => [of(item), item])
    .sort(([x, a], [y, b]) => {
      if (x === y) return a.number - b.number;
      if (x === null || y === null) return x === null ? 1 : -1;
      return x < y ? -sign : sign;
    })
    .map(([, item]) => item);
}

// The controls. `changed()` is called after each change of `state`; `show(counts)` brings the counts up to date.
function filterPanel(kind, state, changed) {
  const input = (name, attributes, set) => el("input", {
    name, autocomplete: "off", ...attributes, on: { input: (event) => { set(event.target.value); changed(); } },
  });
  const search = input("q", { type: "search", placeholder: "Filter by task", "aria-label": "Filter by task", value: state.q },
    (value) => { state.q = value; });
  const limit = (name, label) => input(name, { type: "number", min: 0, inputmode: "numeric", placeholder: label,
    "aria-label": name === "least" ? "Turns, at least" : "Turns, at most", value: state[name] },
    (value) => { state[name] = integer(value); });
  const chips = new Map(kind.chips.values.map((value) => [value, chip(kind, state, value, changed)]));
  const fields = [el("div", { class: "field" }, el("span", { class: "label" }, kind.chips.label),
    el("div", { class: "chips", role: "group", "aria-label": kind.chips.label }, [...chips.values()].map((c) => c.node)))];
  for (const choice of kind.selects) if (choice.shown) fields.push(choices(kind, choice, state, changed));
  fields.push(el("div", { class: "field" }, el("span", { class: "label" }, "Turns"),
    el("div", { class: "range" }, limit("least", "from"), "–", limit("most", "to"))));
  fields.push(sorting(kind, state, changed));
  const more = el("div", { class: "more", id: "more-filters" }, fields);
  const toggle = button("Filters", () => {
    const open = more.classList.toggle("open");
    toggle.setAttribute("aria-expanded", open);
  }, { class: "toggle", "aria-expanded": "false", "aria-controls": "more-filters" });
  const show = (counts) => chips.forEach((c, value) => c.show(counts[value]));
  return { node: el("search", { class: "filters" }, el("div", { class: "first" }, search, toggle), more), search, show };
}

function chip(kind, state, value, changed) {
  const count = el("span", { class: "count" });
  const node = button(kind.chips.words(value), () => {
    if (!state.chips.delete(value)) state.chips.add(value);
    changed();
  }, { class: `chip ${value}`, "data-value": value });
  node.append(count);
  const show = (n) => {
    count.textContent = n.toLocaleString("en");
    node.setAttribute("aria-pressed", state.chips.has(value));
  };
  return { node, show };
}

function choices(kind, { key, label, of }, state, changed) {
  const counts = new Map();
  for (const item of kind.items) counts.set(of(item), (counts.get(of(item)) ?? 0) + 1);
  const values = [...counts.keys()];
  if (key !== "source") values.sort((a, b) => a.localeCompare(b, "en", { numeric: true })); // sources are in order of time
  const options = values.filter((value) => value !== "" || key === "type")
    .map((value) => el("option", { value: `=${value}`, selected: state[key] === value }, `${value || "(none)"} (${counts.get(value)})`));
  return el("label", { class: "field" }, el("span", { class: "label" }, label),
    el("select", { name: key, on: { change: (event) => {
      state[key] = event.target.value === "" ? null : event.target.value.slice(1);
      changed();
    } } }, el("option", { value: "" }, "all"), options));
}

function sorting(kind, state, changed) {
  const options = kind.sorts.filter((s) => s.shown !== false)
    .map((s) => el("option", { value: s.key, selected: s.key === state.sort }, s.label));
  const order = button("", () => { state.descending = !state.descending; changed(); show(); }, { class: "order" });
  const list = el("select", { name: "sort", "aria-label": "Sort by",
    on: { change: (event) => { state.sort = event.target.value; changed(); } } }, options);
  const show = () => {
    order.textContent = state.descending ? "↓" : "↑";
    order.setAttribute("aria-label", state.descending ? "descending" : "ascending");
  };
  show();
  return el("div", { class: "field" }, el("span", { class: "label" }, "Sort by"), el("div", { class: "range" }, list, order));
}
