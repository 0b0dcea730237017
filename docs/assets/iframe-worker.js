// Browsers start no worker from a file. On pages opened from a folder a hidden frame runs the search in its place;
// the theme asks whether there is an IFrameWorker, and else takes the browser's own.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.inside = new Promise(ready =>
        frame.addEventListener("load", () => this.start(frame.contentWindow, url).then(ready), { once: true })
      )
      document.body.append(frame)
    }

    async start(inside, url) {
      const load = src =>
        new Promise((done, failed) => {
          const script = Object.assign(inside.document.createElement("script"), { src, onload: done, onerror: failed })
          inside.document.head.append(script)
        })
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = (...urls) => urls.reduce((before, next) => before.then(() => load(next)), Promise.resolve())
      await load(url)
      return inside
    }

    postMessage(data) {
      this.inside.then(inside => inside.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {}
  }
  window.Worker = window.IFrameWorker
}
