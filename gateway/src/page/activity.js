// How much happened: by type, over the last hour, day or month.

import { get } from "./api.js";
import { chart, hues } from "./chart.js";
import { byId, make } from "./dom.js";
import { brief, count, dayOf, timeOfDay } from "./format.js";

const SPANS = [
  { name: "Hour", unit: "minute", step: 60, back: 60 },
  { name: "Day", unit: "hour", step: 3600, back: 24 },
  { name: "Month", unit: "day", step: 86_400, back: 30 },
];
const DAY = 86_400;
/** So many types have a line of their own. */
const LINES = 5;

export function activity() {
  const place = byId("activity-chart");
  let span = SPANS[0];
  const label = (at) => (span.step === DAY ? dayOf(new Date(at * 1000).toISOString().slice(0, 10)) : timeOfDay(at * 1000));
  const axis = { values: (_, ticks) => ticks.map(label) };
  const draw = chart(place, { kind: "lines", empty: "Nothing happened in this time.", axis });

  const ask = async () => {
    const { unit, step, back } = span;
    const to = Math.floor(Date.now() / 1000 / step + 1) * step;
    const from = to - back * step;
    const range = { from: new Date(from * 1000).toISOString(), to: new Date(to * 1000).toISOString() };
    const { series } = await get("/api/stats/activity", { unit, by: "type", ...range });
    if (unit !== span.unit) return;
    show(series, from, step, back);
  };

  const show = (series, from, step, back) => {
    const totals = new Map();
    for (const { by, count } of series) totals.set(by, (totals.get(by) ?? 0) + count);
    const ranked = [...totals].sort((a, b) => b[1] - a[1]);
    const own = new Map(ranked.slice(0, LINES).map(([name], at) => [name, at]));
    const names = [...own.keys(), ...(ranked.length > LINES ? ["others"] : [])];
    const columns = names.map(() => Array(back).fill(0));
    for (const { start, by, count } of series) {
      const at = Math.round((Date.parse(start) / 1000 - from) / step);
      columns[own.get(by) ?? LINES][at] += count;
    }
    const times = Array.from({ length: back }, (_, at) => from + at * step);
    draw(names.length ? [times, ...columns] : [[]], names);
    const sums = columns.map((column) => column.reduce((a, b) => a + b, 0));
    byId("activity-legend").replaceChildren(...names.map((name, at) => make("li", {},
      make("i", { style: { background: hues()[at] } }), name, make("b", {}, brief(sums[at])))));
    const told = names.map((name, at) => `${name} ${count(sums[at])}`).join(", ");
    place.setAttribute("aria-label", `Events of the last ${span.name.toLowerCase()}: ${told || "none"}`);
  };

  const buttons = SPANS.map((it) => make("button", { type: "button", class: "quiet", "aria-pressed": it === span, onclick: () => {
    span = it;
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", SPANS[at] === span));
    ask();
  } }, it.name));
  byId("activity-span").replaceChildren(...buttons);
  return { ask };
}
