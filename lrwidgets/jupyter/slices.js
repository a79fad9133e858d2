// Three linked slices through a map: everything that moves is drawn here, and the kernel is notified at most 20 times
// a second. Coordinates are voxels (x, y, z) of the map, whose voxel i reaches from i - 1/2 to i + 1/2; y and z point up.

const PANES = [
  { h: 0, v: 1, across: 2, name: "xy" },
  { h: 0, v: 2, across: 1, name: "xz" },
  { h: 1, v: 2, across: 0, name: "yz" },
];
const AXES = "xyz";
const SYNC_MS = 50;
const HANDLE_PX = 10;
const COLOURS = { mask: "#56B4E9", point: "#D55E00", shape: "#009E73", cross: "#F0E442", arc: "#E69F00", ink: "#FFFFFF" };
const MASK_RGB = [0x56, 0xb4, 0xe9];
const TOOLS = {
  cross: ["✛", "Look around: drag the crosshair"],
  point: ["◎", "Move the point: click or drag"],
  sphere: ["●", "Draw a sphere: press at its centre, drag to its rim"],
  box: ["■", "Draw a box: press at its centre, drag to a corner"],
};
const MODES = {
  single: "one map",
  blend: "blend",
  flicker: "flicker",
  colour: "colour by second",
};

const bytes = (data) =>
  data && data.byteLength ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : null;
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// ---------------------------------------------------------------- planes

/** Copies the plane `index` of a zyx block of `shape` (x, y, z) voxels into `out`, row by row along the pane's axes, top row first. */
function cut(data, shape, pane, index, out) {
  const step = [1, shape[0], shape[0] * shape[1]]; // of x, y, z
  const width = shape[pane.h], height = shape[pane.v];
  const along = step[pane.h], up = step[pane.v];
  for (let row = 0, to = 0; row < height; row++) {
    let from = index * step[pane.across] + (height - 1 - row) * up;
    for (let i = 0; i < width; i++, from += along) out[to++] = data[from];
  }
}

/** Segments of the contour of a plane (top row first) at half of 255, as a Path2D in columns and rows. */
function contour(plane, width, height) {
  const path = new Path2D(), level = 127.5;
  const at = (a, b) => (level - a) / (b - a);
  for (let y = 0; y + 1 < height; y++) {
    for (let x = 0, i = y * width; x + 1 < width; x++, i++) {
      const a = plane[i], b = plane[i + 1], c = plane[i + width + 1], d = plane[i + width];
      const kind = (a > level) | ((b > level) << 1) | ((c > level) << 2) | ((d > level) << 3);
      if (kind === 0 || kind === 15) continue;
      const crossing = [];
      if ((a > level) !== (b > level)) crossing.push([x + at(a, b), y]);
      if ((b > level) !== (c > level)) crossing.push([x + 1, y + at(b, c)]);
      if ((d > level) !== (c > level)) crossing.push([x + at(d, c), y + 1]);
      if ((a > level) !== (d > level)) crossing.push([x, y + at(a, d)]);
      for (let k = 0; k + 1 < crossing.length; k += 2) {
        path.moveTo(...crossing[k]);
        path.lineTo(...crossing[k + 1]);
      }
    }
  }
  return path;
}

/** A canvas that holds one slice of a layer, with its pixels as RGBA words. */
function sheet(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  return { canvas, words, width, height, done: () => context.putImageData(image, 0, 0) };
}

const rgba = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** Grey of each byte inside a window of bytes [low, high]; byte 0 means no value. */
function greys(low, high) {
  const out = new Uint8Array(256);
  const scale = 255 / Math.max(high - low, 1e-6);
  for (let i = 1; i < 256; i++) out[i] = clamp(Math.round((i - low) * scale), 0, 255);
  return out;
}

// ---------------------------------------------------------------- the view

class View {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.zoom = 1;
    this.turn = 0; // which map a flicker shows
    this.sheets = PANES.map(() => ({}));
    this.drag = null;
    this.chosen = -1;
    this.sent = 0;
    this.draws = [];
    this.build();
    this.load();
    this.listen();
  }

  get(name) { return this.model.get(name); }

  // --- what the kernel gives

  load() {
    this.box = this.get("box");
    this.first = bytes(this.get("volume"));
    this.second = bytes(this.get("second"));
    this.mask = bytes(this.get("overlay"));
    this.grid = this.get("overlay_grid");
    this.palette = bytes(this.get("palette"));
    if (this.lastBox !== this.box) {
      this.middle = [0, 1, 2].map(() => (this.box - 1) / 2);
      this.zoom = 1;
      this.lastBox = this.box;
    }
    this.sheets = PANES.map(() => ({}));
    this.controls();
    this.draw();
  }

  listen() {
    const on = (names, what) => names.split(" ").forEach((name) => this.on(`change:${name}`, what));
    on("seq", () => this.load());
    on("position point arc shapes opacity tool marks", () => this.draw());
    on("window second_window mix mode names tools point_fixed", () => { this.controls(); this.draw(); });
    const watch = new ResizeObserver(() => this.resize());
    this.panes.forEach((pane) => watch.observe(pane.frame));
    this.stop = () => { watch.disconnect(); clearInterval(this.timer); clearTimeout(this.later); };
  }

  on(event, what) {
    this.heard = this.heard || [];
    this.heard.push([event, what]);
    this.model.on(event, what);
  }

  close() {
    this.stop();
    this.heard.forEach(([event, what]) => this.model.off(event, what));
  }

  /** Send changes to the kernel, now if `last`, else at most every SYNC_MS. */
  send(changes, last = false) {
    for (const [name, value] of Object.entries(changes)) this.model.set(name, value);
    const wait = this.sent + SYNC_MS - performance.now();
    clearTimeout(this.later);
    if (last || wait <= 0) {
      this.sent = performance.now();
      this.model.save_changes();
    } else {
      this.later = setTimeout(() => this.send({}, true), wait);
    }
  }

  // --- elements

  build() {
    this.root.classList.add("lrw-slices");
    this.root.dataset.lmSuppressShortcuts = "true"; // the keys are ours while a slice has the focus
    this.bar = this.add("div", "lrw-slices-bar", this.root);
    this.toolBox = this.add("span", "lrw-slices-tools", this.bar);
    this.toolBox.setAttribute("role", "radiogroup");
    this.toolBox.setAttribute("aria-label", "Mouse tool");
    this.modeBox = this.add("select", "lrw-slices-mode", this.labelled("show", this.bar));
    this.modeBox.onchange = () => this.send({ mode: this.modeBox.value }, true);
    this.mixBox = this.slider("mix", "lrw-slices-mix", (x) => this.send({ mix: x / 255 }));
    this.lowBox = this.slider("black", "lrw-slices-low", () => this.contrast());
    this.highBox = this.slider("white", "lrw-slices-high", () => this.contrast());
    this.opacityBox = this.slider("mask", "lrw-slices-opacity", (x) => this.send({ opacity: x / 255 }));
    const reset = this.add("button", "lrw-slices-reset", this.bar);
    reset.textContent = "⌂";
    reset.title = "Whole map (0)";
    reset.setAttribute("aria-label", "Show the whole map");
    reset.onclick = () => this.whole();
    this.key = this.add("canvas", "lrw-slices-key", this.bar);
    const row = this.add("div", "lrw-slices-row", this.root);
    this.panes = PANES.map((pane, i) => this.pane(pane, i, row));
    this.state = this.add("div", "lrw-slices-state", this.root);
    this.state.setAttribute("role", "status");
  }

  add(tag, name, parent) {
    const element = document.createElement(tag);
    element.className = name;
    parent.appendChild(element);
    return element;
  }

  labelled(text, parent) {
    const label = this.add("label", "lrw-slices-label", parent);
    label.append(text);
    return label;
  }

  slider(text, name, moved) {
    const label = this.labelled(text, this.bar);
    const input = this.add("input", name, label);
    Object.assign(input, { type: "range", min: 0, max: 255, step: 1 });
    input.setAttribute("aria-label", text);
    input.oninput = () => moved(Number(input.value));
    input.onchange = () => this.send({}, true);
    return input;
  }

  pane(pane, i, row) {
    const frame = this.add("div", "lrw-slices-frame", row);
    const canvas = this.add("canvas", `lrw-slices-pane lrw-slices-${pane.name}`, frame);
    canvas.tabIndex = 0;
    canvas.dataset.lmSuppressShortcuts = "true"; // arrows and page keys are for the slices, not for JupyterLab
    canvas.setAttribute("role", "img");
    const on = (event, what, options) => canvas.addEventListener(event, what, options);
    on("pointerdown", (event) => this.pressed(event, i));
    on("pointermove", (event) => this.moved(event, i));
    on("pointerup", (event) => this.released(event));
    on("pointercancel", (event) => this.released(event));
    on("wheel", (event) => this.wheeled(event, i), { passive: false });
    on("keydown", (event) => this.typed(event, i));
    on("dblclick", (event) => event.preventDefault());
    on("contextmenu", (event) => event.preventDefault());
    return { ...pane, frame, canvas, context: canvas.getContext("2d"), size: 0 };
  }

  /** Update the toolbar from the traits. */
  controls() {
    const tools = this.get("tools");
    if (this.toolBox.dataset.tools !== tools.join()) {
      this.toolBox.dataset.tools = tools.join();
      this.toolBox.replaceChildren();
      for (const name of tools.length > 1 ? tools : []) {
        const button = this.add("button", `lrw-slices-tool lrw-slices-tool-${name}`, this.toolBox);
        [button.textContent, button.title] = TOOLS[name];
        button.setAttribute("role", "radio");
        button.setAttribute("aria-label", TOOLS[name][1]);
        button.onclick = () => this.send({ tool: name }, true);
        button.dataset.tool = name;
      }
    }
    const two = Boolean(this.second);
    this.modeBox.parentElement.hidden = !two;
    this.modeBox.replaceChildren();
    const names = this.get("names");
    for (const [value, text] of Object.entries(MODES)) {
      const option = this.add("option", "", this.modeBox);
      option.value = value;
      option.textContent = { single: names[0] || text, colour: `colour by ${names[1]}` }[value] || text;
    }
    const mode = this.get("mode");
    this.modeBox.value = mode;
    this.mixBox.parentElement.hidden = !two || mode !== "blend";
    this.mixBox.value = Math.round(255 * this.get("mix"));
    this.opacityBox.parentElement.hidden = !this.mask;
    this.opacityBox.value = Math.round(255 * this.get("opacity"));
    const [low, high] = this.window(0);
    this.lowBox.value = Math.round(low);
    this.highBox.value = Math.round(high);
    clearInterval(this.timer);
    if (two && mode === "flicker") {
      this.timer = setInterval(() => { this.turn = 1 - this.turn; this.draw(); }, 500 / this.get("flicker_hz"));
    }
    this.drawKey();
  }

  // --- values

  /** The window of a map in its bytes; two maps that are compared have the same one. */
  window(which) {
    const [low, high] = this.get("ranges")[which], own = which && this.get("mode") === "colour";
    const window = this.get(own ? "second_window" : "window");
    const values = window.length === 2 ? window : this.get("ranges")[own ? 1 : 0];
    return values.map((value) => 1 + (254 * (value - low)) / (high - low || 1));
  }

  value(which, byte) {
    const [low, high] = this.get("ranges")[which];
    return byte ? low + ((byte - 1) / 254) * (high - low) : NaN;
  }

  contrast() {
    const low = Number(this.lowBox.value), high = Math.max(Number(this.highBox.value), low + 1);
    this.send({ window: [this.value(0, Math.max(low, 1)), this.value(0, high)] });
  }

  at(data, [x, y, z]) { return data[(z * this.box + y) * this.box + x]; }

  maskAt(place) {
    const { shape, start, step } = this.grid;
    const [x, y, z] = place.map((v, axis) => Math.round((v - start[axis]) / step));
    const inside = [x, y, z].every((v, axis) => v >= 0 && v < shape[axis]);
    return inside ? this.mask[(z * shape[1] + y) * shape[0] + x] / 255 : 0;
  }

  // --- drawing

  resize() {
    for (const pane of this.panes) {
      const size = Math.floor(pane.frame.clientWidth), ratio = window.devicePixelRatio || 1;
      if (size > 0 && (pane.size !== size || pane.ratio !== ratio)) {
        Object.assign(pane, { size, ratio });
        pane.canvas.width = pane.canvas.height = Math.round(size * ratio);
      }
    }
    this.paint();
  }

  draw() {
    if (this.frameRequest) return;
    this.frameRequest = requestAnimationFrame(() => this.paint());
  }

  paint() {
    cancelAnimationFrame(this.frameRequest);
    this.frameRequest = 0;
    const began = performance.now();
    this.place = this.get("position").map((v) => clamp(Math.round(v), 0, this.box - 1));
    if (this.first) {
      this.panes.forEach((pane, i) => pane.size && this.paintPane(pane, i));
      this.read();
    }
    for (const button of this.toolBox.children) {
      button.setAttribute("aria-checked", String(button.dataset.tool === this.get("tool")));
    }
    this.draws.push(performance.now() - began);
    if (this.draws.length > 60) this.draws.shift();
    this.root.dataset.drawMs = (this.draws.reduce((a, b) => a + b, 0) / this.draws.length).toFixed(2);
    this.root.dataset.seq = this.get("seq");
  }

  scale(pane) { return (pane.size / this.box) * this.zoom; }

  /** Voxel coordinates → pixels of a pane. */
  toPane(pane, place) {
    const s = this.scale(pane), half = pane.size / 2;
    return [half + (place[pane.h] - this.middle[pane.h]) * s, half - (place[pane.v] - this.middle[pane.v]) * s];
  }

  fromPane(pane, x, y) {
    const s = this.scale(pane), half = pane.size / 2;
    const place = [...this.place];
    place[pane.h] = this.middle[pane.h] + (x - half) / s;
    place[pane.v] = this.middle[pane.v] - (y - half) / s;
    return place;
  }

  paintPane(pane, i) {
    const { context, size, ratio } = pane;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, size, size);
    context.imageSmoothingEnabled = this.scale(pane) < 4;
    const index = this.place[pane.across];
    this.stamp(pane, this.picture(pane, i, index).canvas, [0, 0, 0], 1, [this.box, this.box, this.box]);
    const layer = this.mask ? this.layer(pane, i, index) : null;
    if (layer) {
      const { start, step, shape } = this.grid;
      context.imageSmoothingEnabled = true;
      context.globalAlpha = this.get("opacity");
      this.stamp(pane, layer.canvas, start, step, shape);
      context.globalAlpha = 1;
      this.outline(pane, layer, 0);
    }
    this.paintArc(pane, layer);
    this.get("shapes").forEach((shape, k) => this.paintShape(pane, shape, k === this.chosen));
    if (this.drag && this.drag.shape) this.paintShape(pane, this.drag.shape, true);
    this.paintCross(pane);
    this.paintPoint(pane);
    this.paintText(pane, index);
    pane.canvas.setAttribute("aria-label", `${pane.name} slice ${index} of ${this.box}; arrow keys move, page keys scroll`);
  }

  /** Draw a slice of a layer whose first voxel is at `start`, its voxels `step` wide. */
  stamp(pane, canvas, start, step, shape) {
    const corner = [...start];
    corner[pane.h] -= step / 2;
    corner[pane.v] += (shape[pane.v] - 0.5) * step;
    const [x, y] = this.toPane(pane, corner), s = this.scale(pane) * step;
    pane.context.drawImage(canvas, x, y, shape[pane.h] * s, shape[pane.v] * s);
  }

  /** The slice of the maps, made again only when something of it has changed. */
  picture(pane, i, index) {
    const mode = this.second ? this.get("mode") : "single";
    const key = [index, mode, this.turn, this.get("mix"), this.get("window"), this.get("second_window")].join();
    const kept = this.sheets[i];
    if (kept.key === key) return kept.picture;
    const n = this.box;
    const out = kept.picture || sheet(n, n);
    const plane = (kept.plane = kept.plane || new Uint8Array(n * n));
    const flat = mode === "flicker" && this.turn ? 1 : 0;
    cut(flat ? this.second : this.first, [n, n, n], pane, index, plane);
    const grey = greys(...this.window(flat)), words = out.words;
    if (mode === "blend" || mode === "colour") {
      const other = (kept.other = kept.other || new Uint8Array(n * n));
      cut(this.second, [n, n, n], pane, index, other);
      const otherGrey = greys(...this.window(1));
      (mode === "blend" ? this.blended : this.coloured).call(this, words, plane, other, grey, otherGrey);
    } else {
      for (let k = 0; k < words.length; k++) words[k] = 0xff000000 | (grey[plane[k]] * 0x010101);
    }
    out.done();
    this.sheets[i] = { ...kept, key, picture: out };
    return out;
  }

  /** The first map in orange and the second in blue, so that white is what they share. */
  blended(words, plane, other, grey, otherGrey) {
    const mix = this.get("mix");
    const a = clamp(2 * (1 - mix), 0, 1), b = clamp(2 * mix, 0, 1);
    for (let k = 0; k < words.length; k++) {
      const p = grey[plane[k]] * a, q = otherGrey[other[k]] * b;
      words[k] = rgba(0.9 * p + 0.1 * q, 0.55 * p + 0.45 * q, 0.1 * p + 0.9 * q, 255);
    }
  }

  /** The first map's brightness in the colour of the second; grey where the second has no value. */
  coloured(words, plane, other, grey, otherGrey) {
    const palette = this.palette;
    for (let k = 0; k < words.length; k++) {
      const g = grey[plane[k]];
      if (!other[k]) { words[k] = 0xff000000 | (g * 0x010101); continue; }
      const c = 3 * otherGrey[other[k]], f = g / 255;
      words[k] = rgba(palette[c] * f, palette[c + 1] * f, palette[c + 2] * f, 255);
    }
  }

  /** The slice of the mask, or null outside its block. */
  layer(pane, i, index) {
    const { shape, start, step } = this.grid;
    const plane = Math.round((index - start[pane.across]) / step);
    if (plane < 0 || plane >= shape[pane.across] || !shape[pane.h] || !shape[pane.v]) return null;
    const kept = this.sheets[i];
    if (kept.layer && kept.layer.plane === plane) return kept.layer;
    const width = shape[pane.h], height = shape[pane.v];
    const same = kept.layer && kept.layer.width === width && kept.layer.height === height;
    const out = same ? kept.layer : sheet(width, height);
    const values = new Uint8Array(width * height);
    cut(this.mask, shape, pane, plane, values);
    for (let k = 0; k < values.length; k++) out.words[k] = rgba(...MASK_RGB, values[k]);
    out.done();
    out.plane = plane;
    out.path = contour(values, width, height);
    kept.layer = out;
    return out;
  }

  /** The mask's outline, rotated about the point by an angle. */
  outline(pane, layer, angle) {
    const { context, ratio } = pane, { start, step, shape } = this.grid;
    const s = this.scale(pane) * step;
    const top = [...start];
    top[pane.v] += (shape[pane.v] - 1) * step;
    const [x, y] = this.toPane(pane, top);
    context.save();
    if (angle) {
      const [cx, cy] = this.toPane(pane, this.get("point"));
      context.translate(cx, cy);
      context.rotate(-angle);
      context.translate(-cx, -cy);
      context.setLineDash([4 / s, 3 / s]);
    }
    context.translate(x, y);
    context.scale(s, s);
    context.lineWidth = 1.5 / s;
    context.strokeStyle = angle ? COLOURS.arc : COLOURS.mask;
    context.stroke(layer.path);
    context.restore();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** Draw a rotation about the point: the mask rotated both ways in the pane, and the path of its far end. */
  paintArc(pane, layer) {
    const arc = this.get("arc"), point = this.get("point");
    if (!arc || !arc.angle_deg || point.length < 3) return;
    const angle = (arc.angle_deg * Math.PI) / 180;
    if (layer) [angle, -angle].forEach((turn) => this.outline(pane, layer, turn));
    const [cx, cy] = this.toPane(pane, point), [tx, ty] = this.toPane(pane, arc.towards);
    const radius = Math.hypot(tx - cx, ty - cy), start = Math.atan2(ty - cy, tx - cx);
    if (radius < 2) return;
    const { context } = pane;
    context.strokeStyle = COLOURS.arc;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(cx, cy, radius, start - angle, start + angle);
    context.stroke();
    context.lineWidth = 1;
    context.beginPath();
    for (const side of [start - angle, start + angle]) {
      context.moveTo(cx, cy);
      context.lineTo(cx + radius * Math.cos(side), cy + radius * Math.sin(side));
    }
    context.stroke();
  }

  paintShape(pane, shape, chosen) {
    const { context } = pane, s = this.scale(pane);
    const away = Math.abs(this.place[pane.across] - shape.centre[pane.across]);
    const [x, y] = this.toPane(pane, shape.centre);
    context.strokeStyle = COLOURS.shape;
    context.lineWidth = chosen ? 3 : 2;
    context.beginPath();
    if (shape.kind === "sphere") {
      if (away > shape.radius) return;
      context.arc(x, y, Math.sqrt(shape.radius ** 2 - away ** 2) * s, 0, 2 * Math.PI);
    } else {
      if (away > shape.size[pane.across] / 2) return;
      const width = shape.size[pane.h] * s, height = shape.size[pane.v] * s;
      context.rect(x - width / 2, y - height / 2, width, height);
    }
    context.moveTo(x - 4, y);
    context.lineTo(x + 4, y);
    context.moveTo(x, y - 4);
    context.lineTo(x, y + 4);
    context.stroke();
  }

  paintCross(pane) {
    const { context, size } = pane, [x, y] = this.toPane(pane, this.place), gap = 8;
    context.strokeStyle = COLOURS.cross;
    context.globalAlpha = 0.6;
    context.lineWidth = 1;
    context.beginPath();
    for (const [ax, ay, bx, by] of [[0, y, x - gap, y], [x + gap, y, size, y], [x, 0, x, y - gap], [x, y + gap, x, size]]) {
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  paintPoint(pane) {
    const point = this.get("point");
    if (point.length < 3) return;
    const { context } = pane, [x, y] = this.toPane(pane, point);
    context.globalAlpha = Math.abs(point[pane.across] - this.place[pane.across]) <= 1 ? 1 : 0.5;
    for (const mark of this.get("marks")) this.paintMark(pane, mark);
    for (const [colour, width] of [["#000", 4], [COLOURS.point, 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, 7, 0, 2 * Math.PI);
      context.moveTo(x - 11, y);
      context.lineTo(x + 11, y);
      context.moveTo(x, y - 11);
      context.lineTo(x, y + 11);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  /** The projected ellipse of an estimate: centre, and (3, 3) covariance in voxels². */
  paintMark(pane, mark) {
    const { context } = pane, s = this.scale(pane), [x, y] = this.toPane(pane, mark.centre);
    const c = mark.covariance, a = c[pane.h][pane.h], b = c[pane.h][pane.v], d = c[pane.v][pane.v];
    const mean = (a + d) / 2, spread = Math.hypot((a - d) / 2, b);
    const turn = -0.5 * Math.atan2(2 * b, a - d);
    context.strokeStyle = COLOURS.arc;
    context.lineWidth = 1.5;
    context.beginPath();
    const radii = [mean + spread, Math.max(mean - spread, 0)].map((v) => mark.sds * Math.sqrt(v) * s);
    context.ellipse(x, y, radii[0], radii[1], turn, 0, 2 * Math.PI);
    context.stroke();
  }

  paintText(pane, index) {
    const { context, size } = pane;
    context.font = "11px sans-serif";
    context.fillStyle = COLOURS.ink;
    context.shadowColor = "#000";
    context.shadowBlur = 3;
    context.fillText(`${pane.name}   ${AXES[pane.across]} ${index}`, 6, 14);
    if (this.second && this.get("mode") === "flicker") context.fillText(this.get("names")[this.turn], 6, 28);
    const apix = this.get("apix"), wanted = (0.25 * size * apix) / this.scale(pane);
    const ten = 10 ** Math.floor(Math.log10(wanted)), length = ten * (wanted / ten >= 5 ? 5 : wanted / ten >= 2 ? 2 : 1);
    const width = (length / apix) * this.scale(pane);
    context.fillRect(size - width - 8, size - 9, width, 3);
    context.textAlign = "right";
    context.fillText(`${+length.toPrecision(3)} Å`, size - 8, size - 14);
    context.textAlign = "left";
    context.shadowBlur = 0;
  }

  /** The colours of the second map, with the values at their ends. */
  drawKey() {
    const shown = Boolean(this.second && this.get("mode") === "colour" && this.palette);
    this.key.hidden = !shown;
    if (!shown) return;
    const width = 200, context = this.key.getContext("2d");
    Object.assign(this.key, { width, height: 16 });
    const left = 50;
    const [low, high] = this.get("second_window").length ? this.get("second_window") : this.get("ranges")[1];
    for (let x = 0; x < 90; x++) {
      const c = 3 * Math.round((x / 89) * 255);
      context.fillStyle = `rgb(${this.palette[c]}, ${this.palette[c + 1]}, ${this.palette[c + 2]})`;
      context.fillRect(left + x, 3, 1, 10);
    }
    context.fillStyle = getComputedStyle(this.root).color;
    context.font = "11px sans-serif";
    context.textAlign = "right";
    context.fillText(low.toPrecision(3), left - 4, 12);
    context.textAlign = "left";
    context.fillText(high.toPrecision(3), left + 94, 12);
  }

  /** The line of coordinates and values. */
  read() {
    const place = this.place, apix = this.get("apix"), origin = this.get("origin_A");
    const said = (values) => values.map((v) => v.toFixed(1)).join(", ");
    const parts = [
      `voxel ${place.join(", ")}`,
      `${said(place.map((v) => v * apix))} Å from the corner`,
      `${said(place.map((v) => (v - Math.floor(this.box / 2)) * apix))} Å from the centre`,
    ];
    if (origin.some((v) => v)) parts.push(`${said(place.map((v, i) => v * apix + origin[i]))} Å in the map's frame`);
    const names = this.get("names");
    const valueText = (which, data) => {
      const byte = this.at(data, place), beyond = byte === 255 ? "≥ " : byte === 1 ? "≤ " : "";
      return `${names[which]} ${byte ? beyond + this.value(which, byte).toPrecision(3) : "none"}`;
    };
    parts.push(valueText(0, this.first));
    if (this.second) parts.push(valueText(1, this.second));
    if (this.mask) parts.push(`mask ${this.maskAt(place).toFixed(2)}`);
    this.state.textContent = parts.join(" · ");
  }

  // --- the mouse

  pressed(event, i) {
    const pane = this.panes[i], x = event.offsetX, y = event.offsetY;
    if (!this.first) return;
    pane.canvas.focus({ preventScroll: true });
    pane.canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
    const place = this.fromPane(pane, x, y);
    if (event.button === 1 || event.shiftKey || event.button === 2) this.drag = { kind: "pan", x, y };
    else this.drag = this.grabbed(pane, place, x, y);
    this.drag.pane = i;
    this.moved(event, i);
  }

  /** The object under the mouse when a button is pressed. */
  grabbed(pane, place, x, y) {
    const tool = this.get("tool"), point = this.get("point");
    const near = (other) => {
      const [px, py] = this.toPane(pane, other);
      return Math.hypot(px - x, py - y) < HANDLE_PX;
    };
    if (point.length === 3 && !this.get("point_fixed") && (tool === "point" || near(point))) return { kind: "point" };
    if (tool !== "sphere" && tool !== "box") return { kind: "cross" };
    const shapes = this.get("shapes");
    const cutBy = (shape) =>
      Math.abs(shape.centre[pane.across] - this.place[pane.across]) <=
      (shape.kind === "sphere" ? shape.radius : shape.size[pane.across] / 2);
    const held = shapes.findIndex((shape) => cutBy(shape) && near(shape.centre));
    this.chosen = held >= 0 ? held : shapes.length;
    if (held >= 0) return { kind: "move", held };
    const rim = shapes.findIndex((shape) => cutBy(shape) && this.onRim(pane, shape, place));
    if (rim >= 0) { this.chosen = rim; return { kind: "size", held: rim }; }
    return { kind: "new", centre: place, shape: null };
  }

  onRim(pane, shape, place) {
    const s = this.scale(pane), far = [pane.h, pane.v].map((axis) => Math.abs(place[axis] - shape.centre[axis]));
    if (shape.kind === "sphere") {
      const away = this.place[pane.across] - shape.centre[pane.across];
      return Math.abs(Math.hypot(...far, away) - shape.radius) * s < HANDLE_PX / 2;
    }
    const over = [pane.h, pane.v].map((axis, k) => far[k] - shape.size[axis] / 2);
    return Math.abs(Math.max(...over)) * s < HANDLE_PX / 2;
  }

  moved(event, i) {
    if (!this.drag || this.drag.pane !== i) return;
    const pane = this.panes[i], x = event.offsetX, y = event.offsetY;
    const place = this.fromPane(pane, x, y).map((v) => clamp(v, 0, this.box - 1));
    const drag = this.drag;
    if (drag.kind === "pan") this.pan(pane, x, y);
    else if (drag.kind === "cross") this.send({ position: place.map(Math.round) });
    else if (drag.kind === "point") this.movePoint(pane, place);
    else if (drag.kind === "new") drag.shape = this.drawn(pane, drag.centre, place);
    else this.reshape(pane, drag, place);
    this.draw();
  }

  pan(pane, x, y) {
    const s = this.scale(pane);
    this.middle[pane.h] -= (x - this.drag.x) / s;
    this.middle[pane.v] += (y - this.drag.y) / s;
    Object.assign(this.drag, { x, y });
    this.hold();
  }

  /** The slices follow the point, so that it can be placed along all three axes. */
  movePoint(pane, place) {
    const point = [...this.get("point")];
    for (const axis of [pane.h, pane.v]) point[axis] = Math.round(place[axis] * 10) / 10;
    this.send({ point, position: point.map(Math.round) });
  }

  drawn(pane, centre, place) {
    const far = [pane.h, pane.v].map((axis) => Math.abs(place[axis] - centre[axis]));
    const whole = centre.map((v) => Math.round(v * 10) / 10);
    if (this.get("tool") === "sphere") return { kind: "sphere", centre: whole, radius: Math.hypot(...far) };
    const size = [0, 0, 0];
    size[pane.h] = 2 * far[0];
    size[pane.v] = 2 * far[1];
    size[pane.across] = far[0] + far[1];
    return { kind: "box", centre: whole, size };
  }

  reshape(pane, drag, place) {
    const shapes = this.get("shapes").map((shape) => ({ ...shape, centre: [...shape.centre] }));
    const shape = shapes[drag.held], axes = [pane.h, pane.v];
    if (drag.kind === "move") {
      for (const axis of axes) shape.centre[axis] = Math.round(place[axis] * 10) / 10;
    } else if (shape.kind === "sphere") {
      const away = this.place[pane.across] - shape.centre[pane.across];
      shape.radius = Math.max(1, Math.hypot(...axes.map((axis) => place[axis] - shape.centre[axis]), away));
    } else {
      shape.size = [...shape.size];
      const far = axes.map((axis) => Math.abs(place[axis] - shape.centre[axis]));
      const side = far[0] / shape.size[pane.h] > far[1] / shape.size[pane.v] ? 0 : 1;
      shape.size[axes[side]] = Math.max(2, 2 * far[side]);
    }
    this.send({ shapes });
  }

  released(event) {
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    const shape = drag.kind === "new" ? drag.shape : null;
    const large = shape && (shape.kind === "sphere" ? shape.radius : Math.min(...shape.size) / 2) >= 1;
    if (large) this.send({ shapes: [...this.get("shapes"), shape] }, true);
    else this.send({}, true);
    this.draw();
  }

  wheeled(event, i) {
    if (!this.first) return;
    event.preventDefault();
    const pane = this.panes[i];
    if (event.ctrlKey || event.metaKey || event.shiftKey) {
      const before = this.fromPane(pane, event.offsetX, event.offsetY);
      this.zoom = clamp(this.zoom * Math.exp(-0.002 * (event.deltaY || event.deltaX)), 1, 40);
      const after = this.fromPane(pane, event.offsetX, event.offsetY);
      for (const axis of [pane.h, pane.v]) this.middle[axis] += before[axis] - after[axis];
      this.hold();
      this.draw();
      return;
    }
    // A wheel turns by notches, each of which is a slice; a touchpad sends many small turns.
    const notch = event.deltaMode || Math.abs(event.deltaY) >= 40;
    this.turned = notch ? -Math.sign(event.deltaY) : (this.turned || 0) - event.deltaY / 20;
    const steps = Math.trunc(this.turned);
    if (!steps) return;
    this.turned = 0;
    this.scroll(pane, steps);
  }

  scroll(pane, steps) {
    const position = [...this.get("position")];
    position[pane.across] = clamp(Math.round(position[pane.across]) + steps, 0, this.box - 1);
    this.send({ position });
  }

  whole() {
    this.zoom = 1;
    this.hold();
    this.draw();
  }

  /** Keep the map in view. */
  hold() {
    const half = this.box / 2 / this.zoom, centre = (this.box - 1) / 2;
    this.middle = this.middle.map((v) => clamp(v, centre - this.box / 2 + half, centre + this.box / 2 - half));
  }

  typed(event, i) {
    const pane = this.panes[i], step = event.shiftKey ? 10 : 1;
    const along = { ArrowLeft: [pane.h, -1], ArrowRight: [pane.h, 1], ArrowDown: [pane.v, -1], ArrowUp: [pane.v, 1],
      PageUp: [pane.across, 1], PageDown: [pane.across, -1] }[event.key];
    if (along) this.nudge(along[0], along[1] * step, along[0] === pane.across);
    else if (event.key === "+" || event.key === "=") { this.zoom = Math.min(this.zoom * 1.25, 40); this.hold(); this.draw(); }
    else if (event.key === "-") { this.zoom = Math.max(this.zoom / 1.25, 1); this.hold(); this.draw(); }
    else if (event.key === "0") this.whole();
    else if ((event.key === "Delete" || event.key === "Backspace") && this.get("shapes")[this.chosen]) {
      this.send({ shapes: this.get("shapes").filter((_, k) => k !== this.chosen) }, true);
      this.chosen = -1;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** With the point's tool, the arrows move the point in its plane; the page keys always scroll. */
  nudge(axis, step, scrolls) {
    const moving = !scrolls && this.get("tool") === "point" && this.get("point").length === 3 && !this.get("point_fixed");
    const place = [...this.get(moving ? "point" : "position")];
    place[axis] = clamp(place[axis] + step, 0, this.box - 1);
    this.send(moving ? { point: place, position: place.map(Math.round) } : { position: place });
  }

  // --- measuring

  /** Scroll through a pane for some seconds, one slice a frame: frames per second, and milliseconds of drawing. */
  async measure(seconds = 2, i = 2) {
    const pane = this.panes[i], times = [], position = [...this.get("position")];
    const began = performance.now();
    let frames = 0;
    while (performance.now() - began < 1000 * seconds) {
      await new Promise(requestAnimationFrame);
      position[pane.across] = frames++ % this.box;
      this.model.set("position", [...position]);
      const start = performance.now();
      this.paint();
      times.push(performance.now() - start);
    }
    const fps = (1000 * frames) / (performance.now() - began);
    this.root.dataset.fps = fps.toFixed(1);
    times.sort((a, b) => a - b);
    return { fps, draw_ms: times[times.length >> 1], slowest_ms: times[times.length - 1], frames };
  }
}

function render({ model, el }) {
  const root = document.createElement("div");
  el.appendChild(root);
  const view = new View(model, root);
  root.lrw = { measure: (...options) => view.measure(...options), view };
  view.resize();
  return () => view.close();
}

export default { render };
