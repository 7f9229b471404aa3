// Asks the gateway with the key that was typed in; the key lives in this tab alone, and in no address.

const STORED = "tallyman-key";

/** A refusal as the gateway words it (RFC 9457). */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? `The gateway answered with ${status}.`);
    this.status = status;
    this.code = document.code ?? "";
    this.results = document.results ?? [];
  }
}

export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (secret) => sessionStorage.setItem(STORED, secret),
  forget: () => sessionStorage.removeItem(STORED),
};

export const get = (path, parameters = {}) => {
  const query = new URLSearchParams(parameters).toString();
  return ask(query ? `${path}?${query}` : path);
};

export const post = (path, body) => ask(path, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

async function ask(path, options = {}) {
  const headers = { ...options.headers, "X-API-Key": key.get() };
  const response = await fetch(path, { ...options, headers });
  const text = await response.text();
  let document = {};
  try {
    document = JSON.parse(text);
  } catch {
    // Somebody between here and the gateway answered in words of his own.
  }
  if (!response.ok) throw new Problem(response.status, document);
  return document;
}

/** A socket; browsers can set no header on it, so the key travels as a subprotocol. */
export function socket(path, parameters) {
  const address = new URL(path, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.search = new URLSearchParams(parameters).toString();
  return new WebSocket(address, ["bearer", key.get()]);
}
