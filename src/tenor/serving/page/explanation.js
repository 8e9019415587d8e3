// One prediction: its label, its probabilities, and what the words of the text did.
import { ask, run, server } from "./api.js";
import { announce, button, clipped, count, node, part, percent, Problem, signed } from "./dom.js";
import { thresholdOf } from "./model.js";

const WORDS_LISTED = 5;
const FAINT = 0.08; // Words below this share of the strongest word are not marked.

export function showOne(title, text, prediction, answer, back = null) {
  const why = node("div", { class: "why" }, node("p", { class: "muted" }, "Explaining …"));
  const heading = node("h2", { id: "one-title", tabindex: "-1" }, title);
  part("one").replaceChildren(heading, headline(prediction), ...notes(prediction, answer), why);
  if (back) part("one").append(node("p", { class: "after" }, button("Back to the table", back, { class: "plain" })));
  part("one").hidden = false;
  part("one").querySelector(".headline").scrollIntoView({ block: "nearest" });
  announce(`${prediction.abstained ? "No label" : prediction.label}, probability ${percent(prediction.probability)}.`);
  run("explain", async (signal) => {
    try {
      showWhy(why, text, prediction, await ask("/v1/explain", { text }, signal));
    } catch (error) {
      const reason = error instanceof Problem ? `${error.title}: ${error.message}` : "The request was ended.";
      const shown = node("p", { class: "text", dir: "auto" }, text);
      why.replaceChildren(shown, node("p", { class: "muted" }, `No explanation. ${reason}`));
      throw error;
    }
  });
}

function headline(prediction) {
  const label = prediction.abstained ? "No label" : prediction.label;
  const size = label.length > 14 ? "big long" : "big";
  const words = node("div", {}, node("p", { class: "what" }, "Label"), node("p", { class: size, dir: "auto" }, label));
  words.append(node("p", { class: "sure" }, "probability ", node("b", {}, percent(prediction.probability))));
  return node("div", { class: "headline" }, words, bars(prediction.probabilities, prediction.label));
}

/** The probabilities of the classes, the highest first. */
function bars(probabilities, label) {
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const rows = sorted.slice(0, 6).map(([name, probability]) => {
    const filled = node("i");
    filled.style.width = `${100 * probability}%`;
    const track = node("dd", { class: "track", "aria-hidden": "true" }, filled);
    const number = node("dd", { class: "number" }, percent(probability));
    return node("div", { class: name === label ? "first" : "" }, node("dt", { dir: "auto" }, name), track, number);
  });
  const list = node("dl", { class: "bars" }, ...rows);
  const rest = sorted.length - rows.length;
  if (!rest) return list;
  return node("div", {}, list, node("p", { class: "small after" }, `and ${count(rest)} less probable`));
}

/** What must be known about a prediction. */
function notes(prediction, { abstain_below: floor, threshold }) {
  const warnings = [], plain = [];
  if (prediction.caution) warnings.push(`Do not trust this prediction: ${prediction.caution}.`);
  if (prediction.abstained) {
    warnings.push(`The model abstains: no class has a probability of ${percent(floor)} or more, which this server requires.`);
  }
  if (threshold) plain.push(`A threshold decides the label: ${thresholdOf(threshold)}.`);
  if (prediction.windows > 1) {
    plain.push(`The text was read in ${prediction.windows} windows, whose probabilities were averaged.`);
  }
  const items = [...warnings.map((words) => node("li", { class: "warning" }, words)), ...plain.map((words) => node("li", {}, words))];
  return items.length ? [node("ul", { class: "notes" }, ...items)] : [];
}

/** What of a text the model read, in words; positions are code points. */
function readInWords(ranges, length) {
  const said = ranges.map(([start, end]) => {
    if (start === 0) return `the first ${count(end)}`;
    return end === length ? `the last ${count(length - start)}` : `characters ${count(start + 1)} to ${count(end)}`;
  });
  const tokens = `(at most ${count(server.info.max_length)} tokens)`;
  const reader = server.info.hybrid ? "The encoder" : "The model";
  const rest = server.info.hybrid ? " The text baseline of this hybrid read the whole text." : "";
  return `${reader} read ${said.join(" and ")} of ${count(length)} characters ${tokens}; the grey, struck-out rest was truncated.${rest}`;
}

function showWhy(place, text, prediction, answer) {
  const { explains, words, sentence, read } = answer;
  const unread = prediction.truncated ? gaps(read, Array.from(text).length) : [];
  const content = [node("h3", {}, answer.shown ? "What the words did" : "Text")];
  if (answer.shown) content.push(legend(explains));
  content.push(node("p", { class: "text", dir: "auto" }, ...markedText(text, words, sentence, unread)));
  if (unread.length) content.push(node("p", { class: "truncated" }, readInWords(read, Array.from(text).length)));
  if (answer.shown) {
    if (sentence) content.push(sentenceInWords(text, sentence, explains));
    content.push(wordLists(words, explains));
    const gap = `The numbers are contributions to the model’s score for ${explains}, in logits; they add up to it within ${percent(answer.completeness_gap)}.`;
    content.push(node("p", { class: "small after" }, `${gap} Test of this model’s explanations: ${answer.why}`));
  } else content.push(node("p", { class: "muted" }, `Explanations of this model are not shown: ${answer.why}`));
  place.replaceChildren(...content);
}

function legend(explains) {
  const item = (kind, word, words) => node("li", {}, node(kind === "sentence" ? "span" : "mark", { class: kind }, word), ` ${words}`);
  return node("ul", { class: "legend", "aria-label": "Legend" },
    item("for of3", "straight line", `for ${explains}`),
    item("against of3", "wavy line", `against ${explains}`),
    item("sentence", "between bars", "the sentence that weighed most"),
    node("li", {}, "stronger colour: larger effect"));
}

function sentenceInWords(text, { start, end, value }, explains) {
  const quoted = clipped(Array.from(text).slice(start, end).join("").trim(), 220);
  return node("p", { class: "most" }, `The sentence that weighed most for ${explains} (${signed(value)}): `, node("q", { dir: "auto" }, quoted));
}

/** The words with the largest contributions; those of a word that occurs several times are added. */
function wordLists(words, explains) {
  const sums = new Map();
  for (const { word, value } of words) {
    const same = sums.get(word.toLowerCase()) ?? { word, value: 0, times: 0 };
    sums.set(word.toLowerCase(), { word: same.word, value: same.value + value, times: same.times + 1 });
  }
  const sorted = [...sums.values()].sort((a, b) => b.value - a.value);
  const most = sorted.filter((one) => one.value > 0).slice(0, WORDS_LISTED);
  const least = sorted.filter((one) => one.value < 0).reverse().slice(0, WORDS_LISTED);
  return node("div", { class: "weights" }, wordList(`Most for ${explains}`, most), wordList(`Most against ${explains}`, least));
}

function wordList(title, chosen) {
  const items = chosen.map(({ word, value, times }) => {
    const name = node("span", {}, node("span", { dir: "auto" }, word), times > 1 ? node("span", { class: "muted" }, ` ${times} times`) : null);
    return node("li", {}, name, node("b", {}, signed(value)));
  });
  const body = items.length ? node("ol", {}, ...items) : node("p", { class: "muted" }, "No word.");
  return node("div", {}, node("h3", {}, title), body);
}

/** The stretches between `ranges` in 0 … length. */
function gaps(ranges, length) {
  const ends = [0, ...ranges.flat(), length];
  const found = [];
  for (let k = 0; k < ends.length; k += 2) if (ends[k + 1] > ends[k]) found.push([ends[k], ends[k + 1]]);
  return found;
}

/**
 * A text's nodes with its words, its sentence and what was not read marked.
 *
 * Positions are code points, as Python counts; JavaScript's strings are UTF-16, in which 😀 has length 2.
 */
function markedText(text, words, sentence, unread) {
  const at = [0];
  for (const point of text) at.push(at[at.length - 1] + point.length);
  const strongest = Math.max(...words.map((word) => Math.abs(word.value)), 0);
  const marked = words.filter((word) => Math.abs(word.value) > FAINT * strongest).sort((a, b) => a.start - b.start);

  /** The nodes from `from` to `to`; `parts` within are made by `inside(part, from, to)`, the rest by `outside(from, to)`. */
  const split = (from, to, parts, inside, outside) => {
    const nodes = [];
    for (const one of parts) {
      const start = Math.max(one.start, from), end = Math.min(one.end, to);
      if (end <= start) continue;
      nodes.push(...outside(from, start), inside(one, start, end));
      from = end;
    }
    return [...nodes, ...outside(from, to)];
  };
  const plain = (from, to) => (to > from ? [text.slice(at[from], at[to])] : []);
  const word = ({ value }, from, to) => {
    const step = Math.min(4, 1 + Math.floor((4 * Math.abs(value)) / strongest));
    return node("mark", { class: `${value > 0 ? "for" : "against"} of${step}` }, ...plain(from, to));
  };
  const inWords = (from, to) => split(from, to, marked, word, plain);
  const struck = unread.map(([start, end]) => ({ start, end }));
  const inReading = (from, to) => split(from, to, struck, (_, start, end) => node("s", {}, ...inWords(start, end)), inWords);
  const whole = (_, from, to) => node("span", { class: "sentence" }, ...inReading(from, to));
  return split(0, at.length - 1, sentence ? [sentence] : [], whole, inReading);
}
