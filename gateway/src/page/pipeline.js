// How the pipeline is: what lies ahead of each step in records and seconds, and how every record ended.

import { get } from "./api.js";
import { byId, make, tell } from "./dom.js";
import { NONE, count, seconds, share } from "./format.js";

const STEPS = {
  ledger: "Judged",
  counters: "Counted",
  rollups: "Rolled up",
  statistics: "In statistics",
  relay: "Sent on",
};
const ENDS = [
  ["stored", "counted", "stored-hue"],
  ["duplicate", "duplicates", "duplicate-hue"],
  ["deadLettered", "rejected", "dead-hue"],
  ["erased", "erased", "erased-hue"],
];
/** Seconds from which a step is late, and very late. */
const LATE = [10, 60];

export function pipeline() {
  const rows = Object.entries(STEPS).map(([name, text]) => {
    const [records, waits] = [make("td", { class: "number" }, NONE), make("td", { class: "number" }, NONE)];
    return { name, records, waits, row: make("tr", {}, make("th", { scope: "row" }, text), records, waits) };
  });
  byId("ratchets").replaceChildren(...rows.map((it) => it.row));
  const ends = ENDS.map(([name, text, hue]) => ({ name, hue, bar: make("i", { class: hue }), number: make("b", {}, NONE), text }));
  byId("verdicts").replaceChildren(
    make("div", { class: "share-bar", "aria-hidden": "true" }, ...ends.map((it) => it.bar)),
    make("div", { class: "ends" }, ...ends.map((it) => make("div", {}, make("i", { class: it.hue, "aria-hidden": "true" }), make("span", {}, it.text), it.number))),
  );

  const show = (report) => {
    for (const { name, records, waits } of rows) {
      const found = report.ratchets.find((it) => it.name === name);
      tell(records, found.records === null ? "unknown" : count(found.records));
      tell(waits, found.seconds === null ? NONE : found.records ? seconds(found.seconds) : "0 s");
      waits.dataset.is = lateness(found.seconds);
    }
    const all = report.verdicts.consumed;
    for (const { name, bar, number } of ends) {
      bar.style.width = all ? `${(100 * report.verdicts[name]) / all}%` : "0";
      tell(number, count(report.verdicts[name]));
      number.title = share(report.verdicts[name], all);
    }
    health(report);
  };

  return { ask: async () => {
    const report = await get("/api/pipeline");
    show(report);
    return report;
  } };
}

const lateness = (waits) => (waits > LATE[1] ? "bad" : waits > LATE[0] ? "warn" : "");

function health(report) {
  const badge = byId("health");
  const worst = Math.max(...report.ratchets.map((it) => it.seconds ?? 0));
  const [is, text] = report.kafka !== "live" ? ["bad", "Kafka is away"]
    : report.counters === "away" ? ["bad", "Redis is away"]
      : report.counters === "rebuilding" ? ["warn", "Counters are being rebuilt"]
        : !report.sources.length ? ["warn", "No processor has run yet"]
          : lateness(worst) ? [lateness(worst), `${seconds(worst)} behind`]
            : ["", "● Healthy"];
  badge.dataset.is = is;
  tell(badge, text);
}
