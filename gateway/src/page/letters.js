// Dead letters with their reasons: those there were for administrators, new ones for everybody who reads.

import { get } from "./api.js";
import { byId, make, prepend, sentence, tell } from "./dom.js";
import { ago, fully } from "./format.js";

const SHOWN = 50;
const EXCERPT = 200;

export function letters(rights) {
  const [list, empty] = [byId("letters"), byId("letters-empty")];
  list.replaceChildren();
  if (!rights.admin) empty.replaceChildren(...sentence("This key sees new dead letters as they come; those before need the right `admin`."));

  const came = (letter) => {
    empty.hidden = true;
    prepend(list, line(letter, letter.rejectedAt), SHOWN);
  };
  const past = async () => {
    if (!rights.admin) return;
    const { deadLetters } = await get("/api/dead-letters", { limit: SHOWN });
    // They are stored before the stream tells of them: none that came already is missing here.
    list.replaceChildren(...deadLetters.map((it) => line(it, it.receivedAt)));
    empty.hidden = list.children.length > 0;
  };
  const age = () => list.querySelectorAll(".when").forEach((it) => tell(it, ago(it.dataset.at)));
  return { came, past, age };
}

function line(letter, at) {
  const value = letter.value === undefined || letter.value === null ? "no value"
    : typeof letter.value === "string" ? letter.value : `base64 ${letter.value.base64}`;
  const code = make("a", { href: `/docs/errors/${encodeURIComponent(letter.code)}`, class: "what" }, letter.code);
  return make("li", { data: { origin: letter.origin } },
    code,
    make("span", { class: "when", title: fully(at), data: { at } }, ago(at)),
    make("span", { class: "why" }, ...sentence(letter.detail), ` · ${letter.origin}`),
    make("pre", {}, value.length > EXCERPT ? `${value.slice(0, EXCERPT)}…` : value));
}
