// Elements in few words. Text is always text: nothing that was sent to us becomes markup.

export const byId = (id) => document.getElementById(id);

/** `make("td", { class: "number" }, "7")`; `data` and `style` are objects. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute === "data") Object.assign(element.dataset, value);
    else if (attribute === "style") Object.assign(element.style, value);
    else if (attribute.startsWith("on")) element[attribute] = value;
    else if (value !== undefined) element.setAttribute(attribute, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** A sentence of ours, in which `names` stand between backticks. */
export const sentence = (text) => text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));

/** Writes only what is new: a selection stays, and screen readers are left in peace. */
export function tell(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows the newest at the top, and so many at most. */
export function prepend(list, element, most) {
  element.classList.add("fresh");
  list.prepend(element);
  while (list.children.length > most) list.lastElementChild.remove();
}
