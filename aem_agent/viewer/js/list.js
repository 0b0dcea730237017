// A list of any length: only the rows in sight exist, and they are used again as it scrolls.

const narrow = window.matchMedia("(max-width: 700px)");
const low = window.matchMedia("(max-height: 560px)");

class VirtualList {
  // make(): an empty row {node, show(item)}; open(item, index): Enter, or a click.
  constructor({ label, make, open }) {
    this.make = make;
    this.open = open;
    this.items = [];
    this.active = 0;
    this.rows = [];
    this.space = el("div", { class: "space", role: "presentation" });
    this.node = el("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label, id: "list" }, this.space);
    this.node.addEventListener("scroll", () => this.later(), { passive: true });
    this.node.addEventListener("click", (event) => this.clicked(event));
    new ResizeObserver(() => this.later()).observe(this.node);
    narrow.addEventListener("change", () => this.set(this.items, this.active));
  }

  get height() { return narrow.matches ? 64 : 42; } // as in the style sheet

  set(items, active = 0) {
    this.items = items;
    this.active = Math.max(0, Math.min(active, items.length - 1));
    this.space.style.height = `${items.length * this.height}px`;
    for (const row of this.rows) row.index = -1;
    this.draw();
  }

  // Choose a row, and bring it into sight.
  choose(index) {
    if (!this.items.length) return;
    this.active = Math.max(0, Math.min(index, this.items.length - 1));
    const top = this.active * this.height;
    const { scrollTop, clientHeight } = this.node;
    if (top < scrollTop) this.node.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.node.scrollTop = top + this.height - clientHeight;
    this.draw();
    this.rows.find((row) => row.index === this.active)?.node.scrollIntoView({ block: "nearest" }); // where the page scrolls
  }

  get page() { return Math.max(1, Math.floor(this.node.clientHeight / this.height) - 1); }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  // Row i of the list is drawn by element i modulo their number, so that scrolling by one changes one.
  draw() {
    const { height, items } = this;
    const first = Math.max(0, Math.floor(this.node.scrollTop / height) - 4);
    const size = Math.ceil((this.node.clientHeight || 800) / height) + 9;
    while (this.rows.length < size) this.grow();
    const count = this.rows.length;
    for (let k = 0; k < count; k += 1) {
      const i = first + k;
      const row = this.rows[i % count];
      row.node.hidden = i >= items.length;
      if (row.node.hidden) {
        row.index = -1;
        row.node.removeAttribute("id");
      } else if (row.index !== i) {
        row.index = i;
        row.node.id = `row-${i}`;
        row.node.style.transform = `translateY(${i * height}px)`;
        row.node.setAttribute("aria-posinset", i + 1);
        row.node.setAttribute("aria-setsize", items.length);
        row.show(items[i]);
      }
      row.node.setAttribute("aria-selected", i === this.active);
    }
    const drawn = this.rows.some((row) => row.index === this.active); // it may have been scrolled away
    if (drawn) this.node.setAttribute("aria-activedescendant", `row-${this.active}`);
    else this.node.removeAttribute("aria-activedescendant");
  }

  grow() {
    const row = { index: -1, ...this.make() };
    row.node.setAttribute("role", "option");
    this.rows.push(row);
    this.space.append(row.node);
    for (const other of this.rows) other.index = -1; // their number decides which is where
  }

  clicked(event) {
    const node = event.target.closest("[role=option]");
    const row = this.rows.find((r) => r.node === node);
    if (!row) return;
    this.choose(row.index);
    this.open(this.items[row.index], row.index);
  }
}
