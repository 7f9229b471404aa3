// Charts by uPlot in the page's colours; drawn anew when these or the room change.

import { make } from "./dom.js";
import { brief } from "./format.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const HUES = {
  light: ["#0a57be", "#00857c", "#b25c00", "#8e44ad", "#c2255c", "#5c6b7a"],
  dark: ["#7dbaff", "#4fd1c0", "#f0a95b", "#c79bf2", "#ff8fb4", "#97a3af"],
};

export const hues = () => HUES[dark.matches ? "dark" : "light"];

/** `draw(data, series)`: columns as uPlot takes them, the first with the seconds. */
export function chart(place, { kind, empty, axis = {} }) {
  let plot, shown;

  const draw = (data, names) => {
    const isSame = plot && String(names) === String(shown?.[1]);
    shown = [data, names];
    if (isSame && data[0].length) {
      plot.setData(data);
      return;
    }
    plot?.destroy();
    place.replaceChildren();
    plot = undefined;
    if (!data[0].length) {
      place.append(make("p", { class: "empty none" }, empty));
      return;
    }
    const style = getComputedStyle(document.documentElement);
    const [ink, line] = ["--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
    const axes = { stroke: ink, font: "12px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const drawn = kind === "bars" ? uPlot.paths.bars({ size: [0.7, 48], radius: 0.15 }) : uPlot.paths.linear();
    const series = names.map((name, at) => ({
      label: name,
      stroke: hues()[at % hues().length],
      fill: kind === "bars" ? hues()[at % hues().length] : undefined,
      width: kind === "bars" ? 0 : 1.8,
      paths: drawn,
      points: { show: false },
    }));
    plot = new uPlot({
      width: place.clientWidth,
      height: place.clientHeight,
      padding: [8, 4, 0, 0],
      cursor: { show: false },
      legend: { show: false },
      scales: { x: { time: true, range: kind === "bars" ? (_, min, max) => [min - 43_200, max + 43_200] : undefined }, y: { range: (_, __, max) => [0, Math.max(4, max * 1.1)] } },
      axes: [
        { ...axes, grid: { show: false }, space: 90, ...axis },
        { ...axes, size: 44, space: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7], values: (_, ticks) => ticks.map(brief) },
      ],
      series: [{}, ...series],
    }, data, place);
  };

  dark.addEventListener("change", () => {
    const [data, names] = shown ?? [];
    shown = undefined;
    if (data) draw(data, names);
  });
  new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height: place.clientHeight })).observe(place);
  return draw;
}
