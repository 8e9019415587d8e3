// Elements, numbers as they are shown, and what is said to the user. Words are set as text, never as HTML.

export const part = (id) => document.getElementById(id);

/** An element; children that are strings become text. */
export function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function button(words, action, attributes = {}) {
  const made = node("button", { type: "button", ...attributes }, words);
  made.addEventListener("click", action);
  return made;
}

export const count = (n) => n.toLocaleString("en");
export const plural = (n, one) => `${count(n)} ${one}${n === 1 ? "" : "s"}`;
export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

/** A message as a sentence that others can follow. */
export const ended = (message) => message.replace(/[^.!?]$/, "$&.");

export function percent(share, digits = 1) {
  const least = 0.5 * 10 ** (-digits - 2);
  if (share < 1 && share > 1 - least) return `>${(100 - 10 ** -digits).toFixed(digits)}%`;
  if (share > 0 && share < least) return `<${(10 ** -digits).toFixed(digits)}%`;
  return `${(100 * share).toFixed(digits)}%`;
}

export function clipped(text, length) {
  const points = Array.from(text.slice(0, 2 * length + 2));
  return points.length > length ? `${points.slice(0, length).join("").trimEnd()} …` : text;
}

export function announce(words) {
  part("announced").textContent = words;
}

export function report(error, again = null) {
  const known = error instanceof Problem;
  const box = node("div", { class: "message" }, node("b", {}, known ? error.title : "This page failed"), error.message);
  if (again) box.append(node("div", { class: "row" }, button("Try again", again)));
  part("problem").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
}

/** Something that the user should know: what happened, and what can be done. */
export class Problem extends Error {
  constructor(title, message, status = 0) {
    super(message);
    this.title = title;
    this.status = status;
  }
}
