// What is known about the model: the head of the page, and the part below.
import { server } from "./api.js";
import { count, node, part, percent, plural } from "./dom.js";

export function showModel() {
  const { evaluation, checks, card, explanations } = server.info;
  document.title = `${server.info.model} – Tenor`;
  part("model").textContent = server.info.model;
  part("digest").textContent = server.info.digest.slice(0, 12);
  part("version").textContent = ` ${server.info.version}`;
  part("badge").replaceChildren(node("span", { class: `badge ${verdict(checks)[0]}` }, verdict(checks)[1]));
  const tested = evaluation.test.missing ? null : `accuracy ${accuracyOf(evaluation.test)}`;
  const facts = [`classes: ${server.info.labels.slice(0, 8).join(", ")}${server.info.labels.length > 8 ? " …" : ""}`, tested];
  part("facts").replaceChildren(...facts.filter(Boolean).map((fact) => node("li", { dir: "auto" }, fact)));
  const explained = `Explanations ${explanations.shown ? "are tested" : "are not shown"}: ${explanations.why}`;
  const sentences = [card.trained_on, card.accuracy, checks.verdict, explained].map((words) => node("p", {}, words));
  const limits = node("ul", { class: "limits" }, ...card.limits.map((limit) => node("li", {}, limit)));
  part("about-content").replaceChildren(...sentences, node("h3", {}, "Limits"), limits, figures(), origin());
}

function verdict({ errors, warnings }) {
  if (errors.length) return ["error", plural(errors.length, "error")];
  return warnings.length ? ["warning", plural(warnings.length, "warning")] : ["good", "checks passed"];
}

const accuracyOf = (test) => `${percent(test.accuracy, 2)} on ${count(test.n)} test rows (${intervalOf(test)})`;

function intervalOf({ accuracy_interval: { low, high, confidence } }) {
  return `${percent(confidence, 0)} CI ${(100 * low).toFixed(2)}–${(100 * high).toFixed(2)}%`;
}


function figures() {
  const { test } = server.info.evaluation, { errors, warnings } = server.info.checks;
  const known = !test.missing;
  const rows = [
    ["accuracy", known ? percent(test.accuracy, 2) : "missing", known ? intervalOf(test) : test.missing],
    ["macro F1", known ? percent(test.macro_f1, 2) : "missing", known ? "mean of the classes’ F1" : test.missing],
    ["test rows", known ? count(test.n) : "missing", known ? "not used in training" : test.missing],
    ["checks", verdict(server.info.checks)[1], [...errors, ...warnings].join(", ") || "no open error or warning"],
  ];
  return node("dl", { class: "figures" }, ...rows.map(([name, value, under]) => {
    const about = node("div", { class: "under" }, under);
    return node("div", {}, node("dt", {}, name), node("dd", {}, node("div", { class: "value" }, value), about));
  }));
}

function origin() {
  const { threshold, limits } = server.info;
  const model = [
    ["weights, SHA-256", server.info.digest],
    ["classes", server.info.labels.join(", ")],
    ["kind", server.info.hybrid ? "hybrid: encoder and text baseline" : "encoder"],
    ["tokens of a text", `at most ${count(server.info.max_length)}; of a longer text: ${server.info.truncation.replace("_", " and ")}`],
    ["temperature", String(server.info.temperature)],
    ["threshold", threshold ? thresholdOf(threshold) : "none: the most probable class is the label"],
  ];
  const service = [
    ["engine", `${server.info.engine}: ${server.info.engine_why}`],
    ["per request", `at most ${plural(limits.max_texts, "text")}, ${count(limits.max_characters)} characters, ${count(limits.max_body_bytes)} bytes`],
    ["deadline", plural(limits.deadline_seconds, "second")],
    ["API", "POST /v1/predict, POST /v1/explain; the rest is in /openapi.json"],
  ];
  const group = ([name, rows]) => node("div", {}, node("h3", {}, name), node("dl", {}, ...rows.map(([fact, value]) =>
    node("div", {}, node("dt", {}, fact), node("dd", {}, value)))));
  return node("div", { class: "origin" }, ...[["Model", model], ["Server", service]].map(group));
}

export const thresholdOf = (threshold) => `${threshold.class} at a probability of ${percent(threshold.probability)} or more`;
