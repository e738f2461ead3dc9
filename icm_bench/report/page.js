"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const MOST_WITH_BANDS = 6;
const NEAR = 40;
const EXAMPLE_SCORE = 0.3;

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const number = (value, digits) => (value === null || value === undefined ? "none" : value.toFixed(digits));

const star = (x, y) => {
  const corners = Array.from({ length: 10 }, (_, index) => {
    const [radius, angle] = [index % 2 ? 2.8 : 7, (Math.PI * (index - 2.5)) / 5];
    return `${x + radius * Math.cos(angle)} ${y + radius * Math.sin(angle)}`;
  });
  return `M${corners.join("L")}z`;
};

// Markers as in the plots: by the letters that matplotlib has for them.
const MARKERS = {
  o: (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z`,
  s: (x, y) => `M${x - 4.5} ${y - 4.5}h9v9h-9z`,
  D: (x, y) => `M${x} ${y - 6}l6 6l-6 6l-6 -6z`,
  "^": (x, y) => `M${x} ${y - 6}l5.5 10h-11z`,
  v: (x, y) => `M${x} ${y + 6}l5.5 -10h-11z`,
  P: (x, y) => `M${x - 2} ${y - 6}h4v4h4v4h-4v4h-4v-4h-4v-4h4z`,
  X: (x, y) => `M${x} ${y - 3}l3 -3l3 3l-3 3l3 3l-3 3l-3 -3l-3 3l-3 -3l3 -3l-3 -3l3 -3z`,
  "*": star,
};

const DASHES = ["", "9 3", "9 3 2 3", "2 3"];

function styleOf({ style }) {
  const color = `var(--c${style.color})`;
  return { color, marker: MARKERS[style.marker], dash: DASHES[style.line], fill: style.line ? "var(--back)" : color };
}

function ticksOf(low, high, isLog) {
  const ticks = [];
  if (isLog) {
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.ceil(Math.log10(high)); decade++)
      for (const digit of [1, 2, 5]) ticks.push(Number((digit * 10 ** decade).toPrecision(1)));
  } else {
    const raw = (high - low) / 6;
    const size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((digit) => digit * size).find((candidate) => candidate >= raw);
    for (let index = Math.ceil(low / step); index * step <= high; index++) ticks.push(Number((index * step).toPrecision(10)));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

class Plot {
  constructor(home, group, set) {
    this.group = group;
    this.examples = set;
    this.home = home;
    const hasBands = group.curves.length <= MOST_WITH_BANDS;
    this.state = { metric: group.metric, isLog: true, bands: hasBands, isWhole: false, hidden: new Set() };
    this.figure = html("div", { class: "plot" });
    this.example = html("figure", { class: "example" });
    const hint = this.examples ? [html("p", { class: "caption" }, "Move to a point: the image that loses most is shown as it was decoded there.")] : [];
    this.example.append(...hint);
    const shown = this.examples ? html("div", { class: "beside" }, this.figure, this.example) : this.figure;
    home.append(this.controls(), this.legend(), shown);
    new ResizeObserver(() => this.draw()).observe(this.figure);
    this.draw();
  }

  controls() {
    const metric = html("select");
    for (const each of this.group.metrics) metric.append(new Option(each.name, each.key, false, each.key === this.state.metric));
    metric.addEventListener("change", () => this.set({ metric: metric.value }));
    const scale = html("select");
    scale.append(new Option("logarithmic", "log"), new Option("linear", "linear"));
    scale.addEventListener("change", () => this.set({ isLog: scale.value === "log" }));
    const bands = html("input", { type: "checkbox" });
    bands.checked = this.state.bands;
    bands.addEventListener("change", () => this.set({ bands: bands.checked }));
    const whole = html("input", { type: "checkbox" });
    whole.addEventListener("change", () => this.set({ isWhole: whole.checked }));
    const isCut = Object.keys(this.group.lowest).length > 0;
    return html(
      "div",
      { class: "controls" },
      html("label", {}, "metric ", metric),
      html("label", {}, "rate axis ", scale),
      html("label", {}, bands, "95 % intervals"),
      ...(isCut ? [html("label", {}, whole, "low accuracies too")] : []),
    );
  }

  legend() {
    const box = html("fieldset", {}, html("legend", {}, "Codecs shown"));
    const everyone = this.group.curves.map((_, index) => index);
    const button = (text, label, hidden) => {
      const made = html("button", { type: "button", "aria-label": label }, text);
      made.addEventListener("click", () => this.hide(hidden()));
      return made;
    };
    this.boxes = this.group.curves.map((curve, index) => {
      const style = styleOf(curve);
      const swatch = element("svg", { class: "swatch", viewBox: "0 0 28 16", "aria-hidden": "true" });
      swatch.append(
        element("line", { x1: 0, x2: 28, y1: 8, y2: 8, stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash }),
        element("path", { d: style.marker(14, 8), fill: style.fill, stroke: style.color, "stroke-width": 1.5 }),
      );
      const shown = html("input", { type: "checkbox", checked: "" });
      shown.addEventListener("change", () => {
        this.state.hidden[shown.checked ? "delete" : "add"](index);
        this.draw();
      });
      const others = () => everyone.filter((other) => other !== index && !this.group.curves[index].rivals.includes(other));
      const solo = button("solo", `Show ${curve.label} alone`, others);
      box.append(html("span", { class: "codec" }, html("label", { title: curve.codec }, shown, swatch, html("span", {}, curve.label)), solo));
      return shown;
    });
    const actions = html("div", { class: "controls" }, button("all", "Show all codecs", () => []), button("none", "Show no codec", () => everyone));
    return html("details", { class: "legend", open: "" }, html("summary", {}, `${this.group.curves.length} curves`), actions, box);
  }

  hide(hidden) {
    this.boxes.forEach((box, index) => { box.checked = !hidden.includes(index); });
    this.set({ hidden: new Set(hidden) });
  }

  set(change) {
    Object.assign(this.state, change);
    this.draw();
  }

  visible() {
    const { metric, hidden } = this.state;
    return this.group.curves
      .map((curve, index) => ({ ...curve, index, points: curve.points.filter((point) => Number.isFinite(point.values[metric])) }))
      .filter((curve) => !hidden.has(curve.index) && curve.points.length);
  }

  draw() {
    const width = Math.max(280, this.figure.clientWidth || 640);
    if (width === this.drawnWidth && this.drawnState === this.signature()) return;
    this.drawnWidth = width;
    this.drawnState = this.signature();
    const frame = { left: 52, right: width - 12, top: 12, bottom: Math.min(460, Math.max(260, width * 0.55)) - 44 };
    const metric = this.group.metrics.find((each) => each.key === this.state.metric);
    const svg = element("svg", {
      viewBox: `0 0 ${width} ${frame.bottom + 44}`,
      role: "group",
      "aria-label": `${metric.name} against rate, ${this.group.title}. Left and right go along a curve, up and down to another.`,
    });
    const curves = this.visible();
    this.shown = [];
    this.emphasized = null;
    const [x, y] = this.scales(curves, frame);
    this.axes(svg, frame, x, y, metric);
    this.original(svg, frame, y, metric);
    // What lies below the axes is cut off; markers at their edge are not.
    const size = { x: frame.left, y: frame.top - 8, width: frame.right - frame.left + 8, height: frame.bottom - frame.top + 8 };
    const inner = element("svg", { ...size, viewBox: `${size.x} ${size.y} ${size.width} ${size.height}` });
    svg.append(inner);
    for (const curve of curves) this.band(inner, curve, x, y);
    for (const curve of curves) this.line(inner, curve, x, y);
    for (const curve of curves) this.points(inner, curve, x, y, metric);
    this.tip = html("div", { class: "tip", role: "status", hidden: "" });
    // The point that is nearest to the mouse, wherever within reach of it.
    svg.addEventListener("pointermove", (event) => this.showNearest(svg, event));
    svg.addEventListener("pointerleave", () => this.hideTip());
    this.figure.replaceChildren(svg, this.tip);
  }

  signature() {
    const { metric, isLog, bands, isWhole, hidden } = this.state;
    return [metric, isLog, bands, isWhole, ...hidden].join(" ");
  }

  scales(curves, frame) {
    const { metric, isLog, bands, isWhole } = this.state;
    const lowest = isWhole ? -Infinity : this.group.lowest[metric] ?? -Infinity;
    const all = curves.flatMap((curve) => curve.points);
    const within = all.filter((point) => point.values[metric] >= lowest);
    const points = within.length ? within : all;
    const rates = points.map((point) => point.bpp);
    const values = points.flatMap((point) => [point.values[metric], ...((bands && point.bands[metric]) || [])]);
    if (this.group.original[metric] !== undefined) values.push(this.group.original[metric]);
    const known = values.filter(Number.isFinite);
    let low = known.length ? Math.min(...known.filter((value) => value >= lowest), Math.max(...known)) : 0;
    let high = known.length ? Math.max(...known) : 1;
    const margin = (high - low || 1) * 0.06;
    low -= margin;
    high += margin;
    let first = rates.length ? Math.min(...rates) : 0.1;
    let last = rates.length ? Math.max(...rates) : 1;
    if (isLog) {
      first /= 1.12;
      last *= 1.12;
    } else {
      first = 0;
      last *= 1.05;
    }
    const across = isLog ? Math.log : (value) => value;
    const x = (rate) => frame.left + ((across(rate) - across(first)) / (across(last) - across(first))) * (frame.right - frame.left);
    const y = (value) => frame.bottom - ((value - low) / (high - low)) * (frame.bottom - frame.top);
    return [Object.assign(x, { low: first, high: last }), Object.assign(y, { low, high })];
  }

  axes(svg, frame, x, y, metric) {
    let lastLabel = -Infinity;
    for (const tick of ticksOf(x.low, x.high, this.state.isLog)) {
      svg.append(element("line", { class: "grid", x1: x(tick), x2: x(tick), y1: frame.top, y2: frame.bottom }));
      if (x(tick) - lastLabel < 34) continue;
      lastLabel = x(tick);
      svg.append(element("text", { x: x(tick), y: frame.bottom + 18, "text-anchor": "middle" }, String(tick)));
    }
    for (const tick of ticksOf(y.low, y.high, false)) {
      svg.append(
        element("line", { class: "grid", x1: frame.left, x2: frame.right, y1: y(tick), y2: y(tick) }),
        element("text", { x: frame.left - 7, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
      );
    }
    const middle = (frame.top + frame.bottom) / 2;
    svg.append(
      element("text", { x: (frame.left + frame.right) / 2, y: frame.bottom + 38, "text-anchor": "middle" }, "rate / bits per pixel of the native image"),
      element("text", { transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" }, metric.unit ? `${metric.name.replace(" (dB)", "")} / ${metric.unit}` : metric.name),
    );
  }

  original(svg, frame, y, metric) {
    const value = this.group.original[metric.key];
    if (value === undefined) return;
    const band = this.state.bands && this.group.originalBands[metric.key];
    if (band && band.every(Number.isFinite)) {
      const top = Math.max(frame.top, y(band[1]));
      const bottom = Math.min(frame.bottom, y(band[0]));
      svg.append(element("rect", { x: frame.left, width: frame.right - frame.left, y: top, height: Math.max(0, bottom - top), fill: "var(--faint)", opacity: 0.08 }));
    }
    svg.append(
      element("line", { class: "original", x1: frame.left, x2: frame.right, y1: y(value), y2: y(value) }),
      element("text", { x: frame.left + 6, y: y(value) - 6 }, `uncompressed ${number(value, 1)}`),
    );
  }

  band(svg, curve, x, y) {
    const { metric, bands } = this.state;
    const points = curve.points.filter((point) => (point.bands[metric] || [null]).every(Number.isFinite));
    if (!bands || points.length < 2) return;
    const upper = points.map((point) => `${x(point.bpp)},${y(point.bands[metric][1])}`);
    const lower = points.map((point) => `${x(point.bpp)},${y(point.bands[metric][0])}`).reverse();
    svg.append(element("polygon", { points: [...upper, ...lower].join(" "), fill: styleOf(curve).color, opacity: 0.13 }));
  }

  line(svg, curve, x, y) {
    const style = styleOf(curve);
    const path = curve.points.map((point) => `${x(point.bpp)},${y(point.values[this.state.metric])}`).join(" ");
    svg.append(element("polyline", { points: path, fill: "none", stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash, "data-curve": curve.index }));
  }

  points(svg, curve, x, y, metric) {
    const style = styleOf(curve);
    const text = (value) => number(value, metric.unit ? 2 : 4);
    for (const point of curve.points) {
      const value = point.values[metric.key];
      if (value < y.low) continue;
      const band = point.bands[metric.key];
      const interval = band && band.every(Number.isFinite) ? `\n95 %: ${text(band[0])} to ${text(band[1])}` : "";
      const quality = point.quality === null ? "" : ` at ${point.quality}`;
      const said = `${curve.label}${quality}\n${number(point.bpp, 4)} bpp, ${metric.name} ${text(value)} ${metric.unit}${interval}`;
      const mark = element("path", {
        class: "point", "data-curve": curve.index, d: style.marker(x(point.bpp), y(value)), fill: style.fill, stroke: style.color, tabindex: this.shown.length ? -1 : 0, role: "img", "aria-label": said.replaceAll("\n", ", "),
      });
      const show = () => {
        this.show(said, x(point.bpp), y(value));
        this.emphasize(curve.index);
        this.exemplify(curve, point);
      };
      const place = { x: x(point.bpp), y: y(value), curve: curve.index, mark, show };
      this.shown.push(place);
      mark.addEventListener("focus", () => {
        for (const each of this.shown) each.mark.setAttribute("tabindex", each === place ? 0 : -1);
        show();
      });
      mark.addEventListener("blur", () => this.hideTip());
      mark.addEventListener("keydown", (event) => {
        if (event.key === "Escape") this.hideTip();
        else this.step(event, place);
      });
      svg.append(mark);
    }
  }

  // All points are one stop of the tab key: arrows go along a curve, and to the nearest point of the curve before or after.
  step(event, from) {
    const [along, across] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
    if (!along && !across) return;
    event.preventDefault();
    const curves = [...new Set(this.shown.map((each) => each.curve))];
    const curve = curves.at((curves.indexOf(from.curve) + across) % curves.length);
    const places = this.shown.filter((each) => each.curve === curve);
    const far = (place) => Math.abs(place.x - from.x);
    const to = along ? places[places.indexOf(from) + along] : places.reduce((best, each) => (far(each) < far(best) ? each : best));
    if (to) to.mark.focus();
  }

  showNearest(svg, event) {
    const frame = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / frame.width;
    const [x, y] = [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
    const far = (point) => Math.hypot(point.x - x, point.y - y);
    const nearest = this.shown.reduce((best, point) => (best && far(best) <= far(point) ? best : point), null);
    if (nearest && far(nearest) < NEAR) nearest.show();
    else this.hideTip();
  }

  hideTip() {
    this.tip.hidden = true;
    this.emphasize(null);
  }

  // Mutes all curves but one, or none.
  emphasize(index) {
    if (index === this.emphasized) return;
    this.emphasized = index;
    for (const each of this.figure.querySelectorAll("[data-curve]"))
      each.classList.toggle("muted", index !== null && Number(each.dataset.curve) !== index);
  }

  // The image that loses most, as it was decoded at a point, with what the detector saw in it.
  exemplify(curve, point) {
    const codec = this.examples && this.examples.codecs.find((each) => each.name === curve.codec);
    const at = codec && !curve.isBase ? codec.qualities.indexOf(String(point.quality)) : -1;
    if (at < 0) return;
    const image = this.examples.images[0];
    side(this.example, this.examples, image, image.decoded[codec.name][at], `${codec.label} at ${point.quality}`, EXAMPLE_SCORE);
  }

  show(said, x, y) {
    this.tip.textContent = said;
    this.tip.hidden = false;
    const left = Math.min(x + 12, this.figure.clientWidth - this.tip.offsetWidth - 2);
    const above = y - this.tip.offsetHeight - 12;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${above < 0 ? y + 14 : above}px`;
  }
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const body = table.tBodies[0];
      const sorted = [...body.rows].sort((left, right) => compareCells(left.cells[column], right.cells[column], rising));
      body.append(...sorted);
    });
  });
}

function compareCells(left, right, rising) {
  const [a, b] = [left, right].map((cell) => (cell.dataset.value === undefined ? cell.textContent : cell.dataset.value));
  if (a === "" || b === "") return (a === "") - (b === "");
  const order = left.dataset.value === undefined ? a.localeCompare(b, undefined, { numeric: true }) : Number(a) - Number(b);
  return rising ? order : -order;
}

// Two views of an image, each the original or as a codec decoded it, side by side or one over the other.
class Browser {
  constructor(home, set) {
    this.set = set;
    this.image = html("select");
    this.threshold = html("input", { type: "range", min: 0.1, max: 0.9, step: 0.05, value: 0.3 });
    this.level = html("output");
    this.sides = [this.chooser("left", set.codecs.length), this.chooser("right", 0)];
    this.figures = [html("figure"), html("figure")];
    this.over = html("input", { type: "checkbox" });
    this.split = html("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Where the left image ends" });
    this.zoom = html("input", { type: "range", min: 1, max: 6, step: 0.5, value: 1 });
    const step = (by, label) => {
      const button = html("button", { type: "button" }, label);
      button.addEventListener("click", () => {
        const count = this.image.options.length;
        this.image.selectedIndex = (this.image.selectedIndex + by + count) % count;
        this.draw();
      });
      return button;
    };
    this.image.addEventListener("change", () => this.draw());
    this.threshold.addEventListener("input", () => { this.listImages(); this.draw(); });
    this.over.addEventListener("change", () => this.draw());
    for (const each of [this.split, this.zoom]) each.addEventListener("input", () => this.place());
    this.pair = html("div", { class: "pair" }, ...this.figures);
    home.append(
      html("div", { class: "controls" }, ...this.sides.flatMap((side) => [side.codecLabel, side.qualityLabel])),
      html("div", { class: "controls" }, html("label", {}, "image, worst loss first ", this.image), step(-1, "previous"), step(1, "next")),
      html("div", { class: "controls" }, html("label", {}, "scores from ", this.threshold, this.level), html("label", {}, "zoom ", this.zoom),
        html("label", {}, this.over, "one over the other"), html("label", {}, "slider ", this.split)),
      html("p", { class: "key" }, ...["true", "false", "missed"].map((kind) => html("span", {}, html("i", { class: kind }), kind))),
      this.pair,
    );
    this.listImages();
    this.draw();
  }

  chooser(name, selected) {
    const codec = html("select");
    this.set.codecs.forEach((each, index) => codec.append(new Option(each.label, index)));
    codec.append(new Option("original", ""));
    codec.selectedIndex = selected;
    const quality = html("select");
    const list = () => {
      const chosen = this.set.codecs[codec.value];
      quality.replaceChildren(...(chosen ? chosen.qualities : []).map((each, index) => new Option(each, index)));
      quality.disabled = !chosen;
    };
    codec.addEventListener("change", () => { list(); this.listImages(); this.draw(); });
    quality.addEventListener("change", () => { this.listImages(); this.draw(); });
    list();
    return { codec, quality, codecLabel: html("label", {}, `${name} `, codec), qualityLabel: html("label", {}, "at ", quality) };
  }

  viewOf(image, { codec, quality }) {
    const chosen = this.set.codecs[codec.value];
    return chosen ? image.decoded[chosen.name][Number(quality.value)] : image.original;
  }

  nameOf({ codec, quality }) {
    const chosen = this.set.codecs[codec.value];
    return chosen ? `${chosen.label} at ${quality.selectedOptions[0].text}` : "original";
  }

  found(view) {
    return foundIn(view, Number(this.threshold.value));
  }

  lossOf(image) {
    return this.found(image.original).size - this.found(this.viewOf(image, this.sides[1])).size;
  }

  listImages() {
    this.level.value = Number(this.threshold.value).toFixed(2);
    const chosen = this.image.value;
    const ranked = [...this.set.images].sort((left, right) => this.lossOf(right) - this.lossOf(left) || left.id - right.id);
    this.image.replaceChildren(...ranked.map((image) => {
      const loss = this.lossOf(image);
      return new Option(`${image.name}: ${loss > 0 ? `${loss} lost` : loss < 0 ? `${-loss} gained` : "none lost"}`, image.id);
    }));
    if (chosen && document.activeElement === this.threshold) this.image.value = chosen;
  }

  draw() {
    const image = this.set.images.find((each) => String(each.id) === this.image.value);
    const level = Number(this.threshold.value);
    this.sides.forEach((each, index) => side(this.figures[index], this.set, image, this.viewOf(image, each), this.nameOf(each), level));
    this.place();
  }

  place() {
    this.pair.classList.toggle("over", this.over.checked);
    this.split.disabled = !this.over.checked;
    const [left, right] = this.figures.map((figure) => figure.querySelector(".picture"));
    for (const picture of [left, right]) {
      picture.firstChild.style.width = `${100 * Number(this.zoom.value)}%`;
      picture.onscroll = () => {
        const other = picture === left ? right : left;
        if (other.scrollLeft !== picture.scrollLeft) other.scrollLeft = picture.scrollLeft;
        if (other.scrollTop !== picture.scrollTop) other.scrollTop = picture.scrollTop;
      };
    }
    right.style.clipPath = this.over.checked ? `inset(0 0 0 ${this.split.value}%)` : "";
  }
}

function foundIn(view, level) {
  return new Set(view.detections.filter((each) => each.score >= level && each.object >= 0).map((each) => each.object));
}

// Fills a figure with one view of an image: its pixels, and the boxes of what was found, wrong or missed.
function side(figure, set, image, view, name, level) {
  const found = foundIn(view, level);
  const overlay = element("svg", { viewBox: `0 0 ${image.width} ${image.height}`, "aria-hidden": "true" });
  const shown = view.detections.filter((each) => each.score >= level && each.object !== -2);
  const missed = image.objects.filter((_, index) => !found.has(index));
  for (const each of missed) overlay.append(box(each.box, image, "missed", ""));
  for (const each of shown)
    overlay.append(box(each.box, image, each.object >= 0 ? "true" : "false", `${set.categories[each.category]} ${each.score.toFixed(2)}`));
  const n_false = shown.length - found.size;
  const bytes = view.bytes === undefined ? "" : `${view.bytes.toLocaleString("en")} bytes (${((8 * view.bytes) / (image.width * image.height)).toFixed(3)} bpp), `;
  const counts = `${bytes}${shown.length} detections: ${found.size} true, ${n_false} false, ${missed.length} of ${image.objects.length} objects missed`;
  const picture = html("img", { src: view.source, alt: `${image.name}, ${name}; ${counts}`, width: image.width, height: image.height });
  figure.replaceChildren(
    html("figcaption", {}, html("strong", {}, name), html("br"), counts),
    html("div", { class: "picture", tabindex: 0 }, html("div", { class: "zoomed" }, picture, overlay)),
  );
}

function box([x, y, width, height], image, kind, label) {
  const group = element("g", { class: kind });
  group.append(element("rect", { x, y, width, height }));
  // Near the right edge a label runs leftwards, so that it stays within the picture.
  const isRight = x > 0.75 * image.width;
  const place = isRight ? { x: Math.min(image.width, x + width) - 3, "text-anchor": "end" } : { x: x + 3 };
  const text = { ...place, y: Math.max(13, y - 4), "font-size": Math.max(8, image.width / 45) };
  if (label) group.append(element("text", text, label));
  return group;
}

document.querySelectorAll("[data-plot]").forEach((home) => new Plot(home, data.groups[Number(home.dataset.plot)], data.browsers[Number(home.dataset.plot)]));
document.querySelectorAll("[data-browser]").forEach((home) => new Browser(home, data.browsers[Number(home.dataset.browser)]));
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.documentElement.dataset.ready = "yes";
