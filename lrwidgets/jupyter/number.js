// A number with its label and a box to type in; with a range, a slider; with counts, a histogram to drag on.
// Only a hand changes it: what is typed or moved is sent as `hand`, and the kernel answers with `value`.

const HEIGHT = 64;
const SYNC_MS = 50;

function element(kind, name, parent, properties) {
  return parent.appendChild(Object.assign(document.createElement(kind), { className: name }, properties));
}

function render({ model, el }) {
  const root = element("div", "lrw-number", el);
  const canvas = element("canvas", "lrw-histogram", root, { title: "Click or drag to set the threshold" });
  canvas.setAttribute("role", "img");
  const row = element("div", "lrw-number-row", root);
  const label = element("label", "lrw-number-label", row);
  const range = element("input", "lrw-number-range", row, { type: "range" });
  range.dataset.lmSuppressShortcuts = "true"; // arrows move the slider, not JupyterLab's cells
  const box = element("input", "lrw-number-box", label, { type: "text", inputMode: "decimal" });
  const words = label.insertBefore(document.createElement("span"), box);
  row.append(box);
  const name = `lrw-number-${Math.random().toString(36).slice(2)}`;
  box.id = label.htmlFor = name;
  let sent = 0, later = 0, held = false, shown = 0;

  const get = (trait) => model.get(trait);

  function draw() {
    words.textContent = get("description");
    label.style.width = get("label_width");
    const sliding = get("high") > get("low");
    range.hidden = !sliding;
    range.setAttribute("aria-label", get("description"));
    if (!held) {
      shown = get("value");
      box.value = get("text");
    }
    if (sliding) {
      Object.assign(range, { min: get("low"), max: get("high"), step: get("step") || "any" });
      range.value = shown;
      range.setAttribute("aria-valuetext", String(shown));
    }
    drawHistogram();
  }

  function drawHistogram() {
    const counts = get("counts"), ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
    canvas.hidden = !counts.length;
    if (!counts.length || !width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const low = get("low"), high = get("high");
    const tallest = Math.log1p(Math.max(...counts, 1)), bar = width / counts.length;
    counts.forEach((count, i) => {
      const height = (HEIGHT * Math.log1p(count)) / tallest, centre = low + ((i + 0.5) / counts.length) * (high - low);
      context.fillStyle = centre > shown ? "#56B4E9" : "#8C8C8C";
      context.fillRect(i * bar, HEIGHT - height, Math.max(bar - 0.5, 0.5), height);
    });
    const x = ((shown - low) / (high - low || 1)) * width;
    context.strokeStyle = "#D55E00";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, HEIGHT);
    context.stroke();
    const ends = `${low.toPrecision(3)} to ${high.toPrecision(3)}`;
    canvas.setAttribute("aria-label", `histogram of the map from ${ends}; threshold ${shown.toPrecision(3)}`);
  }

  // Sends what a hand has set, the last of it always, the others at most every SYNC_MS.
  function send(text, last) {
    const wait = sent + SYNC_MS - performance.now();
    clearTimeout(later);
    if (!last && wait > 0) {
      later = setTimeout(() => send(text, true), wait);
      return;
    }
    sent = performance.now();
    model.set("hand", { text, move: performance.now() });
    model.save_changes();
  }

  function move(value, last) {
    shown = value;
    box.value = String(Number(value.toPrecision(4)));
    range.value = value;
    range.setAttribute("aria-valuetext", String(value));
    drawHistogram();
    send(String(value), last);
  }

  function drag(event, last = false) {
    if (!held) return;
    const share = Math.min(Math.max(event.offsetX / canvas.clientWidth, 0), 1);
    move(get("low") + share * (get("high") - get("low")), last);
  }

  range.addEventListener("input", () => { held = true; move(Number(range.value), false); });
  range.addEventListener("change", () => { held = false; move(Number(range.value), false); });
  box.addEventListener("input", () => { held = true; });
  box.addEventListener("change", () => { held = false; send(box.value, true); });
  box.addEventListener("blur", () => { held = false; });
  canvas.addEventListener("pointerdown", (event) => { held = true; canvas.setPointerCapture(event.pointerId); drag(event); });
  canvas.addEventListener("pointermove", (event) => drag(event));
  canvas.addEventListener("pointerup", (event) => { drag(event, true); held = false; });
  canvas.addEventListener("pointercancel", () => { held = false; });
  const heard = ["description", "value", "text", "low", "high", "step", "counts", "seq"].map((trait) => `change:${trait}`);
  heard.forEach((event) => model.on(event, draw));
  const watch = new ResizeObserver(drawHistogram);
  watch.observe(root);
  draw();
  return () => {
    clearTimeout(later);
    watch.disconnect();
    heard.forEach((event) => model.off(event, draw));
  };
}

export default { render };
