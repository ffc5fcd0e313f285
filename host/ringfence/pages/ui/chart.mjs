// Time series, drawn from the numbers that the host answers; with thresholds, and parts of it shown larger.
import uPlot from "uplot";
import styles from "uplot/dist/uPlot.min.css";

const HEIGHT = 220;
const AT_MOST_EVERY = 5000;
const sheet = new CSSStyleSheet();
sheet.replaceSync(`${styles}
  :host { display: block; }
  .uplot { font: inherit; } .u-legend { color: var(--soft); font-size: .85rem; }
  .u-select { background: var(--off-paper); opacity: .6; }
  button { font: inherit; color: var(--soft); background: none; border: 1px solid var(--line); border-radius: var(--radius); padding: 0 .5rem; margin-right: .25rem; cursor: pointer; }
  button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  p { margin: .25rem 0; color: var(--soft); }`);

// The step of the marks in seconds, how a mark is written, and what a new year, month, day, hour or minute adds to it.
const WHEN = [
  [31536000, "{YYYY}", null, null, null, null, null, null, 1],
  [2419200, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [86400, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const LINES = ["--accent", "--good", "--warn", "--bad", "--soft"];
const charts = new WeakMap();

const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });
const large = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, notation: "compact" });
const short = (number) => (Math.abs(number) < 1e5 ? digits : large).format(number);
// As wide as the longest of its numbers is.
const widthOf = (plot, shown, at, cycle) => {
  const axis = plot.axes[at];
  if (cycle > 1) return axis._size;
  plot.ctx.font = axis.font[0];
  const widest = Math.max(0, ...(shown ?? []).map((one) => plot.ctx.measureText(one).width));
  return Math.ceil(axis.ticks.size + axis.gap + widest / devicePixelRatio) + 4;
};

const lines = (thresholds) => (plot) => {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.textAlign = "left";
  ctx.textBaseline = "bottom";
  for (const { name, value, kind } of thresholds) {
    const y = plot.valToPos(value, "y", true);
    if (!(y >= bbox.top && y <= bbox.top + bbox.height)) continue;
    ctx.strokeStyle = ctx.fillStyle = colour(kind === "warn" ? "--warn" : "--bad");
    ctx.setLineDash([6, 4]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.fillText(String(name), bbox.left + 6, y - 4);
  }
  ctx.restore();
};

function draw(chart) {
  const { place, area, numbers } = chart;
  const unit = place.dataset.unit ? ` ${place.dataset.unit}` : "";
  const thresholds = [...JSON.parse(place.dataset.thresholds || "[]"), ...(numbers.thresholds ?? [])];
  const values = thresholds.map((one) => one.value);
  chart.limits.textContent = thresholds.length ? `Thresholds: ${thresholds.map((one) => `${one.name} (${short(one.value)}${unit})`).join(", ")}` : "";
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const zoom = chart.plot && { min: chart.plot.scales.x.min, max: chart.plot.scales.x.max };
  const whole = chart.whole;
  chart.plot?.destroy();
  chart.plot = new uPlot({
    width: Math.max(area.clientWidth, 200), height: HEIGHT,
    scales: { y: { range: (_, low, high) => uPlot.rangeNum(Math.min(low ?? 0, ...values), Math.max(high ?? 1, ...values), 0.1, true) } },
    axes: [{ ...axis, values: WHEN }, { ...axis, size: widthOf, values: (_, shown) => shown.map((one) => `${short(one)}${unit}`) }],
    series: [{ value: "{D} {MMM} {YYYY} {HH}:{mm}" }, ...numbers.series.map(({ name }, at) => ({ label: name, stroke: colour(LINES[at % LINES.length]), width: 1.5, value: (_, value) => (value == null ? "–" : `${short(value)}${unit}`) }))],
    hooks: { draw: [lines(thresholds)] },
  }, [numbers.times, ...numbers.series.map((one) => one.values)], area);
  chart.whole = [numbers.times[0], numbers.times.at(-1)];
  // What somebody looks at closely stays as they have it.
  if (zoom && whole && (zoom.min > whole[0] || zoom.max < whole[1])) chart.plot.setScale("x", zoom);
}

async function load(chart) {
  if (Date.now() - chart.loaded < AT_MOST_EVERY) return;
  chart.loaded = Date.now();
  try {
    const answer = await fetch(chart.place.dataset.chart, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error();
    chart.numbers = await answer.json();
  } catch {
    chart.said.textContent = "The numbers cannot be had at the moment.";
    return;
  }
  const some = chart.numbers.series.some((one) => one.values.some((value) => value !== null));
  chart.said.textContent = some ? "" : "There are no numbers in this time.";
  if (some || chart.plot) draw(chart);
}

const move = (chart, by) => {
  if (!chart.plot) return;
  const { min, max } = chart.plot.scales.x;
  const [first, last] = chart.whole;
  const [from, to] = by(min, max, max - min);
  const start = Math.max(first, Math.min(from, last - (to - from)));
  chart.plot.setScale("x", { min: start, max: Math.min(last, start + (to - from)) });
};
const MOVES = [
  ["Closer", (min, max, width) => [min + width / 4, max - width / 4]],
  ["Farther", (min, max, width) => [min - width / 2, max + width / 2]],
  ["Earlier", (min, max, width) => [min - width / 2, max - width / 2]],
  ["Later", (min, max, width) => [min + width / 2, max + width / 2]],
  ["All", () => [-Infinity, Infinity]],
];

// Draw the chart of `place`, or renew its numbers.
export function mount(place) {
  const there = charts.get(place);
  if (there) { load(there); return; }
  const root = place.attachShadow({ mode: "open" });
  root.adoptedStyleSheets = [sheet];
  const area = document.createElement("div");
  area.setAttribute("role", "img");
  area.setAttribute("aria-label", place.dataset.label);
  const said = document.createElement("p");
  said.setAttribute("role", "status");
  const buttons = document.createElement("div");
  const limits = document.createElement("p");
  const chart = { place, area, said, limits, loaded: 0, numbers: null, plot: null, whole: null };
  for (const [words, by] of MOVES) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    button.addEventListener("click", () => move(chart, by));
    buttons.append(button);
  }
  root.append(area, limits, said, buttons, document.createElement("slot"));
  charts.set(place, chart);
  const again = () => { if (chart.plot) draw(chart); };
  new ResizeObserver(() => chart.plot?.setSize({ width: Math.max(area.clientWidth, 200), height: HEIGHT })).observe(area);
  new MutationObserver(again).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  load(chart);
}
