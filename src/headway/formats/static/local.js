// What takes the server's place in an exported page: `headway.call` answers page.js from the bundle that the page holds.
"use strict";
globalThis.headway = (() => {
  const facts = JSON.parse(document.getElementById("bundle").textContent);
  const waiting = new Map(); // id → who is told
  const broken = (why) => ({ code: "broken", message: `The model does not run in this browser: ${why}` });

  /** The bytes that lie in the page as gzip in base64. */
  async function unpacked(id) {
    const element = document.getElementById(id);
    const packed = await fetch(`data:application/octet-stream;base64,${element.textContent.trim()}`);
    element.remove();
    return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  }

  /** Bytes of a module as its address. One by `blob:` would not be let in from a file. */
  function asData(bytes) {
    return new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.readAsDataURL(new Blob([bytes], { type: "text/javascript" }));
    });
  }

  function numbers(text, kind) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new kind(bytes.buffer);
  }

  /** The facts with every array in place of its text. */
  function whole({ golden, unknown, ...rest }) {
    const pairs = golden.map(([pixels, logits]) => ({ pixels: numbers(pixels, Uint8Array), logits }));
    if (!unknown) return { ...rest, golden: pairs, unknown };
    const { arrays, ...more } = unknown;
    const filled = Object.entries(arrays).map(([name, text]) => [name, numbers(text, Float32Array)]);
    return { ...rest, golden: pairs, unknown: { ...more, ...Object.fromEntries(filled) } };
  }

  async function start() {
    const blob = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    const [ort, wasm, model] = await Promise.all(["ort", "wasm", "model"].map(unpacked));
    const code = ["pillow", "worker"].map((id) => document.getElementById(id).textContent);
    const made = new Worker(blob(code.join("\n"))); // a module would not be let in from a file
    made.onmessage = ({ data: { id, ...answer } }) => {
      waiting.get(id)?.(answer);
      waiting.delete(id);
    };
    made.onerror = (event) => {
      worker = Promise.reject(new Error(event.message ?? "it starts no worker"));
      worker.catch(() => {});
      for (const tell of waiting.values()) tell(broken(event.message ?? "it starts no worker"));
      waiting.clear();
    };
    made.postMessage({ ort: await asData(ort), wasm, model, facts: whole(facts.worker) }, [wasm, model]);
    return made;
  }

  let count = 0;
  async function predict(file) {
    try {
      const made = await worker;
      count += 1;
      const id = count;
      return await new Promise((tell) => {
        waiting.set(id, tell);
        made.postMessage({ id, file });
      });
    } catch (error) {
      return broken(error.message);
    }
  }

  let worker = start();
  worker.catch(() => {});
  return { call: async (path, options) => (path === "model" ? { content: facts.model } : predict(options.body)) };
})();
