#!/usr/bin/env bash
# python-calamine 0.9.1: error cells, and formulas without a stored value, are read as '', like an empty cell.
#
# An .xlsx file marks an error with its own cell type (t="e") and text, such as #N/A for a lookup that found nothing. A
# formula written by a program (openpyxl, for one) has no stored value until a spreadsheet program has calculated it.
# `to_python` and `iter_rows` give '' for both. A cell that was never written gives '' too, so a reader cannot tell "the
# lookup failed" or "never calculated" from "left empty", and no other call of the library tells.
# Expected: the text of the error or an object of its own (openpyxl gives '#N/A' and '=1+1' for the same file).
#
# Seen: '' for #N/A, #DIV/0!, =1+1 and the empty cell; openpyxl reads '#N/A', '#DIV/0!', '=1+1' and None.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet python-calamine==0.9.1 openpyxl==3.1.5
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import openpyxl
from python_calamine import CalamineWorkbook

cells = ["#N/A", "#DIV/0!", "=1+1", None]
book = openpyxl.Workbook()
book.active.append(["label", "text"])
for cell in cells:
    book.active.append([cell, "a fine film"])
assert [row[0].data_type for row in book.active.iter_rows(min_row=2)] == ["e", "e", "f", "n"], "other cell types"
book.save("reviews.xlsx")

reference = [row[0] for row in openpyxl.load_workbook("reviews.xlsx").active.iter_rows(min_row=2, values_only=True)]
sheet = CalamineWorkbook.from_path("reviews.xlsx").get_sheet_by_index(0)
read = [row[0] for row in sheet.to_python()[1:]]
iterated = [row[0] for row in sheet.iter_rows()][1:]
print("openpyxl", version("openpyxl"), reference)
print("python-calamine", version("python-calamine"), read)
assert reference == cells, "openpyxl reads other values"
assert read == iterated == [""] * len(cells), "an error or a formula is told from an empty cell now"
PYTHON
