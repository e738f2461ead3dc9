"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const N_COLORS = 8;

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

const MARKERS = [
  (x, y) => `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z`,
  (x, y) => `M${x - 4.5} ${y - 4.5}h9v9h-9z`,
  (x, y) => `M${x} ${y - 6}l6 6l-6 6l-6 -6z`,
  (x, y) => `M${x} ${y - 6}l5.5 10h-11z`,
  (x, y) => `M${x} ${y + 6}l5.5 -10h-11z`,
];

function styleOf(index) {
  return {
    color: `var(--c${index % N_COLORS})`,
    marker: MARKERS[index % MARKERS.length],
    dash: index < N_COLORS ? "" : "7 4",
  };
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
  constructor(home, group) {
    this.group = group;
    this.home = home;
    this.state = { metric: group.metric, isLog: true, bands: true, hidden: new Set() };
    this.figure = html("div", { class: "plot" });
    home.append(this.controls(), this.legend(), this.figure);
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
    const bands = html("input", { type: "checkbox", checked: "" });
    bands.addEventListener("change", () => this.set({ bands: bands.checked }));
    return html(
      "div",
      { class: "controls" },
      html("label", {}, "metric ", metric),
      html("label", {}, "rate axis ", scale),
      html("label", {}, bands, "95 % intervals"),
    );
  }

  legend() {
    const box = html("fieldset", {}, html("legend", {}, "Codecs shown"));
    this.group.curves.forEach((curve, index) => {
      const style = styleOf(index);
      const swatch = element("svg", { class: "swatch", viewBox: "0 0 28 16", "aria-hidden": "true" });
      swatch.append(
        element("line", { x1: 0, x2: 28, y1: 8, y2: 8, stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash }),
        element("path", { d: style.marker(14, 8), fill: style.color }),
      );
      const box_ = html("input", { type: "checkbox", checked: "" });
      box_.addEventListener("change", () => {
        this.state.hidden[box_.checked ? "delete" : "add"](index);
        this.draw();
      });
      box.append(html("label", {}, box_, swatch, curve.codec));
    });
    return html("div", { class: "controls" }, box);
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
      "aria-label": `${metric.name} against rate, ${this.group.title}. Points can be reached with the tab key.`,
    });
    const curves = this.visible();
    const [x, y] = this.scales(curves, frame);
    this.axes(svg, frame, x, y, metric);
    this.original(svg, frame, y, metric);
    for (const curve of curves) this.band(svg, curve, x, y);
    for (const curve of curves) this.line(svg, curve, x, y);
    for (const curve of curves) this.points(svg, curve, x, y, metric);
    this.tip = html("div", { class: "tip", role: "status", hidden: "" });
    this.figure.replaceChildren(svg, this.tip);
  }

  signature() {
    const { metric, isLog, bands, hidden } = this.state;
    return [metric, isLog, bands, ...hidden].join(" ");
  }

  scales(curves, frame) {
    const { metric, isLog, bands } = this.state;
    const points = curves.flatMap((curve) => curve.points);
    const rates = points.map((point) => point.bpp);
    const values = points.flatMap((point) => [point.values[metric], ...((bands && point.bands[metric]) || [])]);
    if (this.group.original[metric] !== undefined) values.push(this.group.original[metric]);
    const known = values.filter(Number.isFinite);
    let low = known.length ? Math.min(...known) : 0;
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
    svg.append(element("polygon", { points: [...upper, ...lower].join(" "), fill: styleOf(curve.index).color, opacity: 0.13 }));
  }

  line(svg, curve, x, y) {
    const style = styleOf(curve.index);
    const path = curve.points.map((point) => `${x(point.bpp)},${y(point.values[this.state.metric])}`).join(" ");
    svg.append(element("polyline", { points: path, fill: "none", stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash }));
  }

  points(svg, curve, x, y, metric) {
    const style = styleOf(curve.index);
    const figure = (value) => number(value, metric.unit ? 2 : 4);
    for (const point of curve.points) {
      const value = point.values[metric.key];
      const band = point.bands[metric.key];
      const interval = band && band.every(Number.isFinite) ? `\n95 %: ${figure(band[0])} to ${figure(band[1])}` : "";
      const quality = point.quality === null ? "" : ` at ${point.quality}`;
      const said = `${curve.codec}${quality}\n${number(point.bpp, 4)} bpp, ${metric.name} ${figure(value)} ${metric.unit}${interval}`;
      const mark = element("path", {
        class: "point", d: style.marker(x(point.bpp), y(value)), fill: style.color, tabindex: 0, role: "img", "aria-label": said.replaceAll("\n", ", "),
      });
      const show = () => this.show(said, x(point.bpp), y(value));
      const hide = () => { this.tip.hidden = true; };
      mark.addEventListener("pointerenter", show);
      mark.addEventListener("pointerleave", hide);
      mark.addEventListener("focus", show);
      mark.addEventListener("blur", hide);
      mark.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
      svg.append(mark);
    }
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

class Browser {
  constructor(home, set) {
    this.set = set;
    this.codec = html("select");
    this.quality = html("select");
    this.image = html("select");
    this.threshold = html("input", { type: "range", min: 0.1, max: 0.9, step: 0.05, value: 0.3 });
    this.level = html("output");
    for (const codec of set.codecs) this.codec.append(new Option(codec.name, codec.name));
    const step = (by, label) => {
      const button = html("button", { type: "button" }, label);
      button.addEventListener("click", () => {
        const count = this.image.options.length;
        this.image.selectedIndex = (this.image.selectedIndex + by + count) % count;
        this.draw();
      });
      return button;
    };
    this.codec.addEventListener("change", () => { this.listQualities(); this.listImages(); this.draw(); });
    this.quality.addEventListener("change", () => { this.listImages(); this.draw(); });
    this.image.addEventListener("change", () => this.draw());
    this.threshold.addEventListener("input", () => { this.listImages(); this.draw(); });
    this.sides = [html("figure"), html("figure")];
    home.append(
      html("div", { class: "controls" }, html("label", {}, "codec ", this.codec), html("label", {}, "quality ", this.quality),
        html("label", {}, "scores from ", this.threshold, this.level)),
      html("div", { class: "controls" }, html("label", {}, "image, worst loss first ", this.image), step(-1, "previous"), step(1, "next")),
      html("p", { class: "key" }, ...["true", "false", "missed"].map((kind) => html("span", {}, html("i", { class: kind }), kind))),
      html("div", { class: "pair" }, ...this.sides),
    );
    this.listQualities();
    this.listImages();
    this.draw();
  }

  listQualities() {
    const codec = this.set.codecs.find((each) => each.name === this.codec.value);
    this.quality.replaceChildren(...codec.qualities.map((quality, index) => new Option(quality, index)));
  }

  viewOf(image) {
    return image.decoded[this.codec.value][Number(this.quality.value)];
  }

  found(view) {
    const level = Number(this.threshold.value);
    return new Set(view.detections.filter((each) => each.score >= level && each.object >= 0).map((each) => each.object));
  }

  lossOf(image) {
    return this.found(image.original).size - this.found(this.viewOf(image)).size;
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
    const quality = this.quality.selectedOptions[0].text;
    this.side(this.sides[0], image, image.original, "original");
    this.side(this.sides[1], image, this.viewOf(image), `${this.codec.value} at ${quality}`);
  }

  side(figure, image, view, name) {
    const level = Number(this.threshold.value);
    const found = this.found(view);
    const overlay = element("svg", { viewBox: `0 0 ${image.width} ${image.height}`, "aria-hidden": "true" });
    const shown = view.detections.filter((each) => each.score >= level && each.object !== -2);
    const missed = image.objects.filter((_, index) => !found.has(index));
    for (const each of missed) overlay.append(this.box(each.box, image, "missed", ""));
    for (const each of shown)
      overlay.append(this.box(each.box, image, each.object >= 0 ? "true" : "false", `${this.set.categories[each.category]} ${each.score.toFixed(2)}`));
    const n_false = shown.length - found.size;
    const bytes = view.bytes === undefined ? "" : `${view.bytes.toLocaleString("en")} bytes (${((8 * view.bytes) / (image.width * image.height)).toFixed(3)} bpp), `;
    const counts = `${bytes}${shown.length} detections: ${found.size} true, ${n_false} false, ${missed.length} of ${image.objects.length} objects missed`;
    const picture = html("img", { src: view.source, alt: `${image.name}, ${name}; ${counts}`, width: image.width, height: image.height });
    figure.replaceChildren(
      html("figcaption", {}, html("strong", {}, name), html("br"), counts),
      html("div", { class: "picture" }, picture, overlay),
    );
  }

  box([x, y, width, height], image, kind, label) {
    const group = element("g", { class: kind });
    group.append(element("rect", { x, y, width, height }));
    // Near the right edge a label runs leftwards, so that it stays within the picture.
    const isRight = x > 0.75 * image.width;
    const place = isRight ? { x: Math.min(image.width, x + width) - 3, "text-anchor": "end" } : { x: x + 3 };
    const text = { ...place, y: Math.max(13, y - 4), "font-size": Math.max(8, image.width / 45) };
    if (label) group.append(element("text", text, label));
    return group;
  }
}

document.querySelectorAll("[data-plot]").forEach((home) => new Plot(home, data.groups[Number(home.dataset.plot)]));
document.querySelectorAll("[data-browser]").forEach((home) => new Browser(home, data.browsers[Number(home.dataset.browser)]));
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.documentElement.dataset.ready = "yes";
