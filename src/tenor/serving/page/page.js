// The page of `tenor serve`: the field for reviews, and what happens when the user does something.
import { ask, run, server, stop } from "./api.js";
import { button, clipped, count, node, part, plural, Problem, report } from "./dom.js";
import { showOne } from "./explanation.js";
import { chooseFile, closeFile, predictFile, showColumn } from "./file.js";
import { showModel } from "./model.js";
import { closeTable, showProgress, startJob } from "./table.js";

async function load() {
  part("problem").replaceChildren();
  try {
    server.info = await ask("/v1/info");
  } catch (error) {
    report(error, error.status === 401 ? null : load);
    return;
  }
  part("key").hidden = true;
  part("fields").disabled = false;
  showModel();
  part("samples").replaceChildren(...server.info.examples.map((text) => node("li", "", sample(text))));
  part("examples").hidden = !server.info.examples.length;
}

const severalIn = (text) => /\S[^\S\n]*\n[^\S\n]*\n\s*\S/.test(text);

/** The reviews of the field: its whole text, or the parts between empty lines. */
function typedReviews() {
  const text = part("texts").value;
  const parts = part("split").checked ? text.split(/\n[^\S\n]*\n/) : [text];
  return parts.map((one) => one.trim()).filter(Boolean);
}

function showCount() {
  part("split-label").hidden = !severalIn(part("texts").value);
  const n = typedReviews().length;
  part("go").textContent = n > 1 ? `Predict ${count(n)} reviews` : "Predict";
}

function predictTyped() {
  const texts = typedReviews();
  if (!texts.length) {
    report(new Problem("No review", "Write or paste a review, choose an example, or choose a CSV file."));
    part("texts").focus();
  } else if (texts.length === 1) predictOne(texts[0]);
  else startJob({ title: plural(texts.length, "review"), texts, source: null });
}

function predictOne(text) {
  closeTable();
  run("predict", async (signal) => {
    showProgress("Predicting …", null, 1);
    const answer = await ask("/v1/predict", { texts: [text] }, signal);
    showOne("Prediction", text, answer.predictions[0], answer);
  });
}

function sample(text) {
  return button(clipped(text, 160), () => {
    part("texts").value = text;
    part("split").checked = !severalIn(text);
    showCount();
    predictTyped();
  }, { dir: "auto" });
}

function onSubmit(id, action) {
  part(id).addEventListener("submit", (event) => (event.preventDefault(), action()));
}

function useKey() {
  const value = part("key-value").value.trim();
  if (!/^[\x21-\x7e]+$/.test(value)) {
    report(new Problem("Not an API key", "A key consists of ASCII letters, digits and signs, without blanks."));
    return;
  }
  server.key = value;
  part("key-value").value = "";
  load();
}

function onDrag(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  part("drop").hidden = event.type !== "dragover";
  if (event.type === "drop") chooseFile([...event.dataTransfer.files]);
}

onSubmit("form", predictTyped);
onSubmit("file-form", predictFile);
onSubmit("key-form", useKey);
part("texts").addEventListener("input", showCount);
part("split").addEventListener("change", showCount);
part("texts").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (server.info) predictTyped();
});
part("choose").addEventListener("click", () => part("file").click());
part("file").addEventListener("change", () => {
  const files = [...part("file").files];
  part("file").value = ""; // So that the same file can be chosen again.
  if (files.length) chooseFile(files);
});
part("column").addEventListener("change", showColumn);
part("file-away").addEventListener("click", closeFile);
part("stop").addEventListener("click", () => stop("predict"));
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, onDrag);
load();
