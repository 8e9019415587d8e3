// What is known about the model: the head of the page, and the part below.
import { server } from "./api.js";
import { count, ended, node, part, percent, plural, spoken } from "./dom.js";

const CLASSES_NAMED = 8;

export function showModel() {
  const { model, digest, version, checks } = server.info;
  document.title = `${model} – Tenor`;
  part("model").textContent = model;
  part("digest").textContent = digest.slice(0, 12);
  part("version").textContent = ` ${version}`;
  const [kind, words] = verdict(checks);
  part("badge").replaceChildren(node("span", `badge ${kind}`, words));
  part("facts").replaceChildren(...facts().map((fact) => spoken("li", fact)));
  part("about-content").replaceChildren(...statement(), figures(), origin());
}

/** A threshold in words. */
export const thresholdOf = (one) => `${one.class} at a probability of ${percent(one.probability)} or more`;

function verdict({ checked, errors, warnings }) {
  if (!checked) return ["warning", "not checked"];
  if (errors.length) return ["error", plural(errors.length, "error")];
  return warnings.length ? ["warning", plural(warnings.length, "warning")] : ["good", "checks passed"];
}

/** The evaluation that the page quotes: on the test rows, else on the validation rows; `split` is its name. */
function evaluated() {
  const { test, validation } = server.info.evaluation;
  return test.missing && !validation.missing ? { split: "validation", ...validation } : { split: "test", ...test };
}

function interval({ low, high, confidence }) {
  return `${percent(confidence, 0)} CI ${(100 * low).toFixed(2)}–${(100 * high).toFixed(2)}%`;
}

function facts() {
  const { labels } = server.info, { missing, split, n, accuracy, accuracy_interval: bounds } = evaluated();
  const classes = `classes: ${labels.slice(0, CLASSES_NAMED).join(", ")}${labels.length > CLASSES_NAMED ? " …" : ""}`;
  if (missing) return [classes, `accuracy missing: ${missing}`];
  return [classes, `accuracy ${percent(accuracy, 2)} on ${count(n)} ${split} rows (${interval(bounds)})`];
}

/** What the model was trained on, how accurate it is, what the checks say, and its limits. */
function statement() {
  const { card, checks, explanations } = server.info;
  const tested = `Explanations are ${explanations.shown ? "tested" : "not shown"}: ${explanations.why}`;
  const verdict = checks.checked ? `Checks: ${checks.verdict}` : checks.verdict;
  const sentences = [card.trained_on, card.accuracy, verdict, tested];
  const limits = node("ul", "limits", ...card.limits.map((limit) => node("li", "", ended(limit))));
  return [...sentences.map((words) => node("p", "", ended(words))), node("h3", "", "ServerLimits"), limits];
}

function figures() {
  const { errors, warnings } = server.info.checks, { split, missing, ...numbers } = evaluated();
  const shown = missing
    ? [["accuracy", "missing", missing]]
    : [
        ["accuracy", percent(numbers.accuracy, 2), interval(numbers.accuracy_interval)],
        ["macro F1", percent(numbers.macro_f1, 2), "mean of the classes’ F1"],
        [`${split} rows`, count(numbers.n), "not used in training"],
      ];
  const codes = [...errors, ...warnings].join(", ");
  shown.push(["checks", verdict(server.info.checks)[1], codes || ""]);
  return node("dl", "figures", ...shown.map(([name, value, under]) => {
    const number = node("dd", "", node("div", "value", value), node("div", "under", under));
    return node("div", "", node("dt", "", name), number);
  }));
}

function origin() {
  const { threshold, limits, ...info } = server.info;
  const most = [plural(limits.max_texts, "text"), `${count(limits.max_body_bytes)} bytes`];
  const model = [
    ["weights, SHA-256", info.digest],
    ["classes", info.labels.join(", ")],
    ["kind", info.hybrid ? "hybrid: encoder and text baseline" : "encoder"],
    ["maximum length", `${count(info.max_length)} tokens`],
    ["truncation", `of a longer text the ${info.truncation.replace("_", " and the ")} is kept`],
    ["temperature", String(Number(info.temperature.toFixed(4)))],
    ["threshold", threshold ? thresholdOf(threshold) : "none: the label is the most probable class"],
  ];
  const service = [
    ["engine", `${info.engine}: ${info.engine_why}`],
    ["of a request", `at most ${most.join(", ")}; ${count(limits.max_characters)} characters of a text`],
    ["deadline", plural(limits.deadline_seconds, "second")],
    ["API", "POST /v1/predict, POST /v1/explain; the rest is in /openapi.json"],
  ];
  return node("div", "origin", group("Model", model), group("Server", service));
}

function group(name, rows) {
  const items = rows.map(([fact, value]) => node("div", "", node("dt", "", fact), spoken("dd", value)));
  return node("div", "", node("h3", "", name), node("dl", "", ...items));
}
