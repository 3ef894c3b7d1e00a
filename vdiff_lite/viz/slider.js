// One slider, or several players in step: fills and runs the page that sliders.py writes. SLIDER and DATA are put in there.
(() => {
  const root = document.getElementById(SLIDER), data = DATA, all = (tag) => [...root.querySelectorAll(tag)];
  const inputs = all("[data-axis] input"), outputs = all("[data-axis] output"), screens = all("[data-panel]");
  const [play, time, count] = ["[data-play]", "[data-time]", "[data-count]"].map((part) => root.querySelector(part));
  let frame = 0, playing = Boolean(play) && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const panels = data.panels.map((axes, p) => {
    const poster = screens[p].querySelector("img"), canvas = document.createElement("canvas"), strip = new Image();
    const panel = { axes, canvas, strip, alts: data.alts[p], shown: -1 };
    canvas.setAttribute("role", "img"); canvas.style.cssText = poster.style.cssText;
    strip.onload = () => {
      [canvas.width, canvas.height] = [strip.naturalWidth / data.frames, strip.naturalHeight];
      draw(panel);
      poster.replaceWith(canvas);
    };
    return panel;
  });
  const draw = ({ canvas, strip }) => strip.complete && canvas.width && canvas.getContext("2d").drawImage(strip, -frame * canvas.width, 0);
  const show = () => {
    inputs.forEach((input, i) => {
      outputs[i].textContent = data.axes[i][+input.value];
      input.setAttribute("aria-valuetext", data.axes[i][+input.value]);
    });
    for (const panel of panels) {
      const i = panel.axes.reduce((sum, axis) => sum * data.axes[axis].length + +inputs[axis].value, 0);
      if (i === panel.shown) continue;
      panel.shown = i;
      panel.canvas.setAttribute("aria-label", panel.alts[i]);
      panel.strip.src = data.pictures[i];
      root.dataset.shown = panels.map((p) => p.shown).join(" ");
    }
  };
  const turn = (to) => {
    frame = (to + data.frames) % data.frames;
    time.value = frame;
    count.textContent = `${frame + 1} / ${data.frames}`;
    panels.forEach(draw);
  };
  inputs.forEach((input) => {
    const [down, up] = input.closest("[data-axis]").querySelectorAll("button");
    input.addEventListener("input", show);
    down.addEventListener("click", () => { input.stepDown(); show(); });
    up.addEventListener("click", () => { input.stepUp(); show(); });
  });
  show();
  if (!play) return;
  const press = (on) => { playing = on; play.textContent = on ? "Pause" : "Play"; play.setAttribute("aria-pressed", on); };
  play.addEventListener("click", () => press(!playing));
  time.addEventListener("input", () => { press(false); turn(+time.value); });
  press(playing);
  setInterval(() => { if (playing && !document.hidden) turn(frame + 1); }, 1000 / data.fps);
})();
