"""The smallest Excel workbooks, written without another library."""

import zipfile
from html import escape
from pathlib import Path

Sheet = list[list[str]]
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"
SPACE = "http://schemas.openxmlformats.org"


def workbook(path: Path, sheets: dict[str, Sheet]) -> Path:
    """The smallest workbook with cells of text."""
    names = list(enumerate(sheets, start=1))
    listed = "".join(f'<sheet name="{name}" sheetId="{at}" r:id="r{at}"/>' for at, name in names)
    related = "".join(
        f'<Relationship Id="r{at}" Type="{SPACE}/officeDocument/2006/relationships/worksheet" Target="s{at}.xml"/>'
        for at, _ in names
    )
    parts = "".join(f'<Override PartName="/xl/s{at}.xml" ContentType="{KIND}.worksheet+xml"/>' for at, _ in names)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{SPACE}/package/2006/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{KIND}.sheet.main+xml"/>{parts}</Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{SPACE}/package/2006/relationships"><Relationship Id="r0" Target="xl/workbook.xml" '
            f'Type="{SPACE}/officeDocument/2006/relationships/officeDocument"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{SPACE}/spreadsheetml/2006/main" '
            f'xmlns:r="{SPACE}/officeDocument/2006/relationships"><sheets>{listed}</sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{SPACE}/package/2006/relationships">{related}</Relationships>',
        )
        for at, rows in enumerate(sheets.values(), start=1):
            archive.writestr(f"xl/s{at}.xml", _sheet(rows))
    return path


def _sheet(rows: Sheet) -> str:
    lines = []
    for number, cells in enumerate(rows, start=1):
        written = "".join(
            f'<c r="{chr(65 + column)}{number}" t="inlineStr"><is><t>{escape(cell)}</t></is></c>'
            for column, cell in enumerate(cells)
        )
        lines.append(f'<row r="{number}">{written}</row>')
    return f'<worksheet xmlns="{SPACE}/spreadsheetml/2006/main"><sheetData>{"".join(lines)}</sheetData></worksheet>'
