// Numbers, shares and times as people read them, in the language of the browser.

const whole = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const small = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const roundPercent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "narrow" });

export const NONE = "–";

export const count = (number) => whole.format(number);
export const brief = (number) => (number < 100_000 ? whole.format(number) : compact.format(number));
export const rate = (number) => (number < 10 ? small.format(number) : brief(Math.round(number)));
export const share = (part, all) => percent.format(all ? part / all : 0);
export const roundShare = (part, all) => roundPercent.format(all ? part / all : 0);
export const timeOfDay = (time) => minute.format(new Date(time));
export const fully = (time) => absolute.format(new Date(time));
export const dayOf = (date) => day.format(new Date(`${date}T00:00:00Z`));

export function seconds(value) {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 120) return `${small.format(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3600)} h`;
}

export function ago(time, now = Date.now()) {
  const past = Math.round((new Date(time) - now) / 1000);
  if (past > -2) return "now";
  if (past > -60) return relative.format(past, "second");
  if (past > -3600) return relative.format(Math.round(past / 60), "minute");
  if (past > -86_400) return relative.format(Math.round(past / 3600), "hour");
  return relative.format(Math.round(past / 86_400), "day");
}
