// The page: a list, and what is open from it. The address says both: #q=…&outcome=…&episode=12&turn=3.

async function start() {
  if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old: it has no DecompressionStream");
  const head = await unpack(document.getElementById("head").textContent);
  const runs = head.runs.map(makeRun);
  for (const run of runs) run.names.attempts = largest(run.columns.attempt);
  const pairs = head.comparison?.pairs;
  const kind = pairs ? pairKind(runs[0], runs[1], pairs) : episodeKind(runs[0]);
  const page = pairs
    ? { word: "pair", head: comparisonHead(runs, head.comparison), row: pairRow, view: pairView }
    : { word: "episode", head: runHead(runs[0]), row: () => episodeRow(kind), view: episodeView };
  const browser = new Browser(kind, page);
  performance.mark("aem-list");
  browser.route(); // what it opens may have to wait for more of the file
}

class Browser {
  constructor(kind, page) {
    // `open` and, once it is there, its view `opened`; `wanted` is its step. `current` is also what could not be opened;
    // `visit` tells one opening from the next.
    Object.assign(this, { kind, page, open: null, current: null, opened: null, wanted: 0, visit: null, scrolled: 0, title: document.title });
    this.state = readFilters(kind, this.address());
    this.list = new VirtualList({ label: `${kind.noun}s`, make: page.row, open: (item) => this.enter(item, 0) });
    const longest = largest(kind.items.map((item) => (item.a ?? item).task.length));
    this.list.node.style.setProperty("--task", `${Math.max(10, Math.min(40, longest))}ch`);
    this.filters = this.panel();
    this.count = el("p", { class: "shown" });
    this.clearing = button("Clear the filters", () => this.clear(), { class: "quiet" });
    this.empty = el("p", { class: "empty" }, kind.items.length ? ["Nothing matches. ", this.clearing] : "No episode is recorded yet.");
    this.help = helpDialog();
    this.listView = el("main", { class: "browse" }, el("header", { class: "top" }, page.head, this.helpButton()), this.filters.node,
      el("div", { class: "results" }, this.count, this.empty, this.list.node));
    this.reader = el("main", { class: "reader", hidden: true });
    document.getElementById("app").replaceChildren(this.listView, this.reader, this.help);
    this.apply();
    listen({ list: this.listKeys(), reader: this.readerKeys(), reading: () => !this.reader.hidden, help: this.help });
    window.addEventListener("hashchange", () => this.route());
  }

  panel() {
    return filterPanel(this.kind, this.state, () => this.changed());
  }

  helpButton() {
    return button("?", () => this.help.showModal(), { class: "help", "aria-label": "Keys and help" });
  }

  address() {
    return new URLSearchParams(location.hash.slice(1));
  }

  // The address of the list as it is, and of what is open.
  written(item, step) {
    const address = new URLSearchParams();
    writeFilters(this.kind, this.state, address);
    if (item) address.set(this.page.word, item.number);
    if (item && step) address.set("turn", step + 1);
    return `#${address}`;
  }

  // The list under the present filters.
  apply(active = 0) {
    const started = performance.now();
    const { items, counts } = select(this.kind, this.state);
    this.filters.show(counts);
    this.list.set(items, active);
    const words = items.length === this.kind.items.length ? counted(items.length, this.kind.noun)
      : `${items.length.toLocaleString("en")} of ${counted(this.kind.items.length, this.kind.noun)}`;
    this.count.textContent = words;
    this.empty.hidden = items.length > 0;
    this.list.node.hidden = items.length === 0;
    performance.measure("aem-filter", { start: started });
    return words;
  }

  changed() {
    this.leave(); // what is still to be opened
    announce(this.apply());
    this.list.node.scrollTop = 0;
    history.replaceState(null, "", this.written());
  }

  clear() {
    this.adopt(new URLSearchParams());
    history.replaceState(null, "", this.written());
    this.filters.search.focus();
  }

  // Filter and sort as an address says, with controls that show it.
  adopt(address) {
    const wanted = readFilters(this.kind, address);
    const [now, then] = [this.state, wanted].map((state) => {
      const written = new URLSearchParams();
      writeFilters(this.kind, state, written);
      return String(written);
    });
    if (now === then) return;
    this.state = wanted;
    const before = this.filters.node;
    this.filters = this.panel();
    before.replaceWith(this.filters.node);
    this.apply();
  }

  // Do what the address says: it was typed, followed, or is that of a step back.
  route() {
    const address = this.address();
    this.adopt(address);
    const item = this.kind.items[(integer(address.get(this.page.word)) ?? 0) - 1];
    if (item) this.enter(item, Math.max(0, (integer(address.get("turn")) ?? 1) - 1), false);
    else this.leave();
  }

  async enter(item, step, record = true) {
    this.wanted = step;
    if (this.open === item) return this.go(step); // where it is not there yet, it comes with this step
    const started = performance.now();
    const visit = Symbol("visit");
    Object.assign(this, { open: item, current: item, opened: null, visit });
    if (record) history.pushState(null, "", this.written(item, step));
    const view = await this.page.view(item, (to) => this.go(to)).catch((error) => this.failed(item, error));
    if (this.visit !== visit) return undefined; // something else was opened meanwhile, or nothing
    this.turnPage(item, view.node, view.count ? this.steps() : "");
    if (view.count) this.opened = view;
    else this.open = null; // it failed: the next try is a new one
    this.go(this.wanted, false);
    view.focus();
    performance.measure("aem-open", { start: started });
    return undefined;
  }

  // From the list to the reader, or from one page of the reader to the next.
  turnPage(item, ...parts) {
    if (this.reader.hidden) this.scrolled = window.scrollY;
    this.reader.replaceChildren(this.bar(item), ...parts);
    this.listView.hidden = true;
    this.reader.hidden = false;
    document.title = `${(item.a ?? item).task} · ${this.title}`;
    window.scrollTo(0, 0);
    const place = this.list.items.indexOf(item);
    if (place >= 0) this.list.active = place;
  }

  // What the reader shows of an item that cannot be opened: no steps.
  failed(item, error) {
    const again = button("Try again", () => this.enter(item, this.wanted, false), { class: "main" });
    const words = `${this.kind.noun} ${item.number} cannot be shown: ${error.message}`;
    return { node: el("div", { class: "empty", role: "alert" }, el("p", {}, words), again), count: 0, focus: () => again.focus() };
  }

  go(step, record = true) {
    if (!this.opened) return;
    const at = this.opened.show(step);
    this.position.textContent = `${at + 1} / ${this.opened.count}`;
    this.back.disabled = at === 0;
    this.on.disabled = at >= this.opened.count - 1;
    if (record) {
      announce(`turn ${at + 1} of ${this.opened.count}`);
      history.replaceState(null, "", this.written(this.open, at));
    }
  }

  // Nothing while the next episode is fetched: its step is not the old one's.
  step(by) {
    if (this.opened) this.go(this.opened.step + by);
  }

  leave() {
    Object.assign(this, { open: null, opened: null, visit: null });
    if (this.reader.hidden) return;
    this.reader.hidden = true;
    this.reader.replaceChildren();
    this.listView.hidden = false;
    document.title = this.title;
    window.scrollTo(0, this.scrolled);
    this.list.draw();
    this.focusList();
    this.list.choose(this.list.active);
  }

  // The list, or where it is empty what helps.
  focusList() {
    (this.list.items.length ? this.list.node : this.kind.items.length ? this.clearing : this.filters.search).focus({ preventScroll: true });
  }

  close() {
    history.pushState(null, "", this.written());
    this.leave();
  }

  // The neighbour of what is open, in the list as it is filtered and sorted.
  neighbour(by) {
    const place = this.list.items.indexOf(this.current);
    return place < 0 ? undefined : this.list.items[place + by];
  }

  turnTo(by) {
    const item = this.neighbour(by);
    if (item) this.enter(item, 0);
  }

  bar(item) {
    const place = this.list.items.indexOf(item);
    const where = place < 0 ? `${this.kind.noun} ${item.number}` : `${(place + 1).toLocaleString("en")} of ${this.list.items.length.toLocaleString("en")}`;
    const next = (by, words, sign) => button(sign, () => this.turnTo(by), { "aria-label": `${words} ${this.kind.noun}`, disabled: !this.neighbour(by) });
    return el("nav", { class: "bar", "aria-label": `${this.kind.noun}s` }, button("← List", () => this.close(), { class: "close" }),
      el("span", { class: "where" }, where), next(-1, "previous", "‹"), next(1, "next", "›"), this.helpButton());
  }

  steps() {
    this.position = el("span", { class: "position" });
    this.back = button("‹ Back", () => this.step(-1), { "aria-label": "previous turn" });
    this.on = button("Next ›", () => this.step(1), { "aria-label": "next turn", class: "main" });
    return el("nav", { class: "stepper", "aria-label": "Turns" }, this.back, this.position, this.on);
  }

  listKeys() {
    const by = (n) => () => { this.list.node.focus(); this.list.choose(this.list.active + n); };
    const to = (place) => () => { this.list.node.focus(); this.list.choose(place()); };
    const page = (sign) => () => by(sign * this.list.page)();
    const enter = () => { if (this.list.items.length) this.enter(this.list.items[this.list.active], 0); };
    return {
      j: by(1), ArrowDown: by(1), k: by(-1), ArrowUp: by(-1), PageDown: page(1), PageUp: page(-1),
      Home: to(() => 0), End: to(() => this.list.items.length - 1), Enter: enter, o: enter,
      "/": () => { this.filters.search.focus(); this.filters.search.select(); },
      Leave: () => { if (this.reader.hidden) this.focusList(); },
    };
  }

  readerKeys() {
    const by = (n) => () => this.step(n);
    return {
      j: by(1), ArrowRight: by(1), k: by(-1), ArrowLeft: by(-1),
      g: () => this.go(0), G: () => this.go(Infinity),
      n: () => this.turnTo(1), p: () => this.turnTo(-1), Escape: () => this.close(),
      "/": () => { this.close(); this.filters.search.focus(); },
    };
  }
}

start().catch((error) => {
  document.getElementById("app").replaceChildren(el("p", { class: "empty" }, `This page cannot be shown: ${error.message}`));
});
