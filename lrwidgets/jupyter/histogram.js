// How many voxels have which value, in bars of the logarithm of their number, and a threshold that is dragged over them.

const HEIGHT = 64;

function render({ model, el }) {
  const canvas = document.createElement("canvas");
  canvas.className = "lrw-histogram";
  canvas.title = "Click or drag to set the threshold";
  canvas.setAttribute("role", "img");
  Object.assign(canvas.style, { width: "100%", height: `${HEIGHT}px`, cursor: "ew-resize", touchAction: "none", display: "block" });
  el.appendChild(canvas);
  const context = canvas.getContext("2d");
  let sent = 0, later = 0, held = false;

  function draw() {
    const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
    if (!width) return;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const counts = model.get("counts"), [low, high] = model.get("range"), value = model.get("value");
    const tallest = Math.log1p(Math.max(...counts, 1)), bar = width / Math.max(counts.length, 1);
    counts.forEach((count, i) => {
      const height = (HEIGHT * Math.log1p(count)) / tallest, centre = low + ((i + 0.5) / counts.length) * (high - low);
      context.fillStyle = centre > value ? "#56B4E9" : "#8C8C8C";
      context.fillRect(i * bar, HEIGHT - height, Math.max(bar - 0.5, 0.5), height);
    });
    const x = ((value - low) / (high - low || 1)) * width;
    context.strokeStyle = "#D55E00";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, HEIGHT);
    context.stroke();
    canvas.setAttribute("aria-label", `histogram of the map from ${low.toPrecision(3)} to ${high.toPrecision(3)}; threshold ${value.toPrecision(3)}`);
  }

  function send(last) {
    const wait = sent + 50 - performance.now();
    clearTimeout(later);
    if (last || wait <= 0) {
      sent = performance.now();
      model.save_changes();
    } else later = setTimeout(() => send(true), wait);
  }

  function moved(event, last = false) {
    if (!held) return;
    const [low, high] = model.get("range");
    const share = Math.min(Math.max(event.offsetX / canvas.clientWidth, 0), 1);
    model.set("value", low + share * (high - low));
    send(last);
  }

  canvas.addEventListener("pointerdown", (event) => { held = true; canvas.setPointerCapture(event.pointerId); moved(event); });
  canvas.addEventListener("pointermove", (event) => moved(event));
  canvas.addEventListener("pointerup", (event) => { moved(event, true); held = false; });
  canvas.addEventListener("pointercancel", () => { held = false; });
  const heard = ["change:counts", "change:range", "change:value"];
  heard.forEach((event) => model.on(event, draw));
  const watch = new ResizeObserver(draw);
  watch.observe(canvas);
  return () => { watch.disconnect(); heard.forEach((event) => model.off(event, draw)); };
}

export default { render };
