// A picture of a figure that shows the values under the mouse and can be saved as PNG or SVG.

const number = (value) => String(Number(value.toPrecision(4)));

// The value nearest to the pointer in an axis, in words, and where it stands in the frame (shares); or null.
function nearest(axis, x, y) {
  const [xName, x0, x1] = axis.x, [yName, y0, y1] = axis.y;
  if (axis.cells.columns) {
    const { columns, values } = axis.cells, rows = values.length / columns;
    const row = Math.floor((1 - y) * rows), column = Math.floor(x * columns);
    return { text: number(values[row * columns + column]), x, y };
  }
  let best = null;
  for (const { label, x: xs, y: ys } of axis.series) {
    for (let i = 0; i < xs.length; i++) {
      const px = (xs[i] - x0) / (x1 - x0), py = 1 - (ys[i] - y0) / (y1 - y0);
      // A bar is found by its place alone; of curves, the one nearest to the pointer.
      const far = Math.abs(px - x) + (label === "bar" ? 0.1 : Math.hypot(px - x, py - y));
      if (!best || far < best.far) best = { far, label, px, py, at: xs[i], value: ys[i] };
    }
  }
  if (!best) return null;
  const name = best.label && best.label !== "bar" ? `${best.label}: ` : "";
  const unit = xName.split(", ").slice(1).join(", ");
  const resolution = unit === "1/Å" && best.at > 0 ? ` (${number(1 / best.at)} Å)` : "";
  const text = `${name}${number(best.value)} at ${number(best.at)} ${unit}${resolution}`;
  return { text, x: best.px, y: best.py };
}

function save(bytes, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function element(kind, name, properties) {
  return Object.assign(document.createElement(kind), { className: name }, properties);
}

function render({ model, el }) {
  const box = element("div", "lrw-figure");
  const stage = element("div", "lrw-figure-stage");
  const image = element("img", "lrw-figure-image");
  const mark = element("div", "lrw-figure-mark", { hidden: true });
  const value = element("output", "lrw-figure-value", { hidden: true });
  const busy = element("output", "lrw-busy-text", { hidden: true });
  const bar = element("div", "lrw-figure-bar");
  const png = element("button", "lrw-figure-png", { textContent: "PNG", title: "save this figure as PNG" });
  const svg = element("button", "lrw-figure-svg", { textContent: "SVG", title: "save this figure as SVG" });
  const copy = element("button", "lrw-figure-copy", { textContent: "copy", title: "copy the Python that gives the data" });
  const code = element("code", "lrw-figure-code", { title: "Python that gives the data of this figure as xarray" });
  bar.append(png, svg, code, copy);
  stage.append(image, mark, value);
  box.append(stage, bar);
  el.append(busy, box);

  function wait() {
    busy.textContent = model.get("busy");
    busy.hidden = !model.get("busy");
    box.classList.toggle("lrw-figure-old", Boolean(model.get("busy")));
    box.setAttribute("aria-busy", String(Boolean(model.get("busy"))));
  }

  function draw() {
    const bytes = model.get("png");
    box.hidden = !bytes || bytes.byteLength === 0;
    if (box.hidden) return;
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    image.alt = model.get("title");
    code.textContent = model.get("code");
    code.hidden = copy.hidden = !model.get("code");
    mark.hidden = value.hidden = true;
  }

  function point(event) {
    const whole = image.getBoundingClientRect();
    const x = (event.clientX - whole.left) / whole.width, y = (event.clientY - whole.top) / whole.height;
    for (const axis of model.get("axes")) {
      const [left, top, width, height] = axis.frame;
      const inX = (x - left) / width, inY = (y - top) / height;
      if (inX < 0 || inX > 1 || inY < 0 || inY > 1) continue;
      const found = nearest(axis, inX, inY);
      if (!found) break;
      const px = whole.width * (left + width * Math.min(Math.max(found.x, 0), 1));
      const py = whole.height * (top + height * Math.min(Math.max(found.y, 0), 1));
      mark.style.translate = `${px}px ${py}px`;
      value.textContent = found.text;
      value.style.translate = `calc(${px}px ${px > 0.6 * whole.width ? "- 100% - 10px" : "+ 10px"}) ${Math.max(py - 26, 0)}px`;
      mark.hidden = value.hidden = false;
      return;
    }
    mark.hidden = value.hidden = true;
  }

  function saveSvg() {
    requested = false;
    if (!saveWhenReady || !model.get("svg").byteLength) return;
    save(model.get("svg"), "image/svg+xml", `${model.get("name")}.svg`);
    saveWhenReady = false;
  }

  // Requested as soon as the pointer nears the button: a browser lets a page save only soon after a click.
  function requestSvg() {
    if (requested || model.get("svg").byteLength) return;
    requested = true;
    model.set("request", `svg ${performance.now()}`);
    model.save_changes();
  }

  let saveWhenReady = false, requested = false;
  stage.addEventListener("pointermove", point);
  stage.addEventListener("pointerleave", () => (mark.hidden = value.hidden = true));
  png.addEventListener("click", () => save(model.get("png"), "image/png", `${model.get("name")}.png`));
  svg.addEventListener("click", () => {
    saveWhenReady = true;
    saveSvg();
    requestSvg();
  });
  for (const event of ["pointerenter", "focus"]) svg.addEventListener(event, requestSvg);
  copy.addEventListener("click", () => navigator.clipboard?.writeText(model.get("code")));
  model.on("change:png", draw);
  model.on("change:busy", wait);
  model.on("change:svg", saveSvg);
  draw();
  wait();
  return () => {
    model.off("change:png", draw);
    model.off("change:busy", wait);
    model.off("change:svg", saveSvg);
    URL.revokeObjectURL(image.src);
  };
}

export default { render };
