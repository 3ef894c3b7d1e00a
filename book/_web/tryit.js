// The page "Try it": buttons and sliders on one side, the worker that runs the model on the other.
import { framePixels, normals } from "./sampler.js";
import { gif } from "./gif.js";

const KEPT = 480; // frames that stay in memory; older ones are forgotten, the count goes on
const get = (id) => document.getElementById(`try-${id}`);
const [box, words] = [document.getElementById("tryit"), document.getElementById("try-words")];
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const state = { frames: [], joins: new Set(), forgotten: 0, shown: 0, windows: 0, preview: null, busy: 0, forever: false, playing: false };
let worker, model, nextId = 1;
const waiting = new Map();

function giveUp(reason) {
  box.hidden = true;
  words.textContent = `The model cannot run on this page: ${reason} The notebooks show the same sliders with results computed beforehand.`;
}

function begin() {
  if (typeof WebAssembly !== "object") return giveUp("this browser has no WebAssembly.");
  words.hidden = true;
  box.hidden = false;
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => answers[data.type](data);
  worker.onerror = (event) => giveUp(`its program could not be loaded (${event.message || "was the site built without npm?"}).`);
  worker.postMessage({ type: "load" });
}

// What stands on the page until the reader's first clip: 16 frames side by side, made when the page was.
const example = new Image();
example.onload = () => { if (!state.frames.length && !state.preview) drawExample(); };
example.src = new URL("./digits32/example.png", import.meta.url);

const perLine = () => (get("strip").parentElement.clientWidth < 500 ? 8 : 16); // frames of the strip, side by side

function drawExample() {
  const size = example.naturalHeight, frames = example.naturalWidth / size, gap = 4, strip = get("strip"), frame = get("frame"), columns = perLine();
  [frame.width, frame.height, strip.width, strip.height] = [size, size, columns * (size + gap), Math.ceil(frames / columns) * (size + gap)];
  frame.getContext("2d").drawImage(example, -(frames - 1) * size, 0);
  for (let i = 0; i < frames; i++) {
    const [x, y] = [(i % columns) * (size + gap) + gap, Math.floor(i / columns) * (size + gap) + gap / 2];
    strip.getContext("2d").drawImage(example, i * size, 0, size, size, x, y, size, size);
  }
  get("count").textContent = "an example: five frames given, eleven made by the model";
}

const answers = {
  ready({ model: card }) {
    model = card;
    status("Ready. Start a clip: the model draws it from noise.");
    get("start").disabled = false;
    box.dataset.ready = "yes";
  },
  step({ id, step, clip }) {
    const job = waiting.get(id);
    if (!job) return;
    state.preview = { clip, from: job.request.past ? model.overlap : 0 };
    status(`Window ${state.windows + 1}: step ${step + 1} of ${job.request.steps}`);
    draw();
  },
  done({ id, clip, seconds }) {
    const job = waiting.get(id);
    waiting.delete(id);
    state.preview = null;
    if (job) job.resolve({ clip, seconds });
  },
  error({ id, message }) {
    const job = waiting.get(id);
    waiting.delete(id);
    state.forever = false;
    state.busy = 0;
    status(`That did not work: ${message}`);
    if (job) job.reject(new Error(message));
    else giveUp(`${message}.`);
    controls();
  },
};

const status = (text) => { get("status").textContent = text; };
const settings = () => ({
  name: document.querySelector("input[name=try-method]:checked").value,
  weight: Number(get("weight").value), blend: Number(get("blend").value), steps: Number(get("steps").value),
});

// One window from the worker. request: { noise, past, name, weight, blend, steps }; a newer request makes an older one stop.
function ask(request) {
  const id = nextId++;
  state.busy = id;
  controls();
  for (const [old, job] of waiting) { waiting.delete(old); job.resolve(null); }
  return new Promise((resolve, reject) => {
    waiting.set(id, { request, resolve, reject });
    worker.postMessage({ type: "window", id, ...request });
  }).finally(() => { if (state.busy === id) state.busy = 0; controls(); });
}

const noise = () => normals(Number(get("seed").value) * 1000003 + state.windows, model.frames * framePixels(model));

function keep(clip, from) {
  const n = framePixels(model);
  if (from) state.joins.add(state.forgotten + state.frames.length);
  for (let i = from; i < model.frames; i++) state.frames.push(clip.slice(i * n, (i + 1) * n));
  state.windows++;
  while (state.frames.length > KEPT) { state.frames.shift(); state.joins.delete(state.forgotten++); }
}

async function start() {
  Object.assign(state, { frames: [], joins: new Set(), forgotten: 0, shown: 0, windows: 0, forever: false, preview: null });
  const made = await ask({ ...settings(), noise: noise(), past: null });
  if (!made) return;
  keep(made.clip, 0);
  status(`A clip of ${model.frames} frames, made in ${made.seconds.toFixed(1)} s. Now let it go on.`);
  play(!still);
  draw();
}

async function goOn() {
  state.forever = !state.forever;
  controls();
  while (state.forever) {
    // Not further ahead of what is shown than a reader can wait for.
    if (state.playing && state.frames.length - state.shown > 60) { await new Promise((r) => setTimeout(r, 200)); continue; }
    const n = framePixels(model), past = new Float32Array(model.overlap * n);
    state.frames.slice(-model.overlap).forEach((frame, i) => past.set(frame, i * n));
    const made = await ask({ ...settings(), noise: noise(), past });
    if (!made) return;
    keep(made.clip, model.overlap);
    status(`Window ${state.windows} made in ${made.seconds.toFixed(1)} s, ${(made.seconds / (model.frames - model.overlap)).toFixed(2)} s a frame.`);
    draw();
  }
}

function play(on) {
  state.playing = on;
  controls();
}

setInterval(() => {
  if (!state.playing || !state.frames.length || document.hidden) return;
  if (state.shown < state.frames.length - 1) state.shown++;
  else if (!state.busy && !state.forever) state.shown = 0;
  else return;
  draw();
}, 100);

function paint(context, frame, x, y) {
  const [h, w] = model.size, image = context.createImageData(w, h);
  for (let i = 0; i < h * w; i++) {
    image.data.fill(Math.round(255 * Math.min(1, Math.max(0, (frame[i] + 1) / 2))), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, x, y);
}

function draw() {
  if (!model) return;
  const n = framePixels(model), [h, w] = model.size, coming = [];
  if (state.preview) for (let i = state.preview.from; i < model.frames; i++) coming.push(state.preview.clip.subarray(i * n, (i + 1) * n));
  const current = state.frames[state.shown] || coming[0], frame = get("frame");
  if (!current) return;
  [frame.height, frame.width] = model.size;
  paint(frame.getContext("2d"), current, 0, 0);
  get("count").textContent = `frame ${state.forgotten + state.shown + (state.frames.length ? 1 : 0)} of ${state.forgotten + state.frames.length}`;
  const strip = get("strip"), columns = perLine(), gap = 4;
  const made = state.frames.slice(-48), first = state.frames.length - made.length, all = [...made, ...coming];
  strip.width = columns * (w + gap);
  strip.height = Math.max(1, Math.ceil(all.length / columns)) * (h + gap);
  const context = strip.getContext("2d");
  all.forEach((frame, i) => {
    const x = (i % columns) * (w + gap) + gap, y = Math.floor(i / columns) * (h + gap) + gap / 2;
    paint(context, frame, x, y);
    if (i < made.length && state.joins.has(state.forgotten + first + i)) { context.fillStyle = "#D55E00"; context.fillRect(x - gap + 1, y, 2, h); }
    if (i >= made.length) { context.strokeStyle = "#999999"; context.setLineDash([2, 2]); context.strokeRect(x - 0.5, y - 0.5, w + 1, h + 1); context.setLineDash([]); }
    if (first + i === state.shown) { context.strokeStyle = "#0072B2"; context.lineWidth = 2; context.strokeRect(x - 1, y - 1, w + 2, h + 2); context.lineWidth = 1; }
  });
  const position = get("position");
  position.max = Math.max(0, state.frames.length - 1);
  position.value = state.shown;
  position.setAttribute("aria-valuetext", get("count").textContent);
}

function controls() {
  const any = state.frames.length > 0;
  get("extend").disabled = !any;
  get("play").disabled = get("save").disabled = get("position").disabled = !any;
  get("extend").textContent = state.forever ? "Stop making frames" : "Go on for ever";
  get("extend").setAttribute("aria-pressed", state.forever);
  get("play").textContent = state.playing ? "Pause" : "Play";
  get("play").setAttribute("aria-pressed", state.playing);
  box.setAttribute("aria-busy", state.busy > 0);
}

get("start").onclick = start;
get("extend").onclick = goOn;
get("play").onclick = () => play(!state.playing);
get("position").oninput = () => { play(false); state.shown = Number(get("position").value); draw(); };
for (const id of ["weight", "blend"]) get(id).oninput = () => { get(`${id}-value`).textContent = get(id).value; };
get("save").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(gif(state.frames, model.size[1]));
  link.download = `clip-seed-${get("seed").value}.gif`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

// For tests, and for readers with the console open: await tryIt.ask({ noise, past, name: "history", weight: 1.5, blend: 1, steps: 10 }).
window.tryIt = { ask, state, gif, normals, get model() { return model; } };
begin();
