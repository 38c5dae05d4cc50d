// Draws the curves of the chosen groups. Draws them again when a round has ended or other groups are ticked.
"use strict";
const section = document.getElementById("curves");
const drawn = new Map();
const COLOURS = 8;
const SHARES = section.dataset.shares.split(","); // series in 0 … 1
const MOST = 12;
const DASHES = [[], [6, 4]]; // from the ninth series on, colours and marks repeat with dashes
const MARKS = "●■▲◆▼✚✖★"; // so that series differ in more than colour
const MARK = 7; // pixels of a mark
const STEPS = 6; // approximate number of marks on a line
const remembered = `charted-${section.dataset.run}`;
let charted = (sessionStorage.getItem(remembered) ?? section.dataset.charted).split(",").filter(Boolean).map(Number);
let wanted = 0;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function line(label, i, bold) {
  return {
    label: bold ? "all" : MARKS[i % MARKS.length] + (i >= MARKS.length ? "╌" : ""),
    name: label,
    place: i,
    mark: bold ? "" : MARKS[i % MARKS.length],
    stroke: bold ? colour("--ink") : colour(`--s${(i % COLOURS) + 1}`),
    width: bold ? 3 : 1.6,
    dash: DASHES[Math.floor(i / COLOURS) % DASHES.length],
    points: { show: false },
    value: (_, v) => (v == null ? "–" : v >= 1000 ? v.toLocaleString() : String(+v.toPrecision(3))),
  };
}

function drawMark(context, mark, x, y, fill, size) {
  context.save();
  context.fillStyle = fill;
  context.font = `${2.2 * size}px "DejaVu Sans", system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(mark, x, y);
  context.restore();
}

// Marks on every few points of a line, each line's beside the others'.
function drawMarks(plot) {
  plot.series.forEach((series, s) => {
    if (!series.mark || !series.show) return;
    const values = plot.data[s];
    const every = Math.max(1, Math.floor(values.length / STEPS));
    values.forEach((value, i) => {
      if (value == null || (i % every !== series.place % every && i !== values.length - 1)) return;
      const [x, y] = [plot.valToPos(plot.data[0][i], "x", true), plot.valToPos(value, "y", true)];
      drawMark(plot.ctx, series.mark, x, y, series.stroke(plot, s), MARK * devicePixelRatio);
    });
  });
}

// The legend of all charts: line, mark and full name of each series.
function drawLegend(series) {
  const list = document.getElementById("curve-legend");
  if (!list) return;
  list.replaceChildren(...series.map((one) => {
    const item = document.createElement("li");
    const canvas = document.createElement("canvas");
    const text = document.createElement("span");
    [canvas.width, canvas.height] = [44 * devicePixelRatio, 16 * devicePixelRatio];
    canvas.setAttribute("aria-hidden", "true");
    one.name.split(/(?<=\+)/).forEach((part, i) => text.append(...(i ? [document.createElement("wbr")] : []), part));
    item.append(canvas, text);
    const context = canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    context.strokeStyle = one.stroke;
    context.lineWidth = one.width;
    context.setLineDash(one.dash);
    context.beginPath();
    context.moveTo(0, 8);
    context.lineTo(44, 8);
    context.stroke();
    if (one.mark) drawMark(context, one.mark, 22, 8, one.stroke, MARK);
    return item;
  }));
}

function short(value) {
  if (value >= 1e9) return `${+(value / 1e9).toPrecision(3)} G`;
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  return value >= 1e3 ? `${+(value / 1e3).toPrecision(3)} k` : String(+value.toPrecision(6));
}

function draw(place, series, data) {
  if (data.slice(1).every((values) => values.every((value) => value == null))) {
    drawn.get(place)?.plot.destroy();
    drawn.delete(place);
    const text = document.createElement("p");
    text.className = "empty";
    text.textContent = "Not measured, or withheld, for what is charted.";
    place.replaceChildren(text);
    return;
  }
  const key = JSON.stringify([place.dataset.chart, ...series.map((s) => [s.name, s.place, s.stroke])]);
  const known = drawn.get(place);
  if (known && known.key === key) {
    known.plot.setData(data);
    return;
  }
  known?.plot.destroy();
  place.replaceChildren();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const options = {
    width: place.clientWidth,
    height: 200,
    scales: { x: { time: false }, y: SHARES.includes(place.dataset.chart) ? { range: within } : {} },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((v) => (Number.isInteger(v) ? v : "")), incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, size: 58, values: (_, ticks) => ticks.map(short) },
    ],
    series: [{ label: "round" }, ...series],
    hooks: { draw: [drawMarks] },
    cursor: { sync: { key: "rounds" }, drag: { x: false, y: false } },
  };
  drawn.set(place, { key, plot: new uPlot(options, data, place) });
  place.querySelectorAll(".u-legend .u-series").forEach((row, i) => { row.title = i ? series[i - 1].name : ""; });
}

function within(_, low, high) {
  if (low == null) return [0, 1];
  const [from, to] = uPlot.rangeNum(low, high, 0.1, true);
  return [Math.max(from, 0), Math.min(to, 1)];
}

function drawAll(found, other) {
  const nothing = found.round.length === 0 && !other?.round.length;
  document.getElementById("no-curves").hidden = !nothing;
  section.querySelector(".charts").hidden = nothing;
  if (nothing) return;
  if (other) drawLegend(JSON.parse(section.dataset.names).map((name, i) => line(`${"AB"[i]}: ${name}`, i)));
  else drawLegend(found.curves.map((c) => line(c.name, Math.max(charted.indexOf(c.number), 0), c.number === 0)));
  for (const place of section.querySelectorAll("[data-chart]")) {
    const what = place.dataset.chart;
    if (what === "bytes") draw(place, [line("down", 0), line("up", 1)], [found.round, found.bytes_down, found.bytes_up]);
    else if (what === "seconds") draw(place, [line("seconds", 0)], [found.round, found.seconds]);
    else if (other) drawBoth(place, what, found, other);
    else {
      // λ of all groups together is always 1
      const curves = what === "weight" ? found.curves.slice(1) : found.curves;
      const series = curves.map((c) => line(c.name, Math.max(charted.indexOf(c.number), 0), c.number === 0));
      draw(place, series, [found.round, ...curves.map((c) => c[what])]);
    }
  }
}

function drawBoth(place, what, a, b) {
  const longest = a.round.length >= b.round.length ? a.round : b.round;
  const padded = (run) => longest.map((_, i) => run.curves[0][what][i] ?? null);
  draw(place, [line("A", 0), line("B", 1)], [longest, padded(a), padded(b)]);
}

async function curvesOf(run, groups) {
  const answer = await fetch(`/api/runs/${run}/curves?groups=${groups.join(",")}`);
  return answer.ok ? answer.json() : null;
}

async function update() {
  const mine = ++wanted;
  const { run, other } = section.dataset;
  const found = await Promise.all([curvesOf(run, charted), other ? curvesOf(other, []) : null]);
  if (mine !== wanted || !found[0]) return; // a later request has been sent
  drawAll(...found);
  performance.mark("charts drawn");
  document.documentElement.dataset.ready = String(found[0].round.length);
}

function tick() {
  for (const box of document.querySelectorAll("[data-chart-group]")) {
    box.checked = charted.includes(Number(box.dataset.chartGroup));
    box.disabled = !box.checked && charted.length >= MOST;
  }
}

document.addEventListener("change", (event) => {
  const group = Number(event.target.dataset?.chartGroup);
  if (!group) return;
  charted = event.target.checked ? [...charted, group] : charted.filter((g) => g !== group);
  sessionStorage.setItem(remembered, charted.join(","));
  tick();
  update();
});
document.addEventListener("refreshed", () => {
  if (charted.length === 0) charted = (document.querySelector("#groups [data-chart-group]") ? firstGroups() : []);
  tick();
  update();
});

function firstGroups() {
  return document.querySelector("#groups [data-largest]").dataset.largest.split(",").filter(Boolean).map(Number);
}

function redraw() {
  for (const { plot } of drawn.values()) plot.destroy();
  drawn.clear();
  update();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  for (const [place, { plot }] of drawn) plot.setSize({ width: place.clientWidth, height: 200 });
});
tick();
update();
