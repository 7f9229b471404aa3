// Sends an event and shows its way, each step with the time since the button was pressed.

import { Problem, get, post } from "./api.js";
import { byId, make, sentence, tell } from "./dom.js";
import { count, seconds } from "./format.js";

const STEPS = {
  accepted: "Accepted",
  stored: "Stored",
  counted: "Counted",
  rolledUp: "In statistics",
  relayed: "Sent on",
  notified: "Notified",
};
const RELAYED = "to unique-actions";
const ASK_MS = 100;
/** So long a way is watched; an alert may take as long as its window. */
const WATCH_MS = 20_000;

/** The event on its way; another one takes its place. */
let current;

export function send(rights) {
  const [form, again, told] = ["send", "send-again", "send-told"].map(byId);
  const lines = way();
  if (!rights.write) {
    form.querySelectorAll("input, button").forEach((it) => { it.disabled = true; });
    told.replaceChildren(...sentence("This key lacks the right `write`."));
  }

  const submit = async (event) => {
    current = { since: performance.now(), event, done: new Set() };
    const mine = current;
    lines.clear();
    tell(told, "");
    try {
      const { results: [{ eventId }] } = await post("/api/events", event);
      mine.event = { ...event, eventId };
      done(mine, "accepted", `as ${eventId}`);
    } catch (error) {
      const [first] = error instanceof Problem ? error.results : [];
      lines.bad("accepted", first?.detail ?? error.message);
      return;
    }
    again.disabled = false;
    if (!rights.read) {
      told.replaceChildren(...sentence("What follows needs a key with the right `read`."));
      return;
    }
    await watch(mine);
  };

  const done = (of, step, what) => {
    if (of !== current || of.done.has(step)) return;
    of.done.add(step);
    lines.done(step, what, (performance.now() - of.since) / 1000);
  };

  const watch = async (mine) => {
    const path = `/api/events/${encodeURIComponent(mine.event.eventId)}/trace`;
    while (mine === current && performance.now() - mine.since < WATCH_MS) {
      const trace = await get(path).catch(() => undefined);
      if (mine !== current) return;
      if (trace) follow(mine, trace);
      const isThrough = Object.keys(STEPS).every((step) => step === "notified" || mine.done.has(step));
      await new Promise((resolve) => { setTimeout(resolve, isThrough ? 10 * ASK_MS : ASK_MS); });
    }
    if (mine === current && !mine.done.has("notified")) lines.wait("notified", "no rule found it remarkable");
  };

  const follow = (mine, trace) => {
    for (const step of trace.steps) {
      if (!step.done || mine.done.has(step.name) || step.name === "notified") continue;
      done(mine, step.name, DETAILS[step.name](trace));
    }
    // The counters that the API tells are those that are rolled up.
    const isCounted = mine.done.has("counted") && mine.done.has("rolledUp");
    if (isCounted && mine.event.objectId && !mine.isTold) {
      mine.isTold = true;
      counter(mine.event).then((text) => mine === current && lines.tell("counted", text), () => { mine.isTold = false; });
    }
    const isNew = trace.notifications.find((it) => Date.parse(it.time) >= mine.startedAt);
    if (isNew) done(mine, "notified", isNew.text);
  };

  form.onsubmit = (submitted) => {
    submitted.preventDefault();
    const { type, userId, objectType, objectId } = Object.fromEntries(new FormData(form));
    const object = objectId && { objectType: objectType || "object", objectId };
    submit({ type, userId, source: "page", ...object });
    current.startedAt = Date.now();
  };
  again.onclick = () => {
    const event = current.event;
    submit(event);
    current.isAgain = true;
    current.startedAt = Date.now();
    tell(told, "The same id again: it is accepted, recognised, and the counter stays as it is.");
  };

  return {
    relayed: (event) => current && event.eventId === current.event.eventId && done(current, "relayed", RELAYED),
    notified: ({ data, subject }) => {
      if (!current) return;
      const { objectType, objectId } = current.event;
      if (subject === `${objectType}/${objectId}`) done(current, "notified", data.text);
    },
  };
}

const DETAILS = {
  stored: (trace) => trace.origin,
  counted: (trace) => (trace.event.objectId === undefined ? "it has no object" : "in Redis"),
  rolledUp: () => "users, activity, retention",
  relayed: () => RELAYED,
};

/** What the counter of the event's kind on its object stands at, in words. */
async function counter({ type, objectType, objectId }) {
  const path = `/api/objects/${encodeURIComponent(objectType)}/${encodeURIComponent(objectId)}/counters`;
  const { counts } = await get(path);
  return `${type} of ${objectType} ${objectId}: ${count(counts[type] ?? 0)}`;
}

function way() {
  const lines = Object.fromEntries(Object.entries(STEPS).map(([name, text]) => {
    const [what, when] = [make("span", { class: "what" }), make("span", { class: "when" })];
    return [name, { what, when, line: make("li", {}, make("span", {}, text), what, when) }];
  }));
  byId("way").replaceChildren(...Object.values(lines).map((it) => it.line));
  const set = (name, is, what, when) => {
    const it = lines[name];
    it.line.dataset.is = is;
    tell(it.what, what);
    it.what.title = what;
    tell(it.when, when);
  };
  return {
    clear: () => Object.keys(lines).forEach((name) => set(name, "", "", "")),
    done: (name, what, after) => set(name, "done", what ?? "", seconds(after)),
    tell: (name, what) => {
      tell(lines[name].what, what);
      lines[name].what.title = what;
    },
    wait: (name, what) => set(name, "", what, ""),
    bad: (name, what) => set(name, "bad", what, ""),
  };
}
