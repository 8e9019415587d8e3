// One prediction: its label, its probabilities, and what the words of the text did.
import { ask, run, server } from "./api.js";
import { announce, button, clipped, count, ended, node, part, percent, Problem, signed, spoken } from "./dom.js";
import { thresholdOf } from "./model.js";

const CLASSES_SHOWN = 6;
const WORDS_LISTED = 5;
const FAINT = 0.08; // Words below this share of the strongest word are not marked.
const LONG_LABEL = 14; // Characters.

/**
 * Show a prediction, then ask for its explanation.
 *
 * `answer` is the whole answer of /v1/predict; `back` leads back to where the prediction was chosen.
 */
export function showOne(title, text, prediction, answer, back = null) {
  const place = part("one"), why = node("div", "why", node("p", "muted", "Explaining …"));
  const heading = node("h2", { id: "one-title", tabindex: "-1" }, title), top = headline(prediction);
  place.replaceChildren(heading, top, ...notes(prediction, answer), why);
  if (back) place.append(node("p", "after", button("Back to the table", back, { class: "plain" })));
  place.hidden = false;
  top.scrollIntoView({ block: "nearest" });
  announce(`${prediction.abstained ? "No label" : prediction.label}, probability ${percent(prediction.probability)}.`);
  run("explain", async (signal) => {
    try {
      showWhy(why, text, prediction, await ask("/v1/explain", { text }, signal));
    } catch (error) {
      why.replaceChildren(spoken("p", text, "text"), node("p", "muted", "No explanation."));
      throw error;
    }
  });
}

function headline(prediction) {
  const label = prediction.abstained ? "No label" : prediction.label;
  const words = [node("p", "what", "Label"), spoken("p", label, label.length > LONG_LABEL ? "big long" : "big")];
  const sure = node("p", "sure", "probability ", node("b", "", percent(prediction.probability)));
  if (prediction.abstained) sure.append(" of ", spoken("span", mostProbable(prediction)));
  return node("div", "headline", node("div", "", ...words, sure), bars(prediction));
}

const mostProbable = ({ probabilities }) => Object.entries(probabilities).sort((a, b) => b[1] - a[1])[0][0];

/** The probabilities of the classes, the highest first. */
function bars({ probabilities, label }) {
  const sorted = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  const rows = sorted.slice(0, CLASSES_SHOWN).map(([name, probability]) => {
    const filled = node("i");
    filled.style.width = `${100 * probability}%`;
    const track = node("dd", { class: "track", "aria-hidden": "true" }, filled);
    const row = [spoken("dt", name), track, node("dd", "number", percent(probability))];
    return node("div", name === label ? "first" : "", ...row);
  });
  const rest = sorted.length - rows.length;
  const more = rest ? [node("p", "small after", `and ${count(rest)} less probable`)] : [];
  return node("div", "", node("dl", "bars", ...rows), ...more);
}

/** What must be known about a prediction. */
function notes(prediction, { abstain_below: floor, threshold }) {
  const items = [], { caution } = prediction;
  if (caution) items.push(node("li", "warning", `Do not trust this prediction: ${ended(caution)}`));
  if (prediction.abstained) {
    const words = `The model abstains: no class has a probability of ${percent(floor)} or more, as required here.`;
    items.push(node("li", "warning", words));
  }
  if (threshold) items.push(node("li", "", `A threshold decides the label: ${thresholdOf(threshold)}.`));
  if (prediction.windows > 1) {
    const words = `The text was read in ${prediction.windows} windows, whose probabilities were averaged.`;
    items.push(node("li", "", words));
  }
  return items.length ? [node("ul", "notes", ...items)] : [];
}

function showWhy(place, text, prediction, answer) {
  const { explains, words, sentence, read, shown } = answer, length = Array.from(text).length;
  const unread = prediction.truncated && read ? gaps(read, length) : [];
  const marked = node("p", { class: "text", dir: "auto" }, ...markedText(text, words, sentence, unread));
  const content = shown ? [node("h3", "", "What the words did"), legend(explains), marked] : [marked];
  if (prediction.truncated) content.push(node("p", "truncated", readInWords(read, length, unread.length > 0)));
  if (shown) {
    if (sentence) content.push(sentenceInWords(text, sentence, explains));
    content.push(wordLists(words, explains), node("p", "small after", measured(answer)));
  } else content.push(node("p", "muted", `Explanations of this model are not shown: ${ended(answer.why)}`));
  place.replaceChildren(...content);
}

function measured({ explains, completeness_gap: gap, why }) {
  const numbers = `The numbers are contributions to the score of ${explains}, in logits.`;
  const sum = `They add up to its difference from the score of an empty text (completeness gap ${percent(gap)}).`;
  return `${numbers} ${sum} Test of this model’s explanations: ${ended(why)}`;
}

/** What of a text the model read, in words; positions are code points. */
function readInWords(ranges, length, placed) {
  const parts = ranges.map(([start, end]) => {
    if (start === 0) return `the first ${count(end)}`;
    return end === length ? `the last ${count(length - start)}` : `characters ${count(start + 1)} to ${count(end)}`;
  });
  const { hybrid, max_length: most } = server.info;
  const tokens = `at most ${count(most)} tokens`, reader = `The ${hybrid ? "encoder" : "model"} read`;
  const whole = hybrid ? " The text baseline of this hybrid read the whole text." : "";
  if (!placed) return `${reader} ${tokens} of this text; the rest was truncated.${whole}`;
  const read = `${parts.join(" and ")} of ${count(length)} characters (${tokens})`;
  return `${reader} ${read}; the grey, struck-out rest was truncated.${whole}`;
}

function legend(explains) {
  const item = (tag, kind, sample, words) => node("li", "", node(tag, kind, sample), ` ${words}`);
  const items = [
    item("mark", "for of3", "straight line", `for ${explains}`),
    item("mark", "against of3", "wavy line", `against ${explains}`),
    item("span", "sentence", "between bars", "the sentence that weighed most"),
    node("li", "", "stronger colour: larger contribution"),
  ];
  return node("ul", { class: "legend", "aria-label": "Legend" }, ...items);
}

function sentenceInWords(text, { start, end, value }, explains) {
  const quoted = clipped(Array.from(text).slice(start, end).join("").trim(), 220);
  const words = `The sentence that weighed most for ${explains} (${signed(value)}): `;
  return node("p", "most", words, spoken("q", quoted));
}

/** The words with the largest contributions, without punctuation; those of several occurrences are added. */
function wordLists(words, explains) {
  const sums = new Map();
  for (const { word, value } of words.filter((one) => !/^\p{P}+$/u.test(one.word))) {
    const same = sums.get(word.toLowerCase()) ?? { word, value: 0, times: 0 };
    sums.set(word.toLowerCase(), { word: same.word, value: same.value + value, times: same.times + 1 });
  }
  const sorted = [...sums.values()].sort((a, b) => b.value - a.value);
  const most = sorted.filter((one) => one.value > 0).slice(0, WORDS_LISTED);
  const least = sorted.filter((one) => one.value < 0).reverse().slice(0, WORDS_LISTED);
  return node("div", "weights", wordList(`Most for ${explains}`, most), wordList(`Most against ${explains}`, least));
}

function wordList(title, chosen) {
  const items = chosen.map(({ word, value, times }) => {
    const name = node("span", "", spoken("span", word), node("span", "muted", times > 1 ? ` ${times} times` : ""));
    return node("li", "", name, node("b", "", signed(value)));
  });
  const list = items.length ? node("ol", "", ...items) : node("p", "muted", "No word.");
  return node("div", "", node("h3", "", title), list);
}

/** The stretches between `ranges` in 0 … length. */
function gaps(ranges, length) {
  const ends = [0, ...ranges.flat(), length];
  const found = [];
  for (let k = 0; k < ends.length; k += 2) if (ends[k + 1] > ends[k]) found.push({ start: ends[k], end: ends[k + 1] });
  return found;
}

/**
 * The nodes of a text, with its words, its sentence and what was not read marked.
 *
 * Positions are code points, as Python counts; JavaScript's strings are UTF-16, in which 😀 has length 2.
 */
function markedText(text, words, sentence, unread) {
  const at = [0];
  for (const point of text) at.push(at[at.length - 1] + point.length);
  const strongest = Math.max(...words.map((word) => Math.abs(word.value)), 0);
  const marked = words.filter((word) => Math.abs(word.value) > FAINT * strongest).sort((a, b) => a.start - b.start);

  const plain = (from, to) => (to > from ? [text.slice(at[from], at[to])] : []);
  const inWord = (from, to, { value }) => {
    const step = Math.min(4, 1 + Math.floor((4 * Math.abs(value)) / strongest));
    return [node("mark", `${value > 0 ? "for" : "against"} of${step}`, ...plain(from, to))];
  };
  const inWords = (from, to) => split(from, to, marked, inWord, plain);
  const struck = (from, to) => [node("s", "", ...inWords(from, to))];
  const inReading = (from, to) => split(from, to, unread, struck, inWords);
  const inSentence = (from, to) => [node("span", "sentence", ...inReading(from, to))];
  return split(0, at.length - 1, sentence ? [sentence] : [], inSentence, inReading);
}

/** The nodes from `from` to `to`: `inside(from, to, span)` of each of the spans, `outside(from, to)` between them. */
function split(from, to, spans, inside, outside) {
  const nodes = [];
  for (const span of spans) {
    const start = Math.max(span.start, from), end = Math.min(span.end, to);
    if (end <= start) continue;
    nodes.push(...outside(from, start), ...inside(start, end, span));
    from = end;
  }
  return [...nodes, ...outside(from, to)];
}
