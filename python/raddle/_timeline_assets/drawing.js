// The picture: bands from top to bottom, bars in them. Reads the recording, changes nothing of it.
// Invariant: the work for a frame depends on the pixels and on the logarithm of the tasks only.

const FONT = "12px system-ui, sans-serif";
const SMALL = "11px system-ui, sans-serif";
const GLYPHS = ["", "✕", "–", "◷", "†", "…", "↻"];

/** Return round times for the axis, about one each so many pixels. */
function ticks(from, to, width, apart) {
  const rough = (to - from) * apart / width;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * unit).find((size) => size >= rough) || 10 * unit;
  const times = [];
  for (let n = Math.ceil(from / step); n * step <= to; n += 1) times.push(n * step);
  return [times, step];
}

/** Write a time of the axis with as many decimals as its step needs. */
function tickText(time, step) {
  const [unit, size] = step >= 0.1 ? ["s", 1] : step >= 1e-4 ? ["ms", 1e-3] : ["µs", 1e-6];
  const decimals = Math.max(0, -Math.floor(Math.log10(step / size) + 1e-9));
  return `${(time / size).toFixed(decimals)} ${unit}`;
}

/** Make the pattern that tells a state where its colour does not. */
function hatch(context, colour, ground, state) {
  const tile = document.createElement("canvas");
  const size = state === 6 ? 5 : 6;
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.fillStyle = ground;
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.5;
  const line = (...points) => {
    pen.beginPath();
    pen.moveTo(points[0], points[1]);
    pen.lineTo(points[2], points[3]);
    pen.stroke();
  };
  if (state === 6) pen.fillRect(1, 1, 2, 2);
  else if (state === 3) line(3, 0, 3, 6);
  else {
    line(-1, 7, 7, -1); line(-1, 1, 1, -1); line(5, 7, 7, 5);
    if (state === 4) { line(-1, -1, 7, 7); }
  }
  return context.createPattern(tile, "repeat");
}

/** Whether dark text is easier to read on a colour than light text. */
function isLight(colour) {
  const value = parseInt(colour.slice(1), 16);
  const [red, green, blue] = [value >> 16, (value >> 8) & 255, value & 255];
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
}

class Drawing {
  constructor(canvas, recording) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.recording = recording;
    this.readColours();
    this.lay(canvas.clientWidth || 800);
  }

  readColours() {
    const style = getComputedStyle(this.canvas);
    const read = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colours = {};
    for (const name of ["ground", "band", "ink", "muted", "line", "bad", "wait", "hold", "lock", "busy", "queue", "mark"]) {
      this.colours[name] = read(name);
    }
    this.labels = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => read(`label-${n}`));
    this.hatches = new Map();
  }

  /** Decide where each band stands, for a width in CSS pixels. */
  lay(width) {
    const { recording } = this;
    this.width = width;
    this.narrow = width < 600;
    this.left = this.narrow ? 6 : Math.min(190, Math.round(width * 0.2));
    this.right = 16;
    this.bands = [];
    let top = 26;
    const add = (kind, height, more = {}) => {
      const head = this.narrow && kind !== "process" ? 15 : 0;
      this.bands.push({ kind, top: top + head, height, ...more });
      top += height + head + 4;
    };
    add("busy", 34);
    add("queue", 26);
    if (recording.holders.items.length) add("gil", 16);
    const used = recording.lanes.filter((lane) => lane.rows.length);
    const several = recording.data.processes.length > 1;
    const bar = used.length > 40 ? 10 : 16;
    recording.data.processes.forEach((process, index) => {
      const lanes = used.filter((lane) => lane.process === index);
      if (!lanes.length && process.end === null) return;
      // A worker process is a row like any other; one with several rows has a heading.
      const alone = lanes.length === 1 && lanes[0].kind === "process";
      if (several && !alone) { top += 3; add("process", 16, { process }); }
      lanes.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
      for (const lane of lanes) {
        add("lane", lane.rows.length * (bar + 1) + 6, { lane, bar, process: alone ? process : null });
      }
    });
    this.height = top + 4;
    const scale = Math.min(3, window.devicePixelRatio || 1);
    this.canvas.style.height = `${this.height}px`;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.scale = scale;
  }

  x(time) {
    return this.left + (time - this.from) / (this.to - this.from) * (this.width - this.left - this.right);
  }

  time(x) {
    return this.from + (x - this.left) / (this.width - this.left - this.right) * (this.to - this.from);
  }

  /** Draw the times between two ends, with the chosen and the hovered bar marked. */
  draw(from, to, chosen, hovered) {
    const { context: pen } = this;
    this.from = from;
    this.to = to;
    pen.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    pen.fillStyle = this.colours.ground;
    pen.fillRect(0, 0, this.width, this.height);
    for (const band of this.bands) this.drawGround(band);
    this.drawAxis();
    pen.save();
    pen.beginPath();
    pen.rect(this.left, 0, this.width - this.left - this.right, this.height);
    pen.clip();
    for (const band of this.bands) this.drawBand(band);
    for (const item of [hovered, chosen]) if (item) this.mark(item, item === chosen);
    pen.restore();
    for (const band of this.bands) this.drawName(band);
  }

  drawGround(band) {
    if (band.kind === "process") return;
    this.context.fillStyle = this.colours.band;
    this.context.fillRect(this.left, band.top, this.width - this.left - this.right, band.height);
  }

  drawAxis() {
    const { context: pen } = this;
    const [times, step] = ticks(this.from, this.to, this.width - this.left - this.right, 90);
    pen.font = SMALL;
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    for (const time of times) {
      const x = Math.round(this.x(time)) + 0.5;
      pen.fillStyle = this.colours.line;
      pen.fillRect(x - 0.5, 20, 1, this.height - 20);
      const text = tickText(time, step), half = pen.measureText(text).width / 2;
      pen.fillStyle = this.colours.muted;
      pen.fillText(text, Math.min(Math.max(x, this.left + half), this.width - half - 2), 14);
    }
  }

  drawName(band) {
    const { context: pen, recording } = this;
    const names = { busy: "Workers busy", queue: "Queue", gil: "GIL held by" };
    let text = names[band.kind] || (band.lane || band.process).name;
    if (band.kind === "busy") text += ` (of ${recording.workers})`;
    if (band.kind === "queue") text += ` (up to ${recording.queue.most.toLocaleString("en")})`;
    const bold = band.kind === "process";
    pen.font = bold ? `600 ${SMALL}` : this.narrow ? SMALL : FONT;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillStyle = band.kind === "lane" ? this.colours.ink : this.colours.muted;
    const space = this.narrow || bold ? this.width - 20 : this.left - 14;
    if (bold) text += ` · pid ${band.process.pid}`;
    if (bold && band.process.end !== null) text += ` · ended: ${band.process.end}`;
    text = this.fitted(text, space);
    const y = this.narrow && !bold ? band.top - 8 : band.top + band.height / 2;
    pen.fillText(text, 6, y);
  }

  /** Shorten a text in its middle, where names differ least, until it fits. */
  fitted(text, space) {
    const { context: pen } = this;
    if (pen.measureText(text).width <= space) return text;
    let keep = Math.max(2, Math.floor(text.length * space / pen.measureText(text).width) - 1);
    for (; keep > 2; keep -= 1) {
      const shorter = `${text.slice(0, Math.ceil(keep / 2))}…${text.slice(-Math.floor(keep / 2))}`;
      if (pen.measureText(shorter).width <= space) return shorter;
    }
    return "";
  }

  drawBand(band) {
    const { recording } = this;
    if (band.kind === "busy") this.drawSteps(band, recording.active, recording.workers, this.colours.busy);
    else if (band.kind === "queue") this.drawSteps(band, recording.queue, recording.queue.most, this.colours.queue);
    else if (band.kind === "gil") this.drawHolders(band);
    else if (band.kind === "lane") this.drawLane(band);
    if (band.process) this.drawEnd(band);
  }

  drawSteps(band, steps, most, colour) {
    const { context: pen } = this;
    const right = this.width - this.right;
    pen.fillStyle = colour;
    pen.beginPath();
    pen.moveTo(this.left, band.top + band.height);
    for (let x = this.left; x < right; x += 1) {
      const mean = steps.mean(this.time(x), this.time(x + 1));
      const y = band.top + band.height * (1 - Math.min(1, mean / Math.max(1, most)));
      pen.lineTo(x, y);
      pen.lineTo(x + 1, y);
    }
    pen.lineTo(right, band.top + band.height);
    pen.fill();
  }

  /** Walk over the bars of a row that are visible: single ones, or full pixel columns of small ones. */
  walk(row, single, column) {
    const pixel = (this.to - this.from) / (this.width - this.left - this.right);
    let i = above(row.ends, this.from);
    while (i < row.items.length && row.starts[i] < this.to) {
      const start = row.starts[i], end = row.ends[i];
      if (end - start >= 2 * pixel) {
        single(row.items[i], this.x(start), this.x(end));
        i += 1;
        continue;
      }
      const x = Math.floor(this.x(Math.max(start, this.from)));
      const next = Math.max(i + 1, above(row.starts, this.time(x + 1), i));
      // A wide one that begins in this column is drawn for itself.
      const wide = row.ends[next - 1] - row.starts[next - 1] >= 2 * pixel && next - 1 > i;
      const stop = wide ? next - 1 : next;
      const share = Math.min(1, (row.busy[stop] - row.busy[i]) / pixel);
      column(row.items[i], x, share, row.bad[stop] - row.bad[i]);
      i = stop;
    }
  }

  drawLane(band) {
    const { context: pen, recording } = this;
    band.lane.rows.forEach((row, n) => {
      const top = band.top + n * (band.bar + 1);
      this.walk(row,
        (item, from, to) => this.drawBar(item, from, to, top, band.bar),
        (item, x, share, bad) => {
          pen.globalAlpha = 0.35 + 0.65 * share;
          pen.fillStyle = bad ? this.colours.bad : this.labels[recording.colours.get(item.label) ?? 7];
          pen.fillRect(x, top, 1, band.bar);
          pen.globalAlpha = 1;
        });
    });
    const strip = band.top + band.height - 6, index = band.lane.index;
    this.drawStrip(recording.waited[index], strip, this.colours.wait);
    this.drawStrip(recording.held[index], strip, this.colours.hold);
    this.drawStrip(recording.locked[index], strip, this.colours.lock);
  }

  drawStrip(row, top, colour) {
    const { context: pen } = this;
    pen.fillStyle = colour;
    this.walk(row,
      (item, from, to) => pen.fillRect(from, top, to - from, 5),
      (item, x, share) => {
        pen.globalAlpha = share;
        pen.fillRect(x, top, 1, 5);
        pen.globalAlpha = 1;
      });
  }

  drawBar(item, from, to, top, height) {
    const { context: pen, recording } = this;
    const plain = item.state === FINISHED || item.state === RUNNING;
    const colour = item.bad ? this.colours.bad : this.labels[recording.colours.get(item.label) ?? 7];
    // Bars that touch are told apart by a gap, where there is room for one.
    const width = to - from > 4 ? to - from - 1 : to - from;
    pen.fillStyle = plain ? colour : this.hatched(colour, item.state);
    pen.fillRect(from, top, width, height);
    if (!plain) {
      pen.strokeStyle = colour;
      pen.strokeRect(from + 0.5, top + 0.5, Math.max(0, width - 1), height - 1);
    }
    if (item.fetch >= 0) this.drawPhases(recording.data.fetches[item.fetch], top, height);
    this.drawText(item, Math.max(from, this.left), Math.min(to, this.width - this.right), top, height, colour, plain);
  }

  hatched(colour, state) {
    const key = `${colour} ${state}`;
    if (!this.hatches.has(key)) this.hatches.set(key, hatch(this.context, colour, this.colours.ground, state));
    return this.hatches.get(key);
  }

  /** Shade the phases of a fetch, each darker than the one before. */
  drawPhases(fetch, top, height) {
    const { context: pen } = this;
    fetch.phases.forEach(([, start, end], n) => {
      pen.fillStyle = this.colours.ground;
      pen.globalAlpha = Math.max(0, 0.55 - 0.14 * n);
      pen.fillRect(this.x(start), top, Math.max(0, this.x(end) - this.x(start)), height);
      pen.globalAlpha = 1;
    });
  }

  drawText(item, from, to, top, height, colour, plain) {
    if (to - from < 18 || height < 12) return;
    const { context: pen, recording } = this;
    const glyph = GLYPHS[item.state];
    pen.font = SMALL;
    const text = this.fitted(`${glyph}${glyph ? " " : ""}${recording.name(item.label)}`, to - from - 10);
    if (!text) return;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    if (plain && item.fetch < 0) pen.fillStyle = isLight(colour) ? "#14181d" : "#ffffff";
    else {
      pen.fillStyle = this.colours.ground;
      pen.fillRect(from + 3, top + 2, pen.measureText(text).width + 5, height - 4);
      pen.fillStyle = this.colours.ink;
    }
    pen.fillText(text, from + 5, top + height / 2 + 0.5);
  }

  /** Draw who held the GIL, each thread in a shade of its own between dark and pale. */
  drawHolders(band) {
    const { context: pen } = this;
    const shade = (lane) => [1, 0.55, 0.78, 0.35][lane % 4];
    pen.fillStyle = this.colours.hold;
    this.walk(this.recording.holders,
      (item, from, to) => {
        pen.globalAlpha = shade(item.lane);
        pen.fillRect(from, band.top, to - from - (to - from > 3 ? 1 : 0), band.height);
        pen.globalAlpha = 1;
        this.drawHolderName(item, Math.max(from, this.left), Math.min(to, this.width - this.right), band);
      },
      (item, x, share) => {
        pen.globalAlpha = shade(item.lane) * share;
        pen.fillRect(x, band.top, 1, band.height);
        pen.globalAlpha = 1;
      });
  }

  drawHolderName(item, from, to, band) {
    if (to - from < 40) return;
    const { context: pen } = this;
    pen.font = SMALL;
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    // Whole or not at all: what tells names apart stands at their ends.
    const { name } = this.recording.data.lanes[item.lane];
    if (pen.measureText(name).width > to - from - 12) return;
    pen.fillStyle = this.colours.ground;
    pen.fillRect(from + 3, band.top + 2, pen.measureText(name).width + 5, band.height - 4);
    pen.fillStyle = this.colours.ink;
    pen.fillText(name, from + 5, band.top + band.height / 2);
    pen.fillStyle = this.colours.hold;
  }

  /** Show where a process ended, and how. */
  drawEnd(band) {
    const { process } = band;
    if (process.ended === null || process.end === null) return;
    const { context: pen } = this;
    const x = this.x(process.ended), killed = /SIG|code [^0]|died|memory/.test(process.end);
    if (!killed) return;
    pen.fillStyle = this.colours.bad;
    pen.fillRect(x - 1, band.top - 2, 2, band.height + 4);
    pen.font = SMALL;
    const text = `${GLYPHS[1]} ${process.end}`, size = pen.measureText(text).width + 8;
    const left = x + 4 + size < this.width - this.right ? x + 4 : x - 4 - size;
    pen.fillStyle = this.colours.ground;
    pen.fillRect(left, band.top + 1, size, 14);
    pen.fillStyle = this.colours.bad;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillText(text, left + 4, band.top + 8.5);
  }

  /** Outline a bar, and show how long its task was in the queue. */
  mark(item, strong) {
    const { context: pen, recording } = this;
    const band = this.bands.find((other) => other.lane && other.lane.index === item.lane);
    if (!band) return;
    const n = Math.max(0, band.lane.rows.findIndex((row) => row.items[above(row.ends, (item.start + item.end) / 2)] === item));
    const top = band.top + n * (band.bar + 1), from = this.x(item.start), to = this.x(item.end);
    pen.strokeStyle = this.colours.mark;
    pen.lineWidth = strong ? 2.5 : 1.5;
    pen.strokeRect(from - 1, top - 1, Math.max(3, to - from + 2), band.bar + 2);
    const submitted = item.task >= 0 ? recording.data.tasks.submitted[item.task] : null;
    if (submitted !== null && submitted < item.start) {
      pen.setLineDash([3, 3]);
      pen.beginPath();
      pen.moveTo(this.x(submitted), top + band.bar / 2);
      pen.lineTo(from, top + band.bar / 2);
      pen.stroke();
      pen.setLineDash([]);
    }
    pen.lineWidth = 1;
  }

  /** Return what is at a point: a bar, the holder of the GIL, or the counts at that time. */
  at(x, y) {
    const band = this.bands.find((other) => y >= other.top - 2 && y <= other.top + other.height + 2);
    if (!band || x < this.left || x > this.width - this.right) return null;
    const time = this.time(x), tolerance = 3 * (this.to - this.from) / this.width;
    if (band.lane) {
      const n = Math.floor((y - band.top) / (band.bar + 1));
      const row = band.lane.rows[Math.min(band.lane.rows.length - 1, Math.max(0, n))];
      const item = row.at(time, tolerance);
      return item ? { item, band, time } : { item: null, band, time };
    }
    return { item: null, band, time };
  }
}
