// The sampler and the two methods of this page: a twin of vdiff_lite's diffusion/samplers.py and methods/, in plain JavaScript.
// A clip is a Float32Array of f * h * w numbers in [-1, 1]. Nothing here knows about pages or workers;
// `model` is a card (model.json) and `run(xt, t, blend, cache) -> {v, cache}` the network.

// Noise levels of a run: t_i = round(T (1 - i / steps)), i = 0 .. steps. Halves go to the even side, as Python rounds.
export function trailingTimes(numTimesteps, steps) {
  if (!(steps >= 1 && steps <= numTimesteps)) throw new RangeError(`steps=${steps} must lie between 1 and ${numTimesteps}`);
  return Array.from({ length: steps + 1 }, (_, i) => {
    const x = (numTimesteps * (steps - i)) / steps, low = Math.floor(x);
    if (x - low !== 0.5) return Math.round(x);
    return low % 2 === 0 ? low : low + 1;
  });
}

// Standard normal numbers from a seed: mulberry32, then Box and Muller. Same seed, same numbers, in every browser.
export function normals(seed, count) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
  const out = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

export const framePixels = ({ channels, size: [h, w] }) => channels * h * w;
const emptyCache = (model) => model.cache.map(({ shape }) => new Float32Array(shape.reduce((a, b) => a * b, 1)));
const levels = (model, t, past = t) => Array.from({ length: model.frames }, (_, i) => (i < model.overlap ? past : t));

// x0_hat = sqrt(alpha_bar) x_t - sqrt(1 - alpha_bar) v_hat, each frame at its own level.
function x0FromV(model, xt, v, t) {
  const n = framePixels(model), x0 = new Float32Array(xt.length);
  t.forEach((level, frame) => {
    const signal = Math.sqrt(model.alpha_bar[level]), noise = Math.sqrt(1 - model.alpha_bar[level]);
    for (let i = frame * n; i < (frame + 1) * n; i++) x0[i] = signal * xt[i] - noise * v[i];
  });
  return x0;
}

// A denoiser is an async function (xt, t) -> x0_hat. Three of them:

// No past: the model as it is.
export function plain(model, run) {
  const empty = emptyCache(model);
  return async (xt, t) => x0FromV(model, xt, (await run(xt, levels(model, t), 0, empty)).v, levels(model, t));
}

// The past in the window at t = 0, guided: x0_hat = u + w (c - u), where u has pure noise in place of the past.
export function historyGuidance(model, run, past, weight) {
  const empty = emptyCache(model), known = past.length;
  return async (xt, t) => {
    const withPast = xt.slice(), without = xt.slice();
    withPast.set(past);
    const signal = Math.sqrt(model.alpha_bar[t]), noise = Math.sqrt(1 - model.alpha_bar[t]);
    for (let i = 0; i < known; i++) without[i] = (xt[i] - signal * past[i]) / noise;
    const branch = async (clip, ofPast) => {
      const t2 = levels(model, t, ofPast);
      return x0FromV(model, clip, (await run(clip, t2, 0, empty)).v, t2);
    };
    const out = await branch(withPast, 0);
    if (weight !== 1) {
      const u = await branch(without, model.num_timesteps);
      for (let i = known; i < out.length; i++) out[i] = u[i] + weight * (out[i] - u[i]);
    }
    out.set(past);
    return out;
  };
}

// Feature injection: the clean past's keys and values, computed once, mixed into the window's own at the overlap.
export function featureInjection(model, run, past, blend) {
  let cache = null;
  return async (xt, t) => {
    if (!cache) {
      const clip = new Float32Array(xt.length);
      clip.set(past);
      cache = (await run(clip, levels(model, model.num_timesteps, 0), 0, emptyCache(model))).cache;
    }
    return x0FromV(model, xt, (await run(xt, levels(model, t), blend, cache)).v, levels(model, t));
  };
}

// DDIM without fresh noise: walk towards x0_hat along the same noise. Yields { t, x0 } at each level; the last has t = 0.
export async function* ddim(model, denoiser, xt, steps) {
  const times = trailingTimes(model.num_timesteps, steps);
  for (let i = 0; i < steps; i++) {
    const [ab, next] = [model.alpha_bar[times[i]], model.alpha_bar[times[i + 1]]];
    const x0 = await denoiser(xt, times[i]);
    yield { t: times[i], step: i, x0 };
    const moved = new Float32Array(xt.length);
    for (let j = 0; j < xt.length; j++) {
      const eps = (xt[j] - Math.sqrt(ab) * x0[j]) / Math.sqrt(1 - ab);
      moved[j] = Math.sqrt(next) * x0[j] + Math.sqrt(1 - next) * eps;
    }
    xt = moved;
  }
  yield { t: 0, step: steps, x0: xt };
}

// The denoiser of a window: what the page asks for, by name.
export function method(model, run, { past, name, weight, blend }) {
  if (!past) return plain(model, run);
  if (past.length !== model.overlap * framePixels(model)) throw new RangeError(`the past must hold ${model.overlap} frames`);
  return name === "injection" ? featureInjection(model, run, past, blend) : historyGuidance(model, run, past, weight);
}
