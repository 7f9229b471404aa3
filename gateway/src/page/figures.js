// The six figures at the top: rates over the last seconds with their curve, users of today, lag.

import { byId, make, tell } from "./dom.js";
import { NONE, brief, count, rate, seconds, share } from "./format.js";

const SAMPLES = 120;
/** A rate is over so many samples, so that it can be read before it changes. */
const OVER = 5;

function figure(name, unit = "") {
  const value = make("span", {}, NONE);
  const more = make("div", { class: "more" }, "\u00a0");
  const ns = "http://www.w3.org/2000/svg";
  const curve = document.createElementNS(ns, "svg");
  const [area, line] = ["area", "line"].map((kind) => {
    const path = document.createElementNS(ns, "path");
    path.setAttribute("class", kind);
    return path;
  });
  curve.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 20`);
  curve.setAttribute("preserveAspectRatio", "none");
  curve.setAttribute("aria-hidden", "true");
  curve.append(area, line);
  const box = make("div", { class: "figure" },
    make("div", { class: "name" }, name),
    make("div", { class: "value" }, value, make("small", {}, unit)),
    more, curve);
  const draw = (samples) => {
    const most = Math.max(1, ...samples);
    const points = samples.map((sample, at) => `${SAMPLES - samples.length + at},${(19 - (sample / most) * 17).toFixed(1)}`);
    line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
    area.setAttribute("d", points.length > 1 ? `M${SAMPLES - points.length},20L${points.join("L")}L${SAMPLES - 1},20Z` : "");
  };
  return { box, draw, set: (text, below = "\u00a0", is = "") => {
    tell(value, text);
    tell(more, below);
    box.dataset.is = is;
  } };
}

export function figures() {
  const all = {
    consumed: figure("Arriving", "/s"),
    stored: figure("Counted", "/s"),
    duplicate: figure("Duplicates", "/s"),
    deadLettered: figure("Rejected", "/s"),
    users: figure("Users today"),
    lag: figure("Behind"),
  };
  byId("figures").replaceChildren(...Object.values(all).map((it) => it.box));
  const past = [];
  const curves = { consumed: [], stored: [], duplicate: [], deadLettered: [], users: [], lag: [] };

  const remember = (name, value) => {
    curves[name].push(value);
    if (curves[name].length > SAMPLES) curves[name].shift();
    all[name].draw(curves[name]);
  };

  const pipeline = (report) => {
    const { verdicts, rates, ratchets } = report;
    const at = Date.parse(report.asOf) / 1000;
    past.unshift({ at, verdicts });
    past.length = Math.min(past.length, OVER + 1);
    const [last, then] = [past[1], past.at(-1)];
    for (const name of ["consumed", "stored", "duplicate", "deadLettered"]) {
      const over = (from) => Math.max(0, (verdicts[name] - from.verdicts[name]) / (at - from.at));
      const now = last && at > then.at ? over(then) : rates?.[name];
      const below = name === "consumed" ? `${brief(verdicts.consumed)} in all`
        : `${brief(verdicts[name])} · ${share(verdicts[name], verdicts.consumed)}`;
      all[name].set(now === undefined ? NONE : rate(now), below);
      if (last && at > last.at) remember(name, over(last));
    }
    const known = ratchets.filter((it) => it.records !== null);
    const worst = known.reduce((a, b) => (b.records > a.records ? b : a), { records: 0, seconds: 0 });
    const is = worst.seconds > 60 ? "bad" : worst.seconds > 10 ? "warn" : "";
    const below = worst.records ? `${count(worst.records)} records at the ${worst.name}` : "every step has caught up";
    all.lag.set(worst.seconds === null ? NONE : worst.records ? seconds(worst.seconds) : "0 s", below, is);
    remember("lag", worst.records);
  };

  const users = (series) => {
    const [today, yesterday] = [series.at(-1), series.at(-2)];
    all.users.set(today ? brief(today.users) : NONE, yesterday ? `${brief(yesterday.users)} yesterday` : "\u00a0");
    curves.users = series.map((it) => it.users);
    const spread = curves.users.flatMap((users) => Array(Math.floor(SAMPLES / curves.users.length)).fill(users));
    all.users.draw(spread);
  };
  return { pipeline, users };
}
