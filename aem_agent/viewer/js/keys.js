// The keyboard: what each key does, in the list and in an episode, and the help that says so.

const HELP = [
  ["In the list", [["j k ↓ ↑", "next, previous"], ["PgDn PgUp", "a page on, back"], ["Home End", "first, last"], ["Enter", "open"], ["/", "filter by task"]]],
  ["In an episode", [["j k → ←", "next, previous turn"], ["g G", "first turn, the end"], ["n p", "next, previous episode of the list"], ["Esc", "back to the list"]]],
  ["Everywhere", [["?", "this help"]]],
];

function helpDialog() {
  const parts = HELP.map(([where, keys]) => [el("h3", {}, where), el("dl", { class: "keys" },
    keys.map(([key, words]) => [el("dt", {}, key.split(" ").map((k) => el("kbd", {}, k))), el("dd", {}, words)]))]);
  const dialog = el("dialog", { "aria-labelledby": "help-title" }, el("h2", { id: "help-title" }, "Keys"), parts.flat(),
    el("p", { class: "soft" }, "This page is one file. It asks nothing of the network, and changes nothing."),
    button("Close", () => dialog.close(), { class: "main" }));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  return dialog;
}

// `list` and `reader` map keys to what they do; `reading()` says which of them counts.
function listen({ list, reader, reading, help }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const writing = event.target.matches("input, select, textarea");
    if (writing && event.key === "Escape") {
      event.target.blur();
      list.Leave();
      event.preventDefault();
      return;
    }
    if (writing && !(event.key === "Enter" && event.target.matches("input"))) return;
    if (event.key === "?") {
      help.showModal();
      event.preventDefault();
      return;
    }
    const onControl = event.target.closest("button, a, summary");
    if (onControl && (event.key === "Enter" || event.key === " ")) return; // theirs
    const action = (reading() ? reader : list)[event.key];
    if (!action || action(event) === false) return;
    event.preventDefault();
  });
}
