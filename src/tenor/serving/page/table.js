// Many reviews: predicted in portions, shown in a table, downloaded as CSV.
import { ask, run, server, stop } from "./api.js";
import { csvLine } from "./csv.js";
import { announce, button, clipped, count, node, part, percent, plural } from "./dom.js";
import { showOne } from "./explanation.js";
import { thresholdOf } from "./model.js";

const PORTION_SECONDS = 1.5; // How long a request should take, so that progress is seen.
const FIRST_PORTION = 8;
const ROWS_SHOWN = 100;

let job = null;

export function startJob({ title, texts, source }) {
  stop("explain");
  job = { title, texts, source, results: [], answer: null, portion: FIRST_PORTION, rows: ROWS_SHOWN };
  part("one").hidden = true;
  showTable();
  continueJob();
}

/** Leave the table. */
export function closeTable() {
  job = null;
  part("many").hidden = true;
}

function continueJob() {
  const mine = job, begun = performance.now(), from = mine.results.length;
  run("predict", async (signal) => {
    part("progress").hidden = false;
    try {
      while (mine.results.length < mine.texts.length) {
        showProgress(soFar(mine, from, begun), mine.results.length, mine.texts.length);
        await predictPortion(mine, signal);
        if (mine === job) showResults();
      }
      announce(`${plural(mine.texts.length, "review")} predicted. The table follows.`);
    } catch (error) {
      if (mine === job) announce(`Stopped after ${count(mine.results.length)} of ${plural(mine.texts.length, "review")}.`);
      throw error;
    } finally {
      if (mine === job) showResults(true);
    }
  });
}

export function showProgress(words, done, all) {
  part("so-far").textContent = words;
  part("bar").hidden = done === null;
  part("bar").max = all || 1;
  part("bar").value = done ?? 0;
}

function soFar({ results, texts }, from, begun) {
  const words = `${count(results.length)} of ${plural(texts.length, "review")}`;
  const rate = (results.length - from) / ((performance.now() - begun) / 1000);
  if (!(rate > 0)) return words;
  const seconds = Math.ceil((texts.length - results.length) / rate);
  return `${words}, ${rate.toFixed(1)} per second, ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
}

/** Predict the next texts of a job: as many as the server takes, in a request of about PORTION_SECONDS. */
async function predictPortion(mine, signal) {
  const { max_texts: most, max_body_bytes: room } = server.info.limits;
  const first = mine.results.length, encoder = new TextEncoder(), texts = [];
  for (let bytes = 1000; texts.length < Math.min(mine.portion, most) && first + texts.length < mine.texts.length; ) {
    const text = mine.texts[first + texts.length];
    bytes += encoder.encode(JSON.stringify(text)).length + 1;
    if (texts.length && bytes > room) break;
    texts.push(text);
  }
  const begun = performance.now();
  const results = await predictTexts(mine, texts, signal);
  const seconds = (performance.now() - begun) / 1000;
  mine.portion = Math.max(1, Math.min(most, 2 * texts.length, Math.round((texts.length * PORTION_SECONDS) / seconds)));
  mine.results.push(...results);
}

/** One result per text. A request that the server refuses is halved, so that one text fails alone. */
async function predictTexts(mine, texts, signal) {
  const filled = texts.filter((text) => text.trim());
  let predicted = [];
  if (filled.length) {
    try {
      const answer = await ask("/v1/predict", { texts: filled }, signal);
      mine.answer = answer;
      predicted = answer.predictions;
    } catch (error) {
      if (![413, 422, 504].includes(error.status)) throw error;
      if (texts.length > 1) {
        const half = Math.ceil(texts.length / 2);
        const results = await predictTexts(mine, texts.slice(0, half), signal);
        return [...results, ...(await predictTexts(mine, texts.slice(half), signal))];
      }
      predicted = [{ error: `${error.title}: ${error.message}` }];
    }
  }
  const next = predicted.values();
  return texts.map((text) => (text.trim() ? next.next().value : { error: "The text is empty." }));
}

function showTable() {
  const heading = node("h2", { id: "many-title", tabindex: "-1" }, job.title);
  const actions = node("div", { class: "row" }, button("Download as CSV", download, { id: "download" }), button("Continue", () => (continueJob(), part("stop").focus()), { id: "continue" }));
  const column = (name, kind) => node("th", { scope: "col", class: kind }, name);
  const head = node("tr", {}, column(job.source ? "row" : "no.", "number"), column("review", ""), column("label", ""), column("probability", "number"));
  const caption = node("caption", { class: "unseen" }, "Predictions");
  const place = node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of predictions" });
  place.append(node("table", {}, caption, node("thead", {}, head), node("tbody", { id: "rows" })));
  const more = button("", showMore, { id: "more", class: "plain" });
  part("many").replaceChildren(heading, node("p", { id: "summary" }), actions, place, node("p", { class: "after" }, more));
  part("many").hidden = false;
  showResults();
}

/** Bring the summary and the table up to date. */
function showResults(ended = false) {
  const { results, texts } = job;
  part("summary").textContent = summary();
  part("download").hidden = !results.length;
  part("continue").hidden = !ended || results.length === texts.length;
  const body = part("rows"), shown = Math.min(results.length, job.rows);
  for (let k = body.rows.length; k < shown; k++) body.append(resultRow(k));
  part("more").hidden = results.length <= shown;
  part("more").textContent = `Show ${count(Math.min(ROWS_SHOWN, results.length - shown))} more of ${count(results.length - shown)}`;
}

function showMore() {
  const shown = part("rows").rows.length;
  job.rows += ROWS_SHOWN;
  showResults(part("progress").hidden);
  part("rows").rows[shown].querySelector("button")?.focus();
}

function summary() {
  const { results, texts, answer } = job;
  const n = (has) => results.filter(has).length;
  const labels = server.info.labels.map((label) => `${label} ${count(n((one) => !one.error && one.label === label))}`);
  const others = [
    [n((one) => one.abstained), `without a label (probability below ${percent(answer?.abstain_below ?? 0)})`],
    [n((one) => one.error), "not predicted"],
    [n((one) => one.truncated), "truncated"],
    [n((one) => one.caution), "unlike the training texts"],
  ].filter(([many]) => many).map(([many, words]) => `${count(many)} ${words}`);
  const part = results.length < texts.length ? `${count(results.length)} of ${count(texts.length)} predicted: ` : "";
  const threshold = answer?.threshold ? ` A threshold decides the labels: ${thresholdOf(answer.threshold)}.` : "";
  return `${part}${[labels.join(", "), ...others].join("; ")}.${threshold}`;
}

function resultRow(k) {
  const text = job.texts[k], result = job.results[k], mine = job;
  const review = node("td", { class: "review" }, node("span", { class: "brief", dir: "auto" }, clipped(text, 240)));
  const row = node("tr", {}, node("th", { scope: "row", class: "number" }, count(k + 1)), review);
  if (result.error) {
    review.append(node("span", { class: "under error" }, result.error));
    row.append(node("td", { class: "label" }, "–"), node("td", { class: "number" }, "–"));
    return row;
  }
  if (result.truncated) review.append(node("span", { class: "under" }, "truncated"));
  if (result.caution) review.append(node("span", { class: "under warning" }, `Do not trust this: ${result.caution}`));
  const open = button("Explain", () => {
    showOne(`Review ${count(k + 1)}`, text, result, mine.answer, () => open.focus());
    part("one-title").focus();
  }, { class: "plain", "aria-label": `Explain review ${count(k + 1)}` });
  review.append(open);
  const label = result.abstained ? "(no label)" : result.label;
  row.append(node("td", { class: "label", dir: "auto" }, label), node("td", { class: "number" }, percent(result.probability)));
  return row;
}

/** The columns that a result adds, named as by `tenor predict`. */
export function addedColumns() {
  return ["prediction", "probability", ...server.info.labels.map((label) => `probability_${label}`), "truncated", "windows", "error"];
}

function download() {
  const { source, results, texts } = job;
  const delimiter = source?.delimiter ?? ",", nothing = addedColumns().map(() => "");
  const added = ({ label, probability, probabilities, truncated, windows }) =>
    [label, probability, ...server.info.labels.map((name) => probabilities[name]), truncated, windows, ""];
  const line = (values) => csvLine(values, delimiter);
  const lines = texts.map((text, k) => {
    const result = results[k] ?? { error: "not predicted: stopped before this row" };
    const last = result.error ? [...nothing.slice(1), result.error] : added(result);
    return line([...(source ? source.rows[k] : [text]), ...last]);
  });
  const mark = source?.marked ? "\ufeff" : "";
  const file = new Blob([mark, line([...(source?.header ?? ["text"]), ...addedColumns()]), ...lines], { type: "text/csv" });
  const link = node("a", { download: `${source ? source.name.replace(/\.[^.]*$/, "") : "reviews"}_predicted.csv` });
  link.href = URL.createObjectURL(file);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
