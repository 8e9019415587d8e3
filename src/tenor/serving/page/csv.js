// CSV files → a header and rows, and back.
import { count, plural, Problem } from "./dom.js";

const LARGEST_FILE = 100 * 1024 * 1024; // Bytes; a browser holds a file several times over.

export async function readFile(file) {
  const fix = "Larger or other files: tenor predict RUN --input FILE --output FILE.";
  if (!/\.(csv|tsv)$/i.test(file.name)) throw new Problem("Not a CSV file", `${file.name} does not end in .csv or .tsv. ${fix}`);
  if (file.size > LARGEST_FILE) throw new Problem("The file is too large", `${file.name} has more than 100 MB. ${fix}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text;
  try {
    text = new TextDecoder(bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Problem("The file cannot be read", `${file.name} is not UTF-8. Save it as “CSV UTF-8”.`);
  }
  const marked = text.startsWith("\ufeff");
  return { name: file.name, marked, ...parseTable(marked ? text.slice(1) : text, file.name) };
}

/** `header`, `rows` and `delimiter` of a CSV text. The delimiter is the one that occurs most in the header. */
function parseTable(text, name) {
  const candidates = [",", ";", "\t"].map((each) => [each, columnsWith(text, each)]);
  const [delimiter, columns] = candidates.reduce((best, each) => (each[1] > best[1] ? each : best));
  // In a single column every comma is a letter.
  const [first, ...records] = parseCsv(text, columns > 1 ? delimiter : null);
  if (!first || !records.length) {
    throw new Problem("The file has no rows", `${name} needs a first line with the names of the columns, then a row per review.`);
  }
  const wrong = records.find((record) => record.fields.length !== columns);
  if (wrong) {
    const fix = "Enclose fields that contain the separator in double quotes.";
    throw new Problem("The file cannot be read", `${name}, line ${count(wrong.line)}: ${plural(wrong.fields.length, "field")}, expected ${columns} as in the first line. ${fix}`);
  }
  return { header: first.fields, rows: records.map((record) => record.fields), delimiter };
}

function columnsWith(text, delimiter) {
  try {
    return parseCsv(text, delimiter, 1)[0]?.fields.length ?? 0;
  } catch (error) {
    if (error instanceof Problem) return 1;
    throw error;
  }
}

/** The records of a CSV text (RFC 4180) with the line on which each begins; empty lines are skipped. */
function parseCsv(text, delimiter, most = Infinity) {
  const records = [];
  let fields = [], at = 0, line = 1, begun = 1;
  while (at < text.length && records.length < most) {
    let field, quoted = text[at] === '"';
    if (quoted) {
      [field, at] = quotedField(text, at, line);
      for (let k = field.indexOf("\n"); k >= 0; k = field.indexOf("\n", k + 1)) line++;
    } else {
      let end = at;
      while (end < text.length && text[end] !== delimiter && text[end] !== "\n" && text[end] !== "\r") end++;
      [field, at] = [text.slice(at, end), end];
    }
    fields.push(field);
    const next = text[at];
    if (quoted && next !== undefined && next !== delimiter && next !== "\n" && next !== "\r") {
      throw new Problem("The file cannot be read", `Line ${count(line)}: text follows a closing quote. Double each quote within a field.`);
    }
    if (next === delimiter && next !== undefined) {
      at++;
      if (at < text.length) continue;
      fields.push("");
    }
    if (fields.length > 1 || field !== "" || quoted) records.push({ fields, line: begun });
    at += text.startsWith("\r\n", at) ? 2 : 1;
    begun = ++line;
    fields = [];
  }
  return records;
}

function quotedField(text, at, line) {
  const parts = [];
  for (let from = at + 1; ; ) {
    const close = text.indexOf('"', from);
    if (close < 0) {
      throw new Problem("The file cannot be read", `Line ${count(line)}: the quote that opens a field there is never closed.`);
    }
    parts.push(text.slice(from, close));
    if (text[close + 1] !== '"') return [parts.join('"'), close + 1];
    from = close + 2;
  }
}

/** A line of a CSV file. */
export function csvLine(values, delimiter) {
  const cell = (value) => (/["\r\n,;\t]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return `${values.map((value) => cell(String(value))).join(delimiter)}\n`;
}
