"use strict";
// Optuna's figures in the page's own colours, which change with the reader's light or dark setting.
const places = [...document.querySelectorAll(".plot")];
// Optuna's blues run from white to navy: moved away from the page's colour, so that no line is lost on it.
function readable(color, dark) {
  const parts = /^rgb\(([\d.]+), *([\d.]+), *([\d.]+)\)$/.exec(color ?? "");
  if (!parts) return color;
  return `rgb(${parts.slice(1).map((part) => Math.round(dark ? 85 + (part * 2) / 3 : (part * 3) / 4)).join(",")})`;
}
function draw() {
  const css = getComputedStyle(document.documentElement), color = (name) => css.getPropertyValue(name).trim();
  const axis = { gridcolor: color("--grid"), linecolor: color("--hair"), zeroline: false, automargin: true };
  for (const place of places) {
    const { data, layout } = JSON.parse(place.nextElementSibling.textContent);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    for (const trace of data) {
      const { line, marker } = trace;
      if (line) { line.color = readable(line.color, dark); line.width = 1.8; trace.opacity = 0.9; }
      if (Array.isArray(marker?.colorscale)) marker.colorscale = marker.colorscale.map(([at, color]) => [at, readable(color, dark)]);
    }
    const axes = Object.fromEntries(Object.keys(layout).filter((name) => /^[xy]axis/.test(name)).map((name) => [name, { ...axis, ...layout[name] }]));
    const notes = (layout.annotations ?? []).map((note) => ({ ...note, font: { ...note.font, color: color("--muted") }, bgcolor: "rgba(0,0,0,0)" }));
    const ours = { autosize: true, height: 340, margin: { l: 56, r: 24, t: 28, b: 48 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: css.fontFamily, size: 12, color: color("--muted") }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, colorway: [color("--main"), color("--second")] };
    Plotly.react(place, data, { ...layout, ...axes, ...ours, annotations: notes }, { responsive: true, displayModeBar: false });
  }
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
