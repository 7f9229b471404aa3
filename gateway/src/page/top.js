// The objects to which most was done, by one type or all, and every counter of the chosen one.

import { get } from "./api.js";
import { byId, make } from "./dom.js";
import { count } from "./format.js";

const SHOWN = 8;

export function top() {
  const [list, empty, types, counters] = ["top", "top-empty", "top-type", "counters"].map(byId);
  let chosen;

  const ask = async () => {
    const type = types.value;
    const [{ items }, { items: kinds }] = await Promise.all([
      get("/api/stats/top-objects", { limit: SHOWN, ...(type && { type }) }),
      get("/api/stats/top-events", { limit: 20 }),
    ]);
    if (type !== types.value) return;
    offer(kinds.map((it) => it.type));
    show(items);
    chosen ??= items[0];
    if (chosen) await showCounters();
  };

  const offer = (names) => {
    const known = new Set([...types.options].map((it) => it.value));
    types.append(...names.filter((name) => !known.has(name)).map((name) => make("option", { value: name }, name)));
  };

  const show = (items) => {
    empty.hidden = items.length > 0;
    const most = items[0]?.count ?? 1;
    // The focus stays where it is: the buttons stay, their content changes.
    while (list.children.length > items.length) list.lastElementChild.remove();
    while (list.children.length < items.length) list.append(line());
    items.forEach((item, at) => fill(list.children[at].firstElementChild, item, most));
  };

  const fill = (button, item, most) => {
    const [share, name, number] = button.children;
    share.style.width = `${(100 * item.count) / most}%`;
    name.textContent = `${item.objectType} ${item.objectId}`;
    number.textContent = count(item.count);
    button.setAttribute("aria-pressed", isSame(item, chosen));
    button.onclick = () => {
      chosen = item;
      [...list.children].forEach((it) => it.firstElementChild.setAttribute("aria-pressed", it.firstElementChild === button));
      showCounters();
    };
  };

  const showCounters = async () => {
    const { objectType, objectId } = chosen;
    const { counts } = await get(`/api/objects/${encodeURIComponent(objectType)}/${encodeURIComponent(objectId)}/counters`);
    if (!isSame(chosen, { objectType, objectId })) return;
    const sorted = Object.entries(counts).sort((a, b) => b[1] - a[1]).slice(0, SHOWN);
    counters.hidden = false;
    counters.replaceChildren(make("span", {}, `${objectType} ${objectId}:`),
      ...sorted.map(([name, number]) => make("span", {}, `${name} `, make("b", {}, count(number)))));
  };

  types.onchange = ask;
  return ask;
}

const line = () => make("li", {}, make("button", { type: "button" },
  make("span", { class: "share" }), make("span", { class: "name" }), make("span", { class: "count" })));

const isSame = (a, b) => a?.objectType === b?.objectType && a?.objectId === b?.objectId;
