"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const colours = ["#1f77b4", "#d95f02", "#2a9d57", "#b5308f", "#7b5bd6", "#8c6d1f", "#0f8f9e", "#c0392b", "#5f6b7a", "#3b6e22"];
const at = (name) => document.getElementById(name);
const hidden = new Set();
const SHOWN_ROWS = 200;

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "circle", "polyline", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function show(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) >= 1000) return value.toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

function fill(table, headings, rows, classes = () => "") {
  table.replaceChildren(make("thead", {}, make("tr", {}, ...headings.map((text) => make("th", {}, text)))));
  const body = make("tbody");
  for (const row of rows) body.append(make("tr", { class: classes(row) }, ...row.map((cell) => make("td", {}, show(cell)))));
  table.append(body);
}

const board = () => data.boards[Number(at("board").value)];
const scorer = () => board().scorers.find((one) => one.name === at("scorer").value);
const curvesOf = (one) => [...new Set(one.points.map((point) => point.curve))];
const colourOf = (one, curve) => colours[curvesOf(one).indexOf(curve) % colours.length];

function chooseBoard() {
  hidden.clear();
  at("scorer").replaceChildren(...board().scorers.map((one) =>
    make("option", { value: one.name }, one.title + (one.task ? " (task)" : ""))));
  const task = board().scorers.find((one) => one.task);
  if (task) at("scorer").value = task.name;
  drawLegend(); drawTables(); drawPlot();
}

function drawLegend() {
  at("legend").replaceChildren(...curvesOf(board()).map((curve) => {
    const button = make("button", { "aria-pressed": String(!hidden.has(curve)) },
      make("i", { style: `background:${colourOf(board(), curve)}` }), curve);
    button.addEventListener("click", () => {
      if (!hidden.delete(curve)) hidden.add(curve);
      drawLegend(); drawPlot();
    });
    return button;
  }));
}

function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const factor of [1, 2, 5]) {
        const value = factor * 10 ** power;
        if (value >= low && value <= high) found.push(value);
      }
    return found;
  }
  const raw = (high - low) / 6 || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Number(value.toFixed(10)));
  return found;
}

function paretoFront(points, name, higher) {
  const sign = higher ? 1 : -1;
  let best = -Infinity;
  return [...points].sort((a, b) => a.rate - b.rate).filter((point) => {
    const value = sign * point.scores[name].value;
    if (value <= best) return false;
    best = value;
    return true;
  });
}

function drawPlot() {
  const one = scorer();
  if (!one) { at("plot").replaceChildren("No score is known for this data; see the points below."); return; }
  const known = board().points.filter((point) => point.scores[one.name] && !hidden.has(point.curve));
  const coded = known.filter((point) => point.codec !== "original");
  if (!coded.length) { at("plot").replaceChildren("Nothing to draw."); return; }
  const width = Math.max(340, Math.min(980, at("plot").clientWidth || 700)), height = Math.round(width < 500 ? width : width * 0.55);
  const left = 58, right = 14, top = 12, bottom = 44, logarithmic = at("logarithmic").checked;
  const rates = coded.map((point) => point.rate);
  const heights = known.flatMap((point) => [point.scores[one.name].low, point.scores[one.name].high, point.scores[one.name].value])
    .filter((value) => value !== null);
  let [x0, x1] = [Math.min(...rates), Math.max(...rates)], [y0, y1] = [Math.min(...heights), Math.max(...heights)];
  if (logarithmic) { x0 /= 1.12; x1 *= 1.12; } else { x1 += (x1 || 1) * 0.04; x0 = 0; }
  const margin = (y1 - y0) * 0.05 || 0.5; y0 -= margin; y1 += margin;
  const along = (value) => logarithmic ? Math.log(value) : value;
  const x = (value) => left + (along(value) - along(x0)) / (along(x1) - along(x0)) * (width - left - right);
  const y = (value) => height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${one.title} against rate` });
  for (const value of ticks(x0, x1, logarithmic)) {
    svg.append(make("line", { x1: x(value), x2: x(value), y1: top, y2: height - bottom, stroke: "#8883" }),
      make("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, show(value, 3)));
  }
  for (const value of ticks(y0, y1, false)) {
    svg.append(make("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), stroke: "#8883" }),
      make("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, show(value, 4)));
  }
  svg.append(make("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, `rate, ${board().rateUnit}`),
    make("text", { x: -(top + height - bottom) / 2, y: 14, "text-anchor": "middle", transform: "rotate(-90)" },
      one.title + (one.unit && !one.title.includes(one.unit) ? `, ${one.unit}` : "")));
  for (const point of known.filter((each) => each.codec === "original"))
    svg.append(make("line", { x1: left, x2: width - right, y1: y(point.scores[one.name].value), y2: y(point.scores[one.name].value),
      stroke: "currentColor", "stroke-dasharray": "2 4", class: "baseline" }, make("title", {}, `original: ${show(point.scores[one.name].value)}`)));
  for (const curve of curvesOf(board())) {
    const members = coded.filter((point) => point.curve === curve).sort((a, b) => a.rate - b.rate);
    if (!members.length) continue;
    const colour = colourOf(board(), curve);
    svg.append(make("polyline", { points: members.map((p) => `${x(p.rate)},${y(p.scores[one.name].value)}`).join(" "), fill: "none", stroke: colour, "stroke-width": 2 }));
    for (const point of members) {
      const found = point.scores[one.name];
      if (found.low !== null) svg.append(make("line", { x1: x(point.rate), x2: x(point.rate), y1: y(found.low), y2: y(found.high), stroke: colour, "stroke-width": 1.5, opacity: .6 }));
      const mark = make("circle", { cx: x(point.rate), cy: y(found.value), r: 5, fill: colour, tabindex: 0, class: "mark" });
      const text = `${curve} ${point.settings}: ${show(found.value)}${found.low === null ? "" : ` [${show(found.low)}, ${show(found.high)}]`} at ${show(point.rate)} ${board().rateUnit}`;
      for (const event of ["mouseenter", "focus", "click"]) mark.addEventListener(event, () => { at("reading").textContent = text; });
      mark.append(make("title", {}, text));
      svg.append(mark);
    }
  }
  if (at("pareto").checked)
    svg.append(make("polyline", { points: paretoFront(coded, one.name, one.higher).map((p) => `${x(p.rate)},${y(p.scores[one.name].value)}`).join(" "),
      fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-dasharray": "6 4", class: "front" }));
  at("plot").replaceChildren(svg);
}

function drawTables() {
  const one = board(), names = one.scorers.map((each) => each.name);
  fill(at("points"), ["codec", "settings", `rate, ${one.rateUnit}`, ...one.scorers.map((each) => each.title), "against original", "encode s", "decode s", "peak MB"],
    one.points.map((point) => [point.curve, point.settings, point.rate,
      ...names.map((name) => { const f = point.scores[name]; return f ? `${show(f.value)}${f.low === null ? "" : ` [${show(f.low, 3)}, ${show(f.high, 3)}]`}` : "–"; }),
      Object.values(point.mcnemar).map((test) => `−${test.lost} +${test.won} p=${show(test.p, 2)}`).join("; ") || "–",
      point.encode, point.decode, point.memory === null ? "–" : Math.round(point.memory / 1e6)]));
  fill(at("bd"), ["codec", "anchor", "by", "BD-rate, %", "interval", "BD-metric", "overlap", "beware"],
    one.bd.map((row) => [row.curve, row.anchor, row.scorer, row.rate === null ? "–" : show(row.rate, 3),
      row.low === null ? "–" : `[${show(row.low, 3)}, ${show(row.high, 3)}]`, row.metric, `${Math.round(100 * row.overlap)} %`,
      [row.reason, ...row.warnings].filter(Boolean).join("; ")]));
  at("correlation-section").hidden = !one.correlations.length;
  fill(at("correlations"), ["metric", "task", "Spearman", "interval", "points"],
    one.correlations.map((row) => [row.metric, row.task, row.value, row.low === null ? row.reason || "–" : `[${show(row.low, 3)}, ${show(row.high, 3)}]`, row.points]));
  at("worst").replaceChildren(...one.worst.map((item) => make("div", {}, make("h3", {}, item.item),
    make("div", { class: "versions" },
      item.original ? make("figure", {}, make("img", { src: item.original, alt: `${item.item}, original`, loading: "lazy" }), make("figcaption", {}, "original")) : null,
      ...item.versions.map((version) => make("figure", {},
        version.picture ? make("img", { src: version.picture, alt: `${item.item}, ${version.curve}`, loading: "lazy" }) : null,
        make("figcaption", {}, `${version.curve} ${version.settings}, ${show(version.rate, 3)} ${one.rateUnit}; ` +
          Object.entries(version.scores).map(([name, value]) => judged(one, name, value)).join(", "))))))));
  if (!one.worst.length) at("worst").replaceChildren("No item has been judged.");
  drawRows();
}

function judged(one, name, value) {
  const scorer = one.scorers.find((each) => each.name === name);
  // a task of yes and no has been tested against the original, see McNemar
  const yesOrNo = scorer.task && one.points.some((point) => name in point.mcnemar);
  return yesOrNo ? `${name} ${value ? "right" : "wrong"}` : `${scorer.title} ${show(value, 3)} ${scorer.unit}`.trim();
}

function drawRows() {
  const one = board(), rows = one.rows, wanted = at("search").value.toLowerCase(), names = one.scorers.map((each) => each.name);
  const shown = [];
  let count = 0;
  for (let number = 0; number < rows.item.length; number++) {
    const point = one.points[rows.point[number]], item = rows.items[rows.item[number]];
    if (wanted && !`${item} ${point.curve} ${point.settings}`.toLowerCase().includes(wanted)) continue;
    count++;
    if (shown.length < SHOWN_ROWS) shown.push([item, point.curve, point.settings, rows.rate[number], ...names.map((name) => rows.scores[name][number])]);
  }
  at("found").textContent = `${show(count)} rows${count > SHOWN_ROWS ? `, the first ${SHOWN_ROWS} are shown` : ""}`;
  fill(at("rows"), ["item", "codec", "settings", `rate, ${one.rateUnit}`, ...one.scorers.map((each) => each.title)], shown);
}

at("summary").textContent = `${show(data.counts.ok)} of ${show(data.counts.planned)} cells done, ${show(data.counts.errors)} errors. Rates count every byte of every file.`;
at("board").replaceChildren(...data.boards.map((one, number) => make("option", { value: number }, `${one.data} (${one.items} items${one.leftOut ? `, ${one.leftOut} left out` : ""})`)));
fill(at("environment"), ["", ""], Object.entries({ ...data.environment, ...data.run }));
fill(at("skipped"), ["what", "name", "reason"], data.skipped.map((row) => [row.what, row.name, row.reason]), () => "skipped");
at("skipped-section").hidden = !data.skipped.length;
fill(at("errors"), ["item", "codec", "settings", "reason"], data.errors.map((row) => [row.item, row.curve, row.settings, row.reason]));
at("errors-section").hidden = !data.errors.length;
if (data.boards.length) {
  at("board").addEventListener("change", chooseBoard);
  for (const name of ["scorer", "pareto", "logarithmic"]) at(name).addEventListener("change", drawPlot);
  at("search").addEventListener("input", drawRows);
  window.addEventListener("resize", drawPlot);
  chooseBoard();
}
