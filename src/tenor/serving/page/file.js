// The panel of a CSV file: which column holds the reviews.
import { server } from "./api.js";
import { readFile } from "./csv.js";
import { clipped, count, node, part, plural, Problem, report, spoken } from "./dom.js";
import { addedColumns, startJob } from "./table.js";

const TEXT_COLUMNS = ["text", "review", "reviews", "sentence", "comment", "content", "body", "message"];

const SEPARATORS = { ",": "commas", ";": "semicolons", "\t": "tabs" };
const ROWS_PREVIEWED = 3;

let table = null; // The CSV file that was chosen.

export async function chooseFile(files) {
  part("problem").replaceChildren();
  part("table-file").hidden = true;
  try {
    if (!server.info) throw new Problem("The model is not loaded yet", "Try again in a moment.");
    if (files.length !== 1) throw new Problem("One file at a time", `${count(files.length)} files were given.`);
    table = await readFile(files[0]);
    const taken = addedColumns().filter((name) => table.header.includes(name));
    if (taken.length) {
      const fix = "which the result would add. Rename them.";
      throw new Problem("Names of columns are taken", `${table.name} already has ${taken.join(", ")}, ${fix}`);
    }
    showFile();
  } catch (error) {
    table = null;
    report(error);
  }
}

function showFile() {
  const { name, header, rows, delimiter } = table;
  const separated = header.length > 1 ? `, separated by ${SEPARATORS[delimiter]}` : "";
  part("file-name").textContent = name;
  part("file-facts").textContent = `${plural(rows.length, "row")}, ${plural(header.length, "column")}${separated}`;
  const known = header.flatMap((column, k) => (TEXT_COLUMNS.includes(column.trim().toLowerCase()) ? [k] : []));
  const guess = header.length === 1 ? 0 : known.length === 1 ? known[0] : null;
  const options = header.map((column, k) => node("option", { value: k }, column.trim() || `column ${k + 1}`));
  if (guess === null) options.unshift(node("option", { value: "" }, "Choose a column"));
  part("column").replaceChildren(...options);
  part("column").value = guess ?? "";
  part("table-file").hidden = false;
  showColumn();
  part(guess === null ? "column" : "file-go").focus();
}

const chosenTexts = () => table.rows.map((row) => row[Number(part("column").value)]);

export function showColumn() {
  const chosen = part("column").value !== "";
  const texts = chosen ? chosenTexts() : [];
  const empty = texts.filter((text) => !text.trim()).length;
  part("column-hint").textContent = !chosen
    ? "Several columns may hold the reviews. Choose one."
    : empty ? `${plural(empty, "row")} without a review: not predicted.` : "";
  const shown = texts.slice(0, ROWS_PREVIEWED).map((text) => spoken("span", clipped(text, 300) || "(empty)"));
  part("preview").replaceChildren(...shown.map((one) => node("li", "", one)));
  part("file-go").textContent = chosen ? `Predict ${plural(texts.length - empty, "review")}` : "Predict";
}

export function predictFile() {
  if (part("column").value === "") {
    report(new Problem("No column is chosen", "Choose the column that holds the reviews."));
    part("column").focus();
    return;
  }
  startJob({ title: table.name, texts: chosenTexts(), source: table });
}

export function closeFile() {
  table = null;
  part("table-file").hidden = true;
  part("choose").focus();
}

