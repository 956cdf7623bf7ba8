// What was recorded, made ready for drawing: rows in which bars do not overlap, steps of counts.
// Invariant: in a row starts and ends both rise, so that what is visible is found by bisection.

const STATES = ["finished", "failed", "cancelled", "timed out", "worker died", "still ran", "retried"];
const FINISHED = 0, CANCELLED = 2, RUNNING = 5;
/** Bars of one lane that overlap share at most so many rows. */
const MOST_ROWS = 6;

/** Return the first index from which on the sorted values are greater than the wanted. */
function above(values, wanted, from = 0) {
  let low = from, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Write a time with three figures and its unit, as the tables do. */
function timeText(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const [unit, size] = seconds >= 0.9995 ? ["s", 1] : seconds >= 0.9995e-3 ? ["ms", 1e-3] : ["µs", 1e-6];
  const value = seconds / size;
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2)} ${unit}`;
}

function bytesText(count) {
  if (!(count > 0)) return "";
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < 3) { count /= 1000; unit += 1; }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** Bars beside each other, with the sums that tell how full any stretch of them is. */
class Row {
  constructor(items) {
    const count = items.length;
    this.starts = new Float64Array(count);
    this.ends = new Float64Array(count);
    this.items = items;
    this.busy = new Float64Array(count + 1);
    this.bad = new Uint32Array(count + 1);
    items.forEach((item, i) => {
      this.starts[i] = item.start;
      this.ends[i] = item.end;
      this.busy[i + 1] = this.busy[i] + item.end - item.start;
      this.bad[i + 1] = this.bad[i] + (item.bad ? 1 : 0);
    });
  }

  /** Return the item at a time, or the nearest within the tolerance. */
  at(time, tolerance) {
    const next = above(this.ends, time);
    let best = null, distance = tolerance;
    for (const i of [next - 1, next]) {
      if (i < 0 || i >= this.items.length) continue;
      const away = Math.max(this.starts[i] - time, time - this.ends[i], 0);
      if (away <= distance) { best = this.items[i]; distance = away; }
    }
    return best;
  }
}

/** Put items, sorted by their starts, into as few rows as hold them without overlap. */
function pack(items) {
  const rows = [], ends = [];
  for (const item of items) {
    let row = ends.findIndex((end) => end <= item.start + 1e-9);
    if (row < 0 && rows.length < MOST_ROWS) { row = rows.length; rows.push([]); ends.push(0); }
    if (row < 0) { // No room: what cannot be shown beside the others is shown after them.
      row = ends.indexOf(Math.min(...ends));
      item.start = ends[row];
      item.end = Math.max(item.end, item.start);
    }
    rows[row].push(item);
    ends[row] = item.end;
  }
  return rows.map((row) => new Row(row));
}

/** A count that changes in steps, and its integral: its mean over any stretch is two look-ups. */
class Steps {
  constructor(changes) {
    changes.sort((a, b) => a[0] - b[0]);
    const times = [], counts = [], sums = [];
    let count = 0, sum = 0, last = 0;
    this.most = 0;
    for (const [time, change] of changes) {
      sum += count * (time - last);
      count = Math.max(0, count + change);
      last = time;
      if (times.length && times[times.length - 1] === time) {
        counts[counts.length - 1] = count;
      } else {
        times.push(time); counts.push(count); sums.push(sum);
      }
    }
    for (const value of counts) this.most = Math.max(this.most, value);
    this.times = Float64Array.from(times);
    this.counts = Float64Array.from(counts);
    this.sums = Float64Array.from(sums);
  }

  at(time) {
    const i = above(this.times, time) - 1;
    return i < 0 ? 0 : this.counts[i];
  }

  sum(time) {
    const i = above(this.times, time) - 1;
    return i < 0 ? 0 : this.sums[i] + this.counts[i] * (time - this.times[i]);
  }

  mean(from, to) {
    return to > from ? (this.sum(to) - this.sum(from)) / (to - from) : this.at(from);
  }
}

/** One recording, as the drawing and the controls read it. */
class Recording {
  constructor(data) {
    this.data = data;
    this.names = data.names;
    this.duration = Math.max(data.duration, 1e-6);
    this.readTasks(data.tasks);
    this.readFetches(data.fetches || []);
    this.readStretches(data);
    this.readSteps(data);
  }

  name(index) {
    return index >= 0 && index < this.names.length ? this.names[index] : "";
  }

  readTasks(tasks) {
    const lanes = this.data.lanes.map(() => []);
    const uses = new Map();
    this.items = new Array(tasks.lane.length).fill(null);
    for (let i = 0; i < tasks.lane.length; i += 1) {
      const lane = tasks.lane[i], start = tasks.started[i];
      uses.set(tasks.label[i], (uses.get(tasks.label[i]) || 0) + 1);
      if (start === null || lane < 0) continue;
      const end = tasks.ended[i] === null ? this.duration : tasks.ended[i];
      const state = tasks.state[i];
      const bad = state !== FINISHED && state !== RUNNING && state !== CANCELLED;
      const label = tasks.label[i];
      const item = { task: i, lane, start, end: Math.max(start, end), state, bad, label, fetch: -1 };
      this.items[i] = item;
      lanes[lane].push(item);
    }
    // The most frequent labels have colours of their own.
    const frequent = [...uses.keys()].sort((a, b) => uses.get(b) - uses.get(a) || a - b);
    this.labels = frequent;
    this.colours = new Map(frequent.map((label, i) => [label, Math.min(i, 7)]));
    this.laneItems = lanes;
  }

  readFetches(fetches) {
    fetches.forEach((fetch, i) => {
      if (!fetch.phases.length) return;
      const end = Math.max(...fetch.phases.map((phase) => phase[2]));
      const bad = fetch.error >= 0 || fetch.status >= 400;
      const [lane, start, label] = [fetch.lane, fetch.phases[0][1], fetch.url];
      const item = { task: -1, lane, start, end, state: bad ? 1 : 0, bad, label, fetch: i };
      if (this.laneItems[lane]) this.laneItems[lane].push(item);
    });
    for (const items of this.laneItems) items.sort((a, b) => a.start - b.start);
    this.lanes = this.data.lanes.map((lane, i) => ({ ...lane, index: i, rows: pack(this.laneItems[i]) }));
  }

  /** Read who held the GIL, who waited for it, and who waited for locks. */
  readStretches(data) {
    const gil = data.gil || { sampled: false };
    const rowOf = (list, by) => {
      const lanes = data.lanes.map(() => []);
      for (const entry of list || []) {
        const [lane, start, end] = by ? by(entry) : entry;
        if (lanes[lane]) lanes[lane].push({ lane, start, end, bad: false, entry });
      }
      return lanes.map((items) => new Row(items.sort((a, b) => a.start - b.start)));
    };
    this.sampled = Boolean(gil.sampled);
    this.held = rowOf(gil.holder);
    this.waited = rowOf(gil.waiting);
    this.locked = rowOf(data.locks, (lock) => [lock.lane, lock.start, lock.end]);
    const holders = (gil.holder || []).map(([lane, start, end]) => ({ lane, start, end, bad: false }));
    this.holders = new Row(holders.sort((a, b) => a.start - b.start));
  }

  readSteps(data) {
    const queue = [], active = [], tasks = data.tasks;
    for (let i = 0; i < tasks.lane.length; i += 1) {
      const start = tasks.started[i];
      const left = start !== null ? start : tasks.ended[i];
      if (tasks.submitted[i] !== null) {
        queue.push([tasks.submitted[i], 1]);
        if (left !== null) queue.push([left, -1]);
      }
      if (start !== null) {
        active.push([start, 1], [tasks.ended[i] === null ? this.duration : tasks.ended[i], -1]);
      }
    }
    this.queue = new Steps(queue);
    this.active = new Steps(active);
    this.workers = this.laneItems.filter((items) => items.some((item) => item.task >= 0)).length;
  }

  /** Return the details of a bar as pairs of a term and a text. */
  details(item) {
    if (item.fetch >= 0) return this.fetchDetails(this.data.fetches[item.fetch]);
    const tasks = this.data.tasks, i = item.task, lane = this.data.lanes[item.lane];
    const submitted = tasks.submitted[i];
    const pairs = [
      ["Task", this.name(tasks.label[i]) || `task ${tasks.task[i]}`],
      ["State", STATES[item.state]],
      ["Worker", lane.name],
      ["Process", this.processText(lane.process)],
      ["Ran for", timeText(item.end - item.start)],
      ["Started at", timeText(item.start)],
      ["In the queue", submitted === null ? "" : timeText(Math.max(0, item.start - submitted))],
      ["Waited for the GIL", this.sampled ? this.gilText(item) : ""],
      ["Attempt", tasks.attempt[i] > 1 || item.state === 6 ? String(tasks.attempt[i]) : ""],
      ["Sent", bytesText(tasks.bytes_in[i])],
      ["Received", bytesText(tasks.bytes_out[i])],
      ["Error", this.name(tasks.error[i])],
    ];
    return pairs.filter((pair) => pair[1]);
  }

  processText(index) {
    const process = this.data.processes[index];
    return process ? `${process.name} (pid ${process.pid})` : "";
  }

  /** Tell how much of a bar's time its thread waited for the GIL. */
  gilText(item) {
    const row = this.waited[item.lane], from = above(row.ends, item.start);
    let waited = 0;
    for (let i = from; i < row.items.length && row.starts[i] < item.end; i += 1) {
      waited += Math.min(row.ends[i], item.end) - Math.max(row.starts[i], item.start);
    }
    const share = item.end > item.start ? waited / (item.end - item.start) : 0;
    return waited > 0 ? `${timeText(waited)} (${Math.round(100 * share)} %)` : "";
  }

  fetchDetails(fetch) {
    const phases = fetch.phases.map(([name, start, end]) =>
      [typeof name === "number" ? this.name(name) : name, timeText(end - start)]);
    const first = fetch.phases[0], last = fetch.phases[fetch.phases.length - 1];
    const pairs = [
      ["Page", typeof fetch.url === "number" ? this.name(fetch.url) : fetch.url],
      ["Status", fetch.status ? String(fetch.status) : ""],
      ["Took", timeText(last[2] - first[1])],
      ...phases,
      ["Size", bytesText(fetch.bytes)],
      ["Error", this.name(fetch.error)],
    ];
    return pairs.filter((pair) => pair[1]);
  }
}
