// Many reviews: predicted in portions, shown in a table, downloaded as CSV.
import { ask, run, server, stop } from "./api.js";
import { csvLine } from "./csv.js";
import { announce, button, clipped, count, ended, node, part, percent, plural, spoken } from "./dom.js";
import { showOne } from "./explanation.js";
import { thresholdOf } from "./model.js";

const PORTION_SECONDS = 1.5; // How long a request should take, so that progress is seen.
const FIRST_PORTION = 8;
const ROWS_SHOWN = 100;
const CLASSES_NAMED = 12;
const REFUSED_TEXT = [413, 422, 504]; // A text may be at fault, and the others of its request are not.

let job = null;

/** Predict all `texts`; `source` is the CSV file that they are from, or null. */
export function startJob({ title, texts, source }) {
  stop("explain");
  const tally = { labels: new Map(), abstained: 0, failed: 0, truncated: 0, unlike: 0 };
  job = { title, texts, source, results: [], tally, answer: null, portion: FIRST_PORTION, rows: ROWS_SHOWN };
  part("one").hidden = true;
  showTable();
  part("many").scrollIntoView({ block: "nearest" });
  continueJob();
}

/** Leave the table. */
export function closeTable() {
  job = null;
  part("many").hidden = true;
}

function continueJob() {
  const mine = job, begun = performance.now(), from = mine.results.length, all = mine.texts.length;
  run("predict", async (signal) => {
    part("progress").hidden = false;
    try {
      while (mine.results.length < all) {
        showProgress(soFar(mine, from, begun), mine.results.length, all);
        await predictPortion(mine, signal);
        if (mine === job) showResults();
      }
      announce(`${plural(all, "review")} predicted. The table has the predictions.`);
    } catch (error) {
      if (mine === job) announce(`Stopped after ${count(mine.results.length)} of ${plural(all, "review")}.`);
      throw error;
    } finally {
      if (mine === job) showResults(true);
    }
  });
}

/** Show how far a prediction is; `done` is null if that is not known. */
export function showProgress(words, done, all) {
  part("so-far").textContent = words;
  part("bar").hidden = done === null;
  part("bar").max = all;
  part("bar").value = done ?? 0;
}

function soFar({ results, texts }, from, begun) {
  const words = `${count(results.length)} of ${plural(texts.length, "review")}`;
  const rate = (results.length - from) / ((performance.now() - begun) / 1000);
  if (!(rate > 0)) return words;
  const seconds = Math.ceil((texts.length - results.length) / rate);
  const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
  return `${words}, ${rate.toFixed(1)} per second, ${left}`;
}

/** Predict the next texts of a job: as many as the server takes, in a request of about PORTION_SECONDS. */
async function predictPortion(mine, signal) {
  const { max_texts: most, max_body_bytes: room } = server.info.limits;
  const first = mine.results.length, end = Math.min(first + mine.portion, first + most, mine.texts.length);
  const encoder = new TextEncoder(), texts = [];
  for (let bytes = 1000; first + texts.length < end; ) {
    const text = mine.texts[first + texts.length];
    bytes += encoder.encode(JSON.stringify(text)).length + 1;
    if (texts.length && bytes > room) break;
    texts.push(text);
  }
  const begun = performance.now();
  const results = await predictTexts(mine, texts, signal);
  const rate = texts.length / ((performance.now() - begun) / 1000);
  mine.portion = Math.max(1, Math.min(most, 2 * texts.length, Math.round(rate * PORTION_SECONDS)));
  for (const result of results) add(mine, result);
}

/** One result per text. A request that the server refuses is halved, so that one text fails alone. */
async function predictTexts(mine, texts, signal) {
  const filled = texts.filter((text) => text.trim());
  let predicted = [];
  if (filled.length) {
    try {
      mine.answer = await ask("/v1/predict", { texts: filled }, signal);
      predicted = mine.answer.predictions;
    } catch (error) {
      if (!REFUSED_TEXT.includes(error.status)) throw error;
      if (texts.length > 1) {
        const half = Math.ceil(texts.length / 2);
        const results = await predictTexts(mine, texts.slice(0, half), signal);
        return [...results, ...(await predictTexts(mine, texts.slice(half), signal))];
      }
      predicted = [{ error: `${error.title}: ${error.message}` }];
    }
  }
  const next = predicted.values();
  return texts.map((text) => (text.trim() ? next.next().value : { error: "the text is empty" }));
}

function add({ results, tally }, result) {
  results.push(result);
  if (result.error) tally.failed++;
  else if (result.abstained) tally.abstained++;
  else tally.labels.set(result.label, (tally.labels.get(result.label) ?? 0) + 1);
  if (result.truncated) tally.truncated++;
  if (result.caution) tally.unlike++;
}

function showTable() {
  const heading = node("h2", { id: "many-title", tabindex: "-1" });
  heading.textContent = job.title;
  const column = (name, kind = "") => node("th", { scope: "col", class: kind }, name);
  const columns = [column(job.source ? "row" : "no.", "number"), column("review"), column("label")];
  const head = node("thead", "", node("tr", "", ...columns, column("probability", "number")));
  const body = node("tbody", { id: "rows" });
  const place = node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of predictions" });
  place.append(node("table", "", node("caption", "unseen", "Predictions"), head, body));
  const resume = button("Continue", () => (continueJob(), part("stop").focus()), { id: "continue" });
  const actions = node("div", "row", button("Download as CSV", download, { id: "download" }), resume);
  const more = node("p", "after", button("", showMore, { id: "more", class: "plain" }));
  part("many").replaceChildren(heading, node("p", { id: "summary" }), actions, place, more);
  part("many").hidden = false;
  showResults();
}

/** Bring the summary and the table up to date. */
function showResults(finished = false) {
  const { results, texts } = job, body = part("rows"), shown = Math.min(results.length, job.rows);
  part("summary").textContent = summary();
  part("download").hidden = !results.length;
  part("continue").hidden = !finished || results.length === texts.length;
  for (let k = body.rows.length; k < shown; k++) body.append(resultRow(k));
  const hidden = results.length - shown;
  part("more").hidden = !hidden;
  part("more").textContent = `Show ${count(Math.min(ROWS_SHOWN, hidden))} more of ${count(hidden)}`;
}

function showMore() {
  const shown = part("rows").rows.length;
  job.rows += ROWS_SHOWN;
  showResults(part("progress").hidden);
  part("rows").rows[shown].querySelector("button")?.focus();
}

function summary() {
  const { results, texts, tally, answer } = job;
  const known = server.info.labels.filter((label) => server.info.labels.length < 4 || tally.labels.get(label));
  const labels = known.map((label) => `${label} ${count(tally.labels.get(label) ?? 0)}`);
  const others = [
    [tally.abstained, `without a label (probability below ${percent(answer?.abstain_below ?? 0)})`],
    [tally.failed, "not predicted"],
    [tally.truncated, "truncated"],
    [tally.unlike, "unlike the training texts"],
  ];
  const named = labels.slice(0, CLASSES_NAMED).join(", ") + (labels.length > CLASSES_NAMED ? " …" : "");
  const words = [named, ...others.filter(([n]) => n).map(([n, words]) => `${count(n)} ${words}`)].filter(Boolean);
  const done = results.length < texts.length ? `${count(results.length)} of ${count(texts.length)} predicted: ` : "";
  const threshold = answer?.threshold ? ` A threshold decides the labels: ${thresholdOf(answer.threshold)}.` : "";
  return `${done}${words.join("; ")}.${threshold}`;
}

function resultRow(k) {
  const { texts, results, answer } = job, text = texts[k], result = results[k];
  const review = node("td", "review", spoken("span", clipped(text, 240), "brief"));
  const row = node("tr", "", node("th", { scope: "row", class: "number" }, count(k + 1)), review);
  if (result.error) {
    review.append(node("span", "under error", ended(result.error)));
    row.append(node("td", "label", "–"), node("td", "number", "–"));
    return row;
  }
  if (result.truncated) review.append(node("span", "under", "truncated"));
  if (result.caution) review.append(node("span", "under warning", `Do not trust this: ${ended(result.caution)}`));
  const name = `Review ${count(k + 1)}`;
  const explain = button("Explain", () => {
    showOne(name, text, result, answer, () => explain.focus());
    part("one-title").focus();
  }, { class: "plain", "aria-label": `Explain review ${count(k + 1)}` });
  review.append(explain);
  const label = spoken("td", result.abstained ? "(no label)" : result.label, "label");
  row.append(label, node("td", "number", percent(result.probability)));
  return row;
}

/** The columns that a result adds, named as by `tenor predict`. */
export function addedColumns() {
  const classes = server.info.labels.map((label) => `probability_${label}`);
  return ["prediction", "probability", ...classes, "truncated", "windows", "error"];
}

function addedValues({ error, label, probability, probabilities, truncated, windows }) {
  const { labels } = server.info;
  if (error) return ["", "", ...labels.map(() => ""), "", "", error];
  return [label, probability, ...labels.map((name) => probabilities[name]), truncated, windows, ""];
}

function download() {
  const { source, results, texts } = job, stopped = { error: "stopped before this row" };
  const line = (values) => csvLine(values, source?.delimiter ?? ",");
  const head = line([...(source?.header ?? ["text"]), ...addedColumns()]);
  const rows = texts.map((text, k) => line([...(source?.rows[k] ?? [text]), ...addedValues(results[k] ?? stopped)]));
  const file = new Blob([source?.marked ? "\ufeff" : "", head, ...rows], { type: "text/csv" });
  const name = source ? source.name.replace(/\.[^.]*$/, "") : "reviews";
  const link = node("a", { download: `${name}_predicted.csv`, href: URL.createObjectURL(file) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
