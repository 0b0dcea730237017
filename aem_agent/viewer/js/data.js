// The page's data: base64 of deflated JSON. The list of episodes is read at once, their contents when they are opened.

const KEPT = 8; // inflated chunks that are kept
const inflated = new Map();

function bytes(base64) {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) found[i] = text.charCodeAt(i);
  return found;
}

async function unpack(base64) {
  const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// The whole file is there: chunks come after the script, so that the list shows while they are still read.
const whole = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
  else resolve();
});

// The element of a chunk, once all of its text is there: the last one of a page that is still read may lack some.
function chunk(id) {
  const node = document.getElementById(id);
  return node && (node.nextSibling || document.readyState !== "loading") ? node : null;
}

// What happened in the episode of `row`: {turns, final, error, facts}.
async function contents(row) {
  const id = `chunk-${row.run.number}-${row.chunk}`;
  if (!chunk(id)) await whole;
  if (!chunk(id)) throw new Error("the file is not whole: this part is missing");
  if (!inflated.has(id)) {
    const found = unpack(chunk(id).textContent);
    inflated.set(id, found);
    found.catch(() => inflated.delete(id)); // the next try is a new one
    for (const old of inflated.keys()) {
      if (inflated.size <= KEPT) break;
      inflated.delete(old);
    }
  }
  return (await inflated.get(id))[row.position];
}
