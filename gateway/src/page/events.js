// The last events, stored or rejected, as they come: a filter over what is shown, and a pause.

import { get } from "./api.js";
import { byId, make, prepend, tell } from "./dom.js";
import { ago, fully } from "./format.js";

const SHOWN = 100;
/** While paused so many wait; older ones are let go. */
const WAITING = 100;

export function events() {
  const [list, empty, filter, pause] = ["events", "events-empty", "events-filter", "events-pause"].map(byId);
  list.replaceChildren();
  let waiting = [], missed = 0, isPaused = false;

  const matches = (row) => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => row.dataset.words.includes(word));
  };
  const isShown = (row) => [...list.children].some((it) => it.dataset.id === row.dataset.id);
  const show = (row) => {
    if (isShown(row)) return;
    empty.hidden = true;
    row.hidden = !matches(row);
    prepend(list, row, SHOWN);
  };
  const came = (row) => {
    if (!isPaused) {
      show(row);
      return;
    }
    waiting.push(row);
    missed += 1;
    if (waiting.length > WAITING) waiting.shift();
    tell(pause, `Resume (${missed} new)`);
  };

  filter.oninput = () => [...list.children].forEach((row) => { row.hidden = !matches(row); });
  pause.onclick = () => {
    isPaused = !isPaused;
    pause.setAttribute("aria-pressed", isPaused);
    tell(pause, isPaused ? "Resume" : "Pause");
    waiting.forEach(show);
    [waiting, missed] = [[], 0];
  };

  return {
    stored: (event) => came(storedRow(event)),
    rejected: (letter) => came(rejectedRow(letter)),
    /** What there was before, and what a stream without a cursor missed while it was away. */
    past: async () => {
      const { events } = await get("/api/events", { limit: 50 });
      const newest = list.firstElementChild?.dataset.at ?? "";
      const rows = events.map(storedRow);
      rows.filter((row) => newest && row.dataset.at > newest).reverse().forEach(came);
      list.append(...rows.filter((row) => !(newest && row.dataset.at > newest) && !isShown(row)));
      while (list.children.length > SHOWN) list.lastElementChild.remove();
      empty.hidden = list.children.length > 0;
    },
    age: () => [...list.children].forEach((row) => tell(row.firstElementChild, ago(row.dataset.at))),
  };
}

const objectOf = (event) => (event.objectId === undefined ? "" : `${event.objectType}/${event.objectId}`);

function storedRow(event) {
  const cells = [make("span", { class: "tag" }, event.type), event.userId, objectOf(event), event.source];
  return row(event.eventId, event.receivedAt, cells, [event.type, event.userId, objectOf(event), event.source]);
}

function rejectedRow(letter) {
  const cells = [`✕ ${letter.code}`, "rejected", letter.detail, letter.origin];
  const made = row(letter.origin, letter.rejectedAt, cells, ["rejected", letter.code, letter.detail]);
  made.classList.add("rejected");
  return made;
}

function row(id, at, cells, words) {
  const when = make("td", { title: fully(at) }, ago(at));
  const others = cells.map((it) => make("td", typeof it === "string" ? { title: it } : {}, it));
  return make("tr", { data: { id, at, words: words.join(" ").toLowerCase() } }, when, ...others);
}
