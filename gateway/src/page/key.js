// The key that is typed in: which rights it has, and what the page says when one is missing.

import { Problem, get, key, post } from "./api.js";
import { byId, sentence, tell } from "./dom.js";

const PROBE = { type: "like", userId: "page" };

/** The rights of the key at hand; throws when it is none at all. */
async function rights() {
  const [write, admin] = await Promise.all([
    allows(() => post("/api/events/validate", PROBE)),
    allows(() => get("/api/dead-letters", { limit: 1 })),
  ]);
  const read = admin || await allows(() => get("/api/pipeline"));
  return { read, write, admin };
}

async function allows(question) {
  try {
    await question();
    return true;
  } catch (error) {
    if (error instanceof Problem && error.status === 403) return false;
    throw error;
  }
}

/** `opened(rights)` when a key is taken, `closed()` when it is forgotten. */
export function keyForm(opened, closed) {
  const form = byId("key");
  const [field, forget] = [byId("key-secret"), byId("key-forget")];
  const connect = form.querySelector("button");

  const open = async () => {
    notice("");
    state("waiting", "Checking the key");
    try {
      const granted = await rights();
      field.hidden = connect.hidden = true;
      forget.hidden = false;
      state("waiting", "Connecting");
      if (!granted.read) notice("This key may write but not read: you can send events here, but see nothing. Ask for a key with the right `read`.");
      else if (!granted.write) notice("This key may read but not write: you see everything, but cannot send events from here.");
      opened(granted);
    } catch (error) {
      if (error.status === 401) key.forget();
      state("refused", error.status === 401 ? "Key refused" : "Not connected");
      notice(error instanceof Problem ? error.message : "The gateway cannot be reached.", "refused");
    }
  };

  form.onsubmit = (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    field.value = "";
    open();
  };
  forget.onclick = () => {
    key.forget();
    closed();
    field.hidden = connect.hidden = false;
    forget.hidden = true;
    notice("");
    state("", "No key yet");
    field.focus();
  };
  if (key.get()) open();
}

export function state(is, text) {
  byId("state").dataset.is = is;
  tell(byId("state"), text);
}

export function notice(text, is = "") {
  const place = byId("notice");
  place.hidden = !text;
  place.dataset.is = is;
  place.replaceChildren(...sentence(text));
}
