// Elements, numbers as they are shown, and what is said to the user. Words are set as text, never as HTML.

export const part = (id) => document.getElementById(id);

/** An element with attributes, or with a class if `attributes` is a string; children that are strings become text. */
export function node(tag, attributes, ...children) {
  const made = document.createElement(tag);
  const named = typeof attributes === "string" ? { class: attributes } : (attributes ?? {});
  for (const [name, value] of Object.entries(named)) if (name !== "class" || value) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** An element with words of a user or of the model, which may be written from right to left. */
export const spoken = (tag, words, kind = "") => node(tag, { dir: "auto", class: kind }, words);

export function button(words, action, attributes) {
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

/** The beginning of a text, at most `length` code points. */
export function clipped(text, length) {
  const points = Array.from(text.slice(0, 2 * length + 2));
  return points.length > length ? `${points.slice(0, length).join("").trimEnd()} …` : text;
}

/** Something that the user should know: what happened, and what can be done. */
export class Problem extends Error {
  constructor(title, message, status = 0) {
    super(message);
    this.title = title;
    this.status = status;
  }
}

/** Show a problem; with `again` there is a button to repeat what failed. */
export function report(error, again = null) {
  const title = error instanceof Problem ? error.title : "This page failed";
  const box = node("div", "message", node("b", "", title), ended(error.message));
  if (again) box.append(node("div", "row", button("Try again", again)));
  part("problem").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
}

/** Words for screen readers: what changed elsewhere on the page. */
export function announce(words) {
  part("announced").textContent = words;
}
