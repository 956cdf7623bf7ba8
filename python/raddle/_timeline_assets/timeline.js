// The controls: pointer, wheel, touch, keys, buttons; and what they tell in words.
// Invariant: one frame is drawn for however many events came since the last.

/** The shortest stretch of time that can be looked at, in seconds. */
const SHORTEST = 1e-6;

class Timeline {
  constructor(section) {
    this.section = section;
    this.recording = new Recording(JSON.parse(section.querySelector("script[type='application/json']").textContent));
    this.canvas = section.querySelector("canvas");
    this.details = section.querySelector(".details");
    this.tip = section.querySelector(".tip");
    this.from = 0;
    this.to = this.recording.duration;
    this.chosen = null;
    this.hovered = null;
    this.frame = 0;
    this.frames = 0;
    this.pointers = new Map();
    this.drawing = new Drawing(this.canvas, this.recording);
    this.listen();
    this.drawNow();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.pointerMove(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.pointerUp(event));
    }
    canvas.addEventListener("pointerleave", () => { this.hover(null); });
    canvas.addEventListener("dblclick", (event) => this.zoom(0.5, this.place(event)[0]));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => { if (!this.chosen) this.choose(this.firstVisible()); });
    for (const button of this.section.querySelectorAll("button[data-do]")) {
      button.addEventListener("click", () => this.act(button.dataset.do));
    }
    for (const button of this.section.querySelectorAll("button[data-task]")) {
      button.addEventListener("click", () => this.show(this.recording.items[Number(button.dataset.task)]));
    }
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  // --- what is looked at -----------------------------------------------------------------

  look(from, to) {
    const { duration } = this.recording;
    const length = Math.min(duration, Math.max(SHORTEST, to - from));
    this.from = Math.min(Math.max(0, from), duration - length);
    this.to = this.from + length;
    this.request();
  }

  zoom(factor, x = null) {
    const { left, right, width } = this.drawing;
    const share = x === null ? 0.5 : Math.min(1, Math.max(0, (x - left) / (width - left - right)));
    const length = this.to - this.from;
    const next = Math.min(this.recording.duration, Math.max(SHORTEST, length * factor));
    const middle = this.from + share * length;
    this.look(middle - share * next, middle + (1 - share) * next);
  }

  pan(share) {
    const by = share * (this.to - this.from);
    this.look(this.from + by, this.to + by);
  }

  /** Choose a bar and look at it with some time around it. */
  show(item) {
    if (!item) return;
    const around = Math.max((item.end - item.start) * 2, this.recording.duration / 50);
    this.choose(item);
    this.look(item.start - around, item.end + around);
    this.canvas.focus({ preventScroll: true });
    this.canvas.scrollIntoView({ block: "nearest" });
  }

  act(name) {
    const acts = {
      in: () => this.zoom(0.5),
      out: () => this.zoom(2),
      left: () => this.pan(-0.25),
      right: () => this.pan(0.25),
      all: () => this.look(0, this.recording.duration),
    };
    acts[name]();
  }

  request() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.drawNow());
  }

  drawNow() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.frames += 1;
    this.drawing.draw(this.from, this.to, this.chosen, this.hovered);
  }

  resize() {
    const width = this.canvas.parentElement.clientWidth;
    if (!width || width === this.drawing.width) return;
    this.drawing.lay(width);
    this.drawNow();
  }

  /** Draw in the colours that the theme has now. */
  recolour() {
    this.drawing.readColours();
    this.drawNow();
  }

  // --- pointer, wheel and touch ----------------------------------------------------------

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    // The page scrolls past the timeline, unless that was clicked or Ctrl is held.
    if (!sideways && !event.ctrlKey && !event.metaKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    if (sideways) this.pan((event.deltaX || event.deltaY) * lines / this.drawing.width);
    else this.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY * lines / 300))), this.place(event)[0]);
  }

  pointerDown(event) {
    if (event.button > 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.moved = 0;
  }

  pointerMove(event) {
    const now = this.place(event), before = this.pointers.get(event.pointerId);
    if (!before) { this.hover(event); return; }
    this.pointers.set(event.pointerId, now);
    const inner = this.drawing.width - this.drawing.left - this.drawing.right;
    this.moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (this.pointers.size === 1) {
      if (this.moved > 4) { this.hideTip(); this.pan((before[0] - now[0]) / inner); }
      return;
    }
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (place) => Math.max(10, Math.hypot(place[0] - other[0], place[1] - other[1]));
    this.zoom(apart(before) / apart(now), (now[0] + other[0]) / 2);
  }

  pointerUp(event) {
    const was = this.pointers.delete(event.pointerId);
    if (!was || event.type === "pointercancel" || this.moved > 4 || this.pointers.size) return;
    const found = this.drawing.at(...this.place(event));
    this.choose(found ? found.item : null);
    this.hover(event);
  }

  /** Show what is under the pointer, or nothing. */
  hover(event) {
    const found = event ? this.drawing.at(...this.place(event)) : null;
    const item = found ? found.item : null;
    if (item !== this.hovered) { this.hovered = item; this.request(); }
    const text = found ? this.words(found) : null;
    if (!text) { this.hideTip(); return; }
    fill(this.tip, text);
    this.tip.hidden = false;
    const [x, y] = this.place(event);
    const left = Math.max(4, Math.min(x + 14, this.drawing.width - this.tip.offsetWidth - 4));
    this.tip.style.transform = `translate(${left}px, ${y + 16}px)`;
  }

  hideTip() {
    this.tip.hidden = true;
  }

  /** Return the pairs that tell what was found at a point. */
  words({ item, band, time }) {
    const { recording } = this;
    if (item) return recording.details(item);
    const at = ["At", timeText(Math.max(0, time))];
    if (band.kind === "busy") return [at, ["Busy", `${recording.active.at(time)} of ${recording.workers} workers`]];
    if (band.kind === "queue") return [at, ["In the queue", `${recording.queue.at(time)} tasks`]];
    if (band.kind === "gil") {
      const holder = recording.holders.at(time, 0);
      return [at, ["GIL", holder ? `held by ${recording.data.lanes[holder.lane].name}` : "free, or held elsewhere"]];
    }
    if (band.process && band.process.end) return [["Ended", `${timeText(band.process.ended)}: ${band.process.end}`]];
    return null;
  }

  // --- keys ------------------------------------------------------------------------------

  key(event) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const acts = {
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), w: () => this.zoom(0.5),
      "-": () => this.zoom(2), s: () => this.zoom(2),
      a: () => this.pan(-0.25), d: () => this.pan(0.25),
      0: () => this.act("all"), Home: () => this.act("all"),
      ArrowLeft: () => (event.shiftKey ? this.pan(-0.25) : this.step(-1)),
      ArrowRight: () => (event.shiftKey ? this.pan(0.25) : this.step(1)),
      ArrowUp: () => this.change(-1), ArrowDown: () => this.change(1),
      Enter: () => this.show(this.chosen),
      Escape: () => { this.choose(null); this.hideTip(); },
    };
    if (!acts[pressed]) return;
    event.preventDefault();
    acts[pressed]();
  }

  firstVisible() {
    const items = this.recording.laneItems.flatMap((lane) => {
      const found = lane.find((item) => item.end > this.from && item.start < this.to);
      return found ? [found] : [];
    });
    return items.reduce((first, item) => (!first || item.start < first.start ? item : first), null);
  }

  /** Choose the bar before or after the chosen one, on the same worker. */
  step(by) {
    if (!this.chosen) { this.choose(this.firstVisible()); return; }
    const items = this.recording.laneItems[this.chosen.lane];
    const next = items[items.indexOf(this.chosen) + by];
    if (next) this.follow(next);
  }

  /** Choose the nearest bar of the worker above or below. */
  change(by) {
    if (!this.chosen) { this.choose(this.firstVisible()); return; }
    const lanes = this.drawing.bands.filter((band) => band.lane).map((band) => band.lane.index);
    const lane = lanes[lanes.indexOf(this.chosen.lane) + by];
    if (lane === undefined) return;
    const items = this.recording.laneItems[lane], middle = (this.chosen.start + this.chosen.end) / 2;
    let low = 0, high = items.length - 1;
    while (low < high) {
      const centre = (low + high) >> 1;
      if (items[centre].end < middle) low = centre + 1;
      else high = centre;
    }
    if (items[low]) this.follow(items[low]);
  }

  follow(item) {
    this.choose(item);
    const length = this.to - this.from;
    if (item.end < this.from || item.start > this.to) {
      this.look(item.start - length / 2, item.start + length / 2);
    }
  }

  choose(item) {
    this.chosen = item;
    this.details.replaceChildren();
    if (item) {
      const list = document.createElement("dl");
      fill(list, this.recording.details(item));
      this.details.append(list);
    } else {
      this.details.textContent = this.details.dataset.hint;
    }
    this.request();
  }
}

/** Fill an element with terms and their texts; a text never becomes markup. */
function fill(element, pairs) {
  element.replaceChildren(...pairs.map(([term, text]) => {
    const pair = document.createElement("div");
    const name = document.createElement(element.tagName === "DL" ? "dt" : "b");
    const value = document.createElement(element.tagName === "DL" ? "dd" : "span");
    name.textContent = term;
    value.textContent = text;
    pair.append(name, value);
    return pair;
  }));
}

/** Let the reader choose the theme; the first press goes against what the system prefers. */
function listenForTheme(timelines) {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => timelines.forEach((timeline) => timeline.recolour());
  const isDark = () => (root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  dark.addEventListener("change", recolour);
  for (const button of document.querySelectorAll("button.theme")) {
    const tell = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`);
    };
    tell();
    button.hidden = false;
    dark.addEventListener("change", tell);
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      tell();
      recolour();
    });
  }
}

/** Paper is white, and as wide as it is: what is printed is drawn for that. */
function listenForPrinting(timelines) {
  const root = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    for (const timeline of timelines) { timeline.drawing.lay(900); timeline.recolour(); }
  });
  addEventListener("afterprint", () => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    for (const timeline of timelines) {
      timeline.drawing.lay(timeline.canvas.parentElement.clientWidth);
      timeline.recolour();
    }
  });
}

const timelines = [...document.querySelectorAll(".raddle-timeline")].map((section) => new Timeline(section));
listenForTheme(timelines);
listenForPrinting(timelines);
// For whoever looks at a recording from the browser's console.
window.raddleTimelines = timelines;
