// Runs the model beside the page, so that the page stays awake: loads it once, then makes windows on request.
import * as ort from "./runtime/ort.wasm.min.mjs";
import { ddim, method } from "./sampler.js";

let model, session, latest = 0;

async function load() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
  const file = (name) => new URL(`./digits32/${name}`, import.meta.url);
  const fetched = async (name) => {
    const answer = await fetch(file(name));
    if (!answer.ok) throw new Error(`${name} could not be read (${answer.status})`);
    return answer;
  };
  const [card, weights] = await Promise.all([fetched("model.json").then((a) => a.json()), fetched("model.onnx").then((a) => a.arrayBuffer())]);
  model = card;
  session = await ort.InferenceSession.create(weights, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
}

async function run(xt, t, blend, cache) {
  const { channels, frames, size: [h, w] } = model;
  const inputs = {
    xt: new ort.Tensor("float32", xt, [1, channels, frames, h, w]),
    t: new ort.Tensor("int64", BigInt64Array.from(t, BigInt), [1, frames]),
    blend: new ort.Tensor("float32", Float32Array.of(blend), []),
  };
  model.cache.forEach(({ name, shape }, i) => (inputs[`${name}.cache_in`] = new ort.Tensor("float32", cache[i], shape)));
  const out = await session.run(inputs);
  return { v: out.v_hat.data, cache: model.cache.map(({ name }) => out[`${name}.cache_out`].data) };
}

async function window_(request) {
  const id = request.id, started = performance.now();
  for await (const { t, step, x0 } of ddim(model, method(model, run, request), request.noise, request.steps)) {
    postMessage({ type: t === 0 ? "done" : "step", id, step, t, clip: x0, seconds: (performance.now() - started) / 1000 });
    await new Promise((resolve) => setTimeout(resolve)); // let a newer request in
    if (latest !== id) return;
  }
}

onmessage = async ({ data }) => {
  try {
    if (data.type === "load") {
      await load();
      postMessage({ type: "ready", model });
    } else if (data.type === "window") {
      latest = data.id;
      await window_(data);
    } else if (data.type === "stop") {
      latest = 0;
    }
  } catch (error) {
    postMessage({ type: "error", id: data.id, message: String(error.message || error) });
  }
};
