// Charts of numbers that a page has. A page loads vendor/uplot-1.6.32.min.css and screens/charts.css in its block
// `styles`, and vendor/uplot-1.6.32.iife.min.js and screens/charts.js, both with defer, in its block `scripts`.
//
//   <div class="chart" role="img" aria-label="what it shows, in a sentence" data-chart='{{ chart|json_attribute }}'></div>
//
// with the same numbers in a table beside it, since a drawing can be neither read out nor looked up. `chart` is
//   { x: [number],              ascending; unix seconds where xKind is "time"
//     series: [{ label: text, values: [number | null],          one for each x; null leaves a gap
//                lower: [number | null], upper: [number | null] }],   optional: ends of an interval
//     xLabel: text, yLabel: text,          with the unit, as in "TTFT (s)"
//     kind: "line" | "bars" | "steps",     line is the default; steps is for distributions
//     xKind: "number" | "time" | "log",    number is the default
//     xNames: [text],                      optional: names that stand below x instead of its numbers
//     interval: "band" | "whiskers",       how lower and upper are drawn; band is the default
//     spanGaps: true | false,              whether a line goes on over a null; the default is not
//     points: true | false,                a mark at every value; the default is up to sixty values
//     zero: true | false }                 whether y begins at 0; the default is only with bars
// Colours are CSS variables of charts.css; a chart is drawn again when the theme changes and resized with its element.
// Parts of pages that htmx brings are drawn as well.
(function () {
  "use strict";
  const drawn = new Map();
  const HEIGHT = 260;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }
  const colourOf = (index) => colour(`--chart-${(index % 6) + 1}`);

  function shown(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (value === 0) return "0";
    return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-4
      ? value.toExponential(2)
      : String(Number(value.toPrecision(4)));
  }

  // What uPlot takes: x, then per series its values and the two ends of its interval. It draws lines; bars, bands
  // and whiskers are drawn by us, from `marks`, over series that it leaves empty but holds its scales for.
  function columns(chart) {
    const steps = chart.kind === "steps";
    const data = [steps ? [...twice(chart.x), beyond(chart.x)] : chart.x];
    const series = [];
    const marks = [];
    chart.series.forEach((one, index) => {
      const stroke = colourOf(index);
      data.push(steps ? [...rising(one.values), one.values.at(-1)] : one.values);
      series.push(seriesOf(chart, one, stroke));
      if (chart.kind === "bars") marks.push({ draw: drawBars, stroke, values: one.values, at: index, of: chart.series.length });
      if (steps || !one.lower || !one.upper) return;
      for (const end of [one.upper, one.lower]) {
        data.push(end);
        series.push({ label: `${one.label} interval`, class: "chart-end", stroke: "transparent", paths: noPath, points: { show: false } });
      }
      const draw = chart.interval === "whiskers" ? drawWhiskers : drawBand;
      marks.push({ draw, stroke, values: one.values, lower: one.lower, upper: one.upper });
    });
    return { data, series, marks };
  }

  const noPath = () => ({ stroke: new Path2D(), fill: null, clip: null });
  // A little further than the last step, which would else have no height.
  const beyond = (values) => values.at(-1) + ((values.at(-1) - values[0]) || Math.abs(values[0]) || 1) * 0.02;
  const twice = (values) => values.flatMap((value) => [value, value]);
  const rising = (values) => values.flatMap((value, index) => [index ? values[index - 1] : 0, value]);

  function seriesOf(chart, one, stroke) {
    const series = { label: one.label, stroke, width: 2, spanGaps: chart.spanGaps === true, value: (_, value) => shown(value) };
    if (chart.kind === "bars") return { ...series, paths: noPath, points: { show: false } };
    const marked = chart.kind !== "steps" && (chart.points ?? chart.x.length <= 60);
    return { ...series, points: { show: marked, size: 7, fill: stroke, stroke } };
  }

  const isNumber = (value) => value !== null && value !== undefined;
  const pixels = () => window.devicePixelRatio || 1;

  // The ends of an interval; one that could not be given has no cap.
  function drawWhiskers(plot, mark) {
    const { ctx } = plot;
    ctx.strokeStyle = mark.stroke;
    ctx.lineWidth = 1.5 * pixels();
    ctx.beginPath();
    plot.data[0].forEach((x, index) => {
      const [low, high] = [mark.lower[index], mark.upper[index]];
      if (!isNumber(low) && !isNumber(high)) return;
      const at = Math.round(plot.valToPos(x, "x", true));
      const [from, to] = [low, high].map((end) => plot.valToPos(isNumber(end) ? end : mark.values[index], "y", true));
      ctx.moveTo(at, from);
      ctx.lineTo(at, to);
      for (const [end, y] of [[low, from], [high, to]]) {
        if (!isNumber(end)) continue;
        ctx.moveTo(at - 4 * pixels(), y);
        ctx.lineTo(at + 4 * pixels(), y);
      }
    });
    ctx.stroke();
  }

  function drawBand(plot, mark) {
    const { ctx } = plot;
    const known = plot.data[0].map((x, index) => [x, index]).filter(([, index]) => isNumber(mark.lower[index]) && isNumber(mark.upper[index]));
    ctx.fillStyle = mark.stroke;
    ctx.globalAlpha = 0.18;
    ctx.beginPath();
    for (const [x, index] of known) ctx.lineTo(plot.valToPos(x, "x", true), plot.valToPos(mark.upper[index], "y", true));
    for (const [x, index] of known.reverse()) ctx.lineTo(plot.valToPos(x, "x", true), plot.valToPos(mark.lower[index], "y", true));
    ctx.fill();
  }

  function drawBars(plot, mark) {
    const { ctx } = plot;
    const xs = plot.data[0];
    const places = xs.map((x) => plot.valToPos(x, "x", true));
    const room = places.length > 1 ? Math.min(...places.slice(1).map((place, index) => place - places[index])) : plot.bbox.width / 2;
    const width = Math.min(room * 0.7, 64 * pixels()) / mark.of;
    const ground = plot.valToPos(0, "y", true);
    ctx.fillStyle = mark.stroke;
    ctx.globalAlpha = 0.8;
    mark.values.forEach((value, index) => {
      if (!isNumber(value)) return;
      const left = places[index] + (mark.at - mark.of / 2) * width;
      const top = plot.valToPos(value, "y", true);
      ctx.fillRect(left, Math.min(top, ground), width * 0.94, Math.abs(ground - top));
    });
  }

  function drawMarks(plot, marks) {
    for (const mark of marks) {
      plot.ctx.save();
      mark.draw(plot, mark);
      plot.ctx.restore();
    }
  }

  function axes(chart) {
    const text = colour("--bs-secondary-color");
    const line = { stroke: colour("--chart-grid"), width: 1 };
    const common = { stroke: text, grid: line, ticks: line, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 20 };
    const x = { ...common, label: chart.xLabel, space: 60 };
    if (chart.xNames) {
      x.splits = () => chart.x;
      x.values = (_, splits) => splits.map((split) => chart.xNames[chart.x.indexOf(split)] ?? "");
    } else if (chart.xKind !== "time") {
      x.values = (_, splits) => splits.map((split) => (split === null ? "" : shown(split)));
    }
    const y = { ...common, label: chart.yLabel, size: 64, values: (_, splits) => splits.map((split) => shown(split)) };
    return [x, y];
  }

  function scales(chart) {
    const x = { time: chart.xKind === "time" };
    if (chart.xKind === "log") x.distr = 3;
    else if (chart.kind === "bars" || chart.xNames || chart.x.length === 1) {
      x.range = (_, low, high) => {
        const step = chart.x.length > 1 ? (high - low) / (chart.x.length - 1) : chart.xKind === "time" ? 86400 : 1;
        return [low - step * 0.6, high + step * 0.6];
      };
    }
    const fromZero = chart.zero ?? chart.kind === "bars";
    const y = fromZero ? { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] } : {};
    return { x, y };
  }

  function draw(element) {
    drop(element);
    const chart = JSON.parse(element.dataset.chart);
    if (!chart.x.length || !chart.series.length) return;
    const { data, series, marks } = columns(chart);
    const named = chart.xNames ? (_, value) => chart.xNames[chart.x.indexOf(value)] ?? "–" : (_, value) => shown(value);
    const first = chart.xKind === "time" ? { label: chart.xLabel } : { label: chart.xLabel, value: named };
    const plot = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT,
        series: [first, ...series],
        axes: axes(chart),
        scales: scales(chart),
        cursor: { drag: { x: true, y: false }, points: { size: 8 } },
        legend: { live: true },
        hooks: marks.length ? { draw: [(plot) => drawMarks(plot, marks)] } : {},
      },
      data,
      element,
    );
    const observer = new ResizeObserver(() => {
      const width = Math.max(200, element.clientWidth);
      if (width !== plot.width) plot.setSize({ width, height: HEIGHT });
    });
    observer.observe(element);
    drawn.set(element, { plot, observer });
  }

  function drop(element) {
    const found = drawn.get(element);
    if (!found) return;
    found.observer.disconnect();
    found.plot.destroy();
    drawn.delete(element);
  }

  function drawAll(root) {
    for (const element of drawn.keys()) if (!element.isConnected) drop(element);
    for (const element of root.querySelectorAll("[data-chart]")) draw(element);
  }

  document.addEventListener("assay:theme", () => drawAll(document));
  document.addEventListener("htmx:load", (event) => { if (event.detail.elt !== document.body) drawAll(event.detail.elt); });
  document.addEventListener("DOMContentLoaded", () => drawAll(document));
})();
