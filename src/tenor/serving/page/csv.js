// CSV files → a header and rows, and back.
import { count, plural, Problem } from "./dom.js";

const LARGEST_FILE = 100 * 1024 * 1024; // Bytes; a browser holds a file several times over.

/** `name`, `header`, `rows`, `delimiter` of a file, and whether it is `marked` as UTF-8, as Excel expects. */
export async function readFile(file) {
  const fix = "For other files: tenor predict RUN --input FILE --output FILE.";
  if (!/\.(csv|tsv)$/i.test(file.name)) {
    throw new Problem("Not a CSV file", `${file.name} does not end in .csv or .tsv. ${fix}`);
  }
  if (file.size > LARGEST_FILE) throw new Problem("The file is too large", `${file.name} has over 100 MB. ${fix}`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8";
  let text;
  try {
    text = new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw unreadable(`${file.name} is not UTF-8. Save it as “CSV UTF-8”.`);
  }
  const marked = text.startsWith("\ufeff");
  return { name: file.name, marked, ...parseTable(marked ? text.slice(1) : text, file.name) };
}

const unreadable = (message) => new Problem("The file cannot be read", message);

/** The delimiter is the one with the most columns in the first line; a single column has none: commas are letters. */
function parseTable(text, name) {
  const candidates = [",", ";", "\t"].map((each) => [each, columnsWith(text, each)]);
  const [delimiter, columns] = candidates.reduce((best, each) => (each[1] > best[1] ? each : best));
  const [first, ...records] = parseCsv(text, columns > 1 ? delimiter : null);
  if (!records.length) {
    throw unreadable(`${name} needs a first line with the names of the columns, then a row per review.`);
  }
  const wrong = records.find((record) => record.fields.length !== columns);
  if (wrong) {
    const found = `${name}, line ${count(wrong.line)}: ${plural(wrong.fields.length, "field")}, expected ${columns}`;
    const fix = "Enclose fields that contain the separator in double quotes.";
    throw unreadable(`${found} as in the first line. ${fix}`);
  }
  return { header: first.fields, rows: records.map((record) => record.fields), delimiter };
}

function columnsWith(text, delimiter) {
  try {
    return parseCsv(text, delimiter, 1)[0]?.fields.length ?? 0;
  } catch (error) {
    if (error instanceof Problem) return 1; // Not the delimiter: it leaves text behind a closing quote.
    throw error;
  }
}

/** The first records of a CSV text (RFC 4180) with the line on which each begins; empty lines are skipped. */
function parseCsv(text, delimiter, most = Infinity) {
  const records = [];
  let fields = [], at = 0, line = 1, begun = 1;
  while (at < text.length && records.length < most) {
    const quoted = text[at] === '"';
    const [field, end] = quoted ? quotedField(text, at, line) : plainField(text, at, delimiter);
    if (quoted) line += field.split("\n").length - 1;
    fields.push(field);
    at = end;
    if (quoted && !isEnd(text, at, delimiter)) {
      throw unreadable(`Line ${count(line)}: text follows a closing quote. Double each quote within a field.`);
    }
    if (at < text.length && text[at] === delimiter) {
      if (++at < text.length) continue;
      fields.push(""); // The file ends with a delimiter.
    }
    if (fields.length > 1 || field !== "" || quoted) records.push({ fields, line: begun });
    at += text.startsWith("\r\n", at) ? 2 : 1;
    begun = ++line;
    fields = [];
  }
  return records;
}

const isEnd = (text, at, delimiter) => at >= text.length || [delimiter, "\n", "\r"].includes(text[at]);

function plainField(text, at, delimiter) {
  let end = at;
  while (!isEnd(text, end, delimiter)) end++;
  return [text.slice(at, end), end];
}

function quotedField(text, at, line) {
  const parts = [];
  for (let from = at + 1; ; ) {
    const close = text.indexOf('"', from);
    if (close < 0) throw unreadable(`Line ${count(line)}: a field begins with a quote there, which is never closed.`);
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
