// Charts of numbers that a page has. A page loads vendor/uplot-1.2.0.min.css and screens/charts.css in its block
// `styles`, and vendor/uplot-1.2.0.iife.min.js and screens/charts.js, both with defer, in its block `scripts`.
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

  // What uPlot takes: x, then per series its values and, below them, the two ends of its interval.
  function columns(chart) {
    const data = [chart.x];
    const series = [];
    const bands = [];
    const whiskers = [];
    chart.series.forEach((one, index) => {
      const stroke = colourOf(index);
      data.push(one.values);
      series.push(seriesOf(chart, one, stroke));
      if (!one.lower || !one.upper) return;
      if (chart.interval === "whiskers") {
        whiskers.push({ stroke, lower: one.lower, upper: one.upper });
      }
      data.push(one.upper, one.lower);
      const upper = data.length - 2;
      // Whiskers are drawn by hand, but their ends belong to what the scale must hold.
      for (let end = 0; end < 2; end += 1) {
        series.push({ label: `${one.label} interval`, class: "chart-end", stroke: "transparent", width: 0, points: { show: false } });
      }
      if (chart.interval !== "whiskers") bands.push({ series: [upper, upper + 1], fill: translucent(stroke) });
    });
    return { data, series, bands, whiskers };
  }

  function seriesOf(chart, one, stroke) {
    const wanted = chart.points ?? chart.x.length <= 60;
    const common = { label: one.label, stroke, width: 2, value: (_, value) => shown(value) };
    if (chart.kind === "bars") {
      return { ...common, width: 1, fill: translucent(stroke), paths: uPlot.paths.bars({ size: [0.7, 48] }), points: { show: false } };
    }
    if (chart.kind === "steps") {
      return { ...common, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } };
    }
    return { ...common, points: { show: wanted, size: 7, fill: stroke, stroke } };
  }

  function translucent(stroke) {
    return /^#[0-9a-f]{6}$/i.test(stroke) ? `${stroke}33` : stroke;
  }

  function drawWhiskers(plot, whiskers) {
    const { ctx } = plot;
    const ratio = uPlot.pxRatio || window.devicePixelRatio || 1;
    ctx.save();
    ctx.lineWidth = 1.5 * ratio;
    for (const { stroke, lower, upper } of whiskers) {
      ctx.strokeStyle = stroke;
      ctx.beginPath();
      plot.data[0].forEach((x, index) => {
        if (lower[index] === null || upper[index] === null) return;
        const at = Math.round(plot.valToPos(x, "x", true));
        const [from, to] = [lower[index], upper[index]].map((value) => plot.valToPos(value, "y", true));
        ctx.moveTo(at, from);
        ctx.lineTo(at, to);
        for (const end of [from, to]) {
          ctx.moveTo(at - 4 * ratio, end);
          ctx.lineTo(at + 4 * ratio, end);
        }
      });
      ctx.stroke();
    }
    ctx.restore();
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
    const { data, series, bands, whiskers } = columns(chart);
    const named = chart.xNames ? (_, value) => chart.xNames[chart.x.indexOf(value)] ?? "–" : (_, value) => shown(value);
    const first = chart.xKind === "time" ? { label: chart.xLabel } : { label: chart.xLabel, value: named };
    const plot = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height: HEIGHT,
        series: [first, ...series],
        bands,
        axes: axes(chart),
        scales: scales(chart),
        cursor: { drag: { x: true, y: false }, points: { size: 8 } },
        legend: { live: true },
        hooks: whiskers.length ? { draw: [(plot) => drawWhiskers(plot, whiskers)] } : {},
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
