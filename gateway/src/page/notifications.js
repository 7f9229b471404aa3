// Notifications as they come.

import { byId, make, prepend, tell } from "./dom.js";
import { ago, fully } from "./format.js";

const SHOWN = 50;

export function notifications() {
  const list = byId("notifications");
  list.replaceChildren();
  const came = ({ time, data }) => {
    byId("notifications-empty").hidden = true;
    const line = make("li", {},
      make("span", { class: "what", data: { severity: data.severity } }, data.text),
      make("span", { class: "when", title: fully(time), data: { at: time } }, ago(time)),
      make("span", { class: "why" }, [data.rule, data.severity, data.status].filter((it, at, all) => all.indexOf(it) === at).join(" · ")));
    prepend(list, line, SHOWN);
  };
  const age = () => list.querySelectorAll(".when").forEach((it) => tell(it, ago(it.dataset.at)));
  return { came, age };
}
