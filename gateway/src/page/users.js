// Active users a day, and of those who first came on a day the share that came back.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { byId, make } from "./dom.js";
import { count, dayOf, roundShare } from "./format.js";

const DAYS = 14;
const COHORTS = 10;

export function users() {
  const place = byId("users-chart");
  const axis = { values: (_, ticks) => ticks.map((at) => dayOf(new Date(at * 1000).toISOString().slice(0, 10))), incrs: [86_400, 2 * 86_400, 7 * 86_400] };
  const draw = chart(place, { kind: "bars", empty: "Nobody yet.", axis });

  const ask = async () => {
    const [{ series }, { cohorts }] = await Promise.all([
      get("/api/stats/dau", { from: day(1 - DAYS), to: day(1) }),
      get("/api/stats/retention", { from: day(1 - COHORTS), to: day(1) }),
    ]);
    draw([series.map((it) => Date.parse(it.day) / 1000), series.map((it) => it.users)], ["users"]);
    const told = series.slice(-7).map((it) => `${dayOf(it.day)} ${count(it.users)}`).join(", ");
    place.setAttribute("aria-label", `Active users a day: ${told}`);
    table(cohorts.filter((it) => it.size > 0));
    return series;
  };
  return { ask };
}

const day = (offset) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);

function table(cohorts) {
  byId("retention-empty").hidden = cohorts.length > 0;
  byId("retention").hidden = cohorts.length === 0;
  const wide = Math.max(0, ...cohorts.map((it) => it.retained.length));
  const head = make("thead", {}, make("tr", {},
    ...["First day", "Users", ...Array.from({ length: wide }, (_, at) => (at ? `+${at} d` : "Day 0"))]
      .map((text) => make("th", { scope: "col" }, text))));
  const rows = cohorts.map(({ day, size, retained }) => make("tr", {},
    make("th", { scope: "row" }, dayOf(day)),
    make("td", {}, count(size)),
    ...retained.map((users) => cell(users, size)),
    ...Array.from({ length: wide - retained.length }, () => make("td", {}))));
  byId("retention").replaceChildren(head, make("tbody", {}, ...rows.reverse()));
}

/** The more came back the stronger the colour; the ink on it stays readable. */
function cell(users, size) {
  const part = size ? users / size : 0;
  const background = `color-mix(in srgb, var(--accent) ${Math.round(4 + 34 * part)}%, var(--panel))`;
  return make("td", { class: "share", title: `${count(users)} of ${count(size)}`, style: { background } }, roundShare(users, size));
}
