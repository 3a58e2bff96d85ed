// Two pictures to move by hand: an unfolded network shaded by its sensitivity to the first input, and a memory block
// whose gates you set. The arithmetic comes first and is that of lstm_numba; the drawing follows.
"use strict";

const sigmoid = a => 1 / (1 + Math.exp(-a));
const slope = s => s * (1 - s);                          // σ′(a), from s = σ(a)
const norm = v => Math.hypot(...v);
const steps = n => Array.from({ length: n }, (_, t) => t);

// -- The unfolded network: two units. W turns the state by an angle and scales it by the gain. -----------------------

const STEPS = 12;
const ANGLE = { h: 0.6, i: 0.9, f: 1.8, o: 2.7, c: 0.6 };  // of W_k; U_k points the same way
const INPUT = steps(STEPS).map(t => t ? 0.5 * Math.sin(t * t) : 1);

const from = (k, gain, x, h) => [                          // U_k xᵗ + W_k hᵗ⁻¹
  Math.cos(ANGLE[k]) * x + gain * (Math.cos(ANGLE[k]) * h[0] - Math.sin(ANGLE[k]) * h[1]),
  Math.sin(ANGLE[k]) * x + gain * (Math.sin(ANGLE[k]) * h[0] + Math.cos(ANGLE[k]) * h[1]),
];

// hᵗ = tanh(U xᵗ + W hᵗ⁻¹); dh is its derivative with respect to x¹, carried along: dx is 1 at the first step, then 0.
function simpleNet({ gain }) {
  let h = [0, 0], dh = [0, 0];
  return INPUT.map((x, t) => {
    const a = from("h", gain, x, h), da = from("h", gain, t ? 0 : 1, dh);
    h = a.map(Math.tanh);
    dh = da.map((d, n) => (1 - h[n] ** 2) * d);
    return { h, dh };
  });
}

// aₖᵗ = U_k xᵗ + W_k hᵗ⁻¹ + b_k;  cᵗ = fᵗ cᵗ⁻¹ + iᵗ tanh(a_cᵗ);  hᵗ = oᵗ tanh(cᵗ).  A closed gate is 0, and so is its slope.
function lstmNet({ gain, forgetBias, closed, closedStep }) {
  let h = [0, 0], c = [0, 0], dh = [0, 0], dc = [0, 0];
  return INPUT.map((x, t) => {
    const gate = {}, dgate = {};
    for (const k of ["i", "f", "o"]) {
      const open = !(k === closed && t === closedStep);
      const da = from(k, gain, t ? 0 : 1, dh);
      gate[k] = from(k, gain, x, h).map(a => open ? sigmoid(a + (k === "f" ? forgetBias : 0)) : 0);
      dgate[k] = da.map((d, n) => slope(gate[k][n]) * d);
    }
    const g = from("c", gain, x, h).map(Math.tanh);
    const dg = from("c", gain, t ? 0 : 1, dh).map((d, n) => (1 - g[n] ** 2) * d);
    dc = dc.map((d, n) => gate.f[n] * d + dgate.f[n] * c[n] + gate.i[n] * dg[n] + dgate.i[n] * g[n]);
    c = c.map((value, n) => gate.f[n] * value + gate.i[n] * g[n]);
    const out = c.map(Math.tanh);
    dh = out.map((y, n) => dgate.o[n] * y + gate.o[n] * (1 - y * y) * dc[n]);
    h = out.map((y, n) => gate.o[n] * y);
    return { h, c, dh, dc, gate };
  });
}

// -- One memory block: no W; each gate is σ(its setting's logit + v c), the cell input is a_c. -----------------------

// Forward: c and h at every step. Backward: ε_c = ∂hᵀ/∂cᵗ and δ_c = ∂hᵀ/∂a_cᵗ for the last output hᵀ.
function memoryBlock({ i, f, o, input, peephole }) {
  const v = peephole, logit = p => Math.log(p / (1 - p)), last = i.length - 1;
  const forward = [];
  let c = 0;
  for (const t of steps(i.length)) {
    const before = c;
    const gate = { i: sigmoid(logit(i[t]) + v * c), f: sigmoid(logit(f[t]) + v * c) };
    const g = Math.tanh(input[t]);
    c = gate.f * c + gate.i * g;
    gate.o = sigmoid(logit(o[t]) + v * c);
    forward.push({ ...gate, g, before, c, h: gate.o * Math.tanh(c) });
  }
  let fromAbove = 0;                                        // what step t + 1 hands back to cᵗ
  for (const t of steps(i.length).reverse()) {
    const s = forward[t], y = Math.tanh(s.c), eh = t === last ? 1 : 0;
    const ec = eh * (s.o * (1 - y * y) + v * slope(s.o) * y) + fromAbove;
    fromAbove = ec * (s.f + v * slope(s.f) * s.before + v * slope(s.i) * s.g);
    Object.assign(s, { epsilon_c: ec, delta_c: ec * s.i * (1 - s.g ** 2) });
  }
  return forward;
}

window.explorables = { STEPS, INPUT, ANGLE, simpleNet, lstmNet, memoryBlock };   // a test compares them with the engine

// -- Drawing ------------------------------------------------------------------------------------------------------

const LEFT = 112, COLUMN = 48, WIDTH = LEFT + STEPS * COLUMN + 8;
const at = t => LEFT + (t + 0.5) * COLUMN;

function draw(parent, tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return parent.appendChild(node);
}

const short = value => {                                  // two digits
  const text = value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 100)
    ? String(Number(value.toPrecision(2))) : value.toExponential(0).replace("e+", "e");
  return text.replaceAll("-", "−");
};

function picture(figure, height) {
  const svg = figure.querySelector("svg");
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  return svg;
}

function unfoldedPicture(figure) {
  const field = name => figure.querySelector(`[name=${name}]`);
  const settings = {
    gain: +field("gain").value, forgetBias: +field("forgetBias").value,
    closed: field("closed").value, closedStep: field("closedStep").value - 1,
  };
  for (const name of ["gain", "forgetBias", "closedStep"]) field(name).nextElementSibling.value = field(name).value;

  const simple = simpleNet(settings), lstm = lstmNet(settings);
  const rows = [
    ["simple net, h", simple.map(s => norm(s.dh)), 40],
    ["LSTM, output h", lstm.map(s => norm(s.dh)), 130],
    ["LSTM, cell c", lstm.map(s => norm(s.dc)), 200],
  ];
  const svg = picture(figure, 272);
  for (const [name, values, y] of rows) {
    const darkest = Math.max(...values);
    draw(svg, "text", { x: 4, y: y + 4, class: "label" }, name);
    draw(svg, "line", { x1: at(0), x2: at(STEPS - 1), y1: y, y2: y, class: "wire" });
    values.forEach((value, t) => {
      const shade = value > 0 ? Math.max(0, 1 + Math.log10(value / darkest) / 4) : 0;
      draw(svg, "circle", { cx: at(t), cy: y, r: 15, class: "paper" });
      draw(svg, "circle", { cx: at(t), cy: y, r: 15, class: "node", "fill-opacity": shade.toFixed(3) });
      draw(svg, "text", { x: at(t), y: y + 30, class: "number" }, short(value));
    });
  }
  if (settings.closed) {
    const y = settings.closed === "o" ? 167 : 238;
    const x = at(settings.closedStep) - (settings.closed === "f" ? COLUMN / 2 : 0);
    const mark = settings.closed === "f" ? { x1: x, x2: x, y1: 182, y2: 218 } : { x1: x - 18, x2: x + 18, y1: y, y2: y };
    draw(svg, "line", { ...mark, class: "closed" });
  }
  steps(STEPS).forEach(t => draw(svg, "text", { x: at(t), y: 262, class: "number" }, t + 1));
  draw(svg, "text", { x: 4, y: 262, class: "label" }, "step");
  const left = row => row[1][0] === 0 ? "0, as the first input never came in"
    : `${short(row[1][STEPS - 1] / row[1][0])} of that at step 1`;
  figure.querySelector("output.summary").value =
    `At step ${STEPS} the sensitivity to the first input is, in the simple net, ${left(rows[0])}; in the LSTM's cell, ${left(rows[2])}.`;
}

const GATES = [["i", "input gate"], ["f", "forget gate"], ["o", "output gate"], ["input", "cell input"]];
const RESULTS = [["c", "cell c"], ["h", "output h"], ["epsilon_c", "ε of c"], ["delta_c", "δ of cell input"]];
const RANGE = { i: [0, 1], f: [0, 1], o: [0, 1], input: [-2, 2] };
const start = {
  i: steps(STEPS).map(t => t === 1 ? 1 : 0), f: steps(STEPS).map(t => t === 8 ? 0 : 1),
  o: steps(STEPS).map(t => t === 6 || t === STEPS - 1 ? 1 : 0), input: steps(STEPS).map(t => t === 1 ? 2 : -1),
};

function bar(svg, t, middle, share, kind) {              // share: of the height of 24, signed
  const size = 24 * Math.abs(share);
  draw(svg, "rect", { x: at(t) - 15, width: 30, y: share < 0 ? middle : middle - size, height: size, class: kind });
}

function blockPicture(figure, settings) {
  settings.peephole = +figure.querySelector("[name=peephole]").value;
  figure.querySelector("[name=peephole]").nextElementSibling.value = settings.peephole;
  const results = memoryBlock(settings);
  const focused = document.activeElement?.dataset?.slider;
  const svg = picture(figure, 510);

  GATES.forEach(([key, name], row) => {
    const y = 32 + row * 68, signed = key === "input", [low, high] = RANGE[key];
    draw(svg, "text", { x: 4, y: y + 4, class: "label" }, name);
    settings[key].forEach((value, t) => {
      const slider = draw(svg, "g", {
        role: "slider", tabindex: t ? -1 : 0, "data-slider": `${key} ${t}`, "aria-label": `${name}, step ${t + 1}`,
        "aria-valuemin": low, "aria-valuemax": high, "aria-valuenow": value, "aria-orientation": "vertical",
      });
      draw(slider, "rect", { x: at(t) - 18, y: y - 24, width: 36, height: 48, class: "track" });
      draw(slider, "text", { x: at(t), y: y + 36, class: "number" }, short(value));
      bar(slider, t, signed ? y : y + 24, signed ? value / high : 2 * value, "setting");
      if (!signed && settings.peephole) {                  // where the peephole has moved the gate to
        const level = y + 24 - 48 * results[t][key];
        draw(slider, "line", { x1: at(t) - 18, x2: at(t) + 18, y1: level, y2: level, class: "moved" });
      }
    });
  });
  RESULTS.forEach(([key, name], row) => {
    const y = 308 + row * 52, largest = Math.max(...results.map(s => Math.abs(s[key])));
    draw(svg, "text", { x: 4, y: y + 4, class: "label" }, name);
    draw(svg, "line", { x1: LEFT, x2: WIDTH - 8, y1: y, y2: y, class: "wire" });
    results.forEach((s, t) => {
      bar(svg, t, y, largest > 0 ? s[key] / largest : 0, row < 2 ? "value" : "gradient");
      draw(svg, "text", { x: at(t), y: s[key] < 0 ? y - 4 : y + 13, class: "number" }, short(s[key]));
    });
  });
  steps(STEPS).forEach(t => draw(svg, "text", { x: at(t), y: 504, class: "number" }, t + 1));
  draw(svg, "text", { x: 4, y: 504, class: "label" }, "step");
  if (focused) svg.querySelector(`[data-slider="${focused}"]`).focus();
  const end = results[STEPS - 1];
  figure.querySelector("output.summary").value =
    `The last output is ${short(end.h)}; its derivative with respect to the cell at step 2 is ${short(results[1].epsilon_c)}.`;
}

function whereOf(slider) {
  const [key, t] = slider.dataset.slider.split(" ");
  return [key, +t];
}

function makeBlock(figure) {
  const settings = structuredClone(start);
  const redraw = () => blockPicture(figure, settings);
  const set = (key, t, value) => {
    const [low, high] = RANGE[key];
    settings[key][t] = Math.round(20 * Math.min(high, Math.max(low, value))) / 20;
    redraw();
  };
  const svg = figure.querySelector("svg");

  svg.addEventListener("keydown", event => {
    const slider = event.target.closest("[role=slider]");
    if (!slider) return;
    const [key, t] = whereOf(slider), [low, high] = RANGE[key], step = (high - low) / 20;
    const values = { ArrowUp: settings[key][t] + step, ArrowDown: settings[key][t] - step, Home: low, End: high };
    const sideways = { ArrowLeft: t - 1, ArrowRight: t + 1 }[event.key];
    if (event.key in values) set(key, t, values[event.key]);
    else if (sideways >= 0 && sideways < STEPS) svg.querySelector(`[data-slider="${key} ${sideways}"]`).focus();
    else return;
    event.preventDefault();
  });

  let dragged = null;
  const drag = event => {
    const [key, t] = dragged, [low, high] = RANGE[key];
    const box = svg.querySelector(`[data-slider="${key} ${t}"] .track`).getBoundingClientRect();
    set(key, t, low + (high - low) * (box.bottom - event.clientY) / box.height);
  };
  svg.addEventListener("pointerdown", event => {
    const slider = event.target.closest("[role=slider]");
    if (!slider) return;
    dragged = whereOf(slider);
    svg.setPointerCapture(event.pointerId);
    slider.focus();
    drag(event);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", event => dragged && drag(event));
  for (const end of ["pointerup", "pointercancel"]) svg.addEventListener(end, () => { dragged = null; });

  figure.addEventListener("input", redraw);
  figure.querySelector("button").addEventListener("click", () => { Object.assign(settings, structuredClone(start)); redraw(); });
  redraw();
}

for (const figure of document.querySelectorAll("[data-explorable=unfolded]")) {
  figure.addEventListener("input", () => unfoldedPicture(figure));
  unfoldedPicture(figure);
}
for (const figure of document.querySelectorAll("[data-explorable=block]")) makeBlock(figure);
