"""A page as Chromium shows it: its document, its width in a window, and the contrast of its words."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]
"""Marks of a module whose tests open pages."""

PHONE = 390


@dataclass(frozen=True)
class Look:
    """The colours of a page; each from 0 (black) to 255."""

    background: tuple[float, ...]
    contrast: float
    """The lowest contrast of any text with its background by WCAG 2.2: 1 is unreadable, 21 is black on white."""
    worst: str
    """The words that have it."""


def seen(page: Path, profile: Path, fragment: str = "", then: str = "", dark: bool = False) -> str:
    """The document as Chromium holds it after loading, and after the script `then` ran; any complaint fails.

    `profile` is a folder for a copy of the page and for what the browser writes.
    """
    html = page.read_text(encoding="utf-8")
    if then:
        # The copy's policy admits this script, and nothing else is loosened.
        digest = base64.b64encode(hashlib.sha256(then.encode()).digest()).decode()
        html = html.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
        html = html.replace("</body>", f"<script>{then}</script></body>")
    copy = profile / "page.html"
    copy.write_text(html, encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={profile / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run(
        [*command, "--dump-dom", f"{copy.as_uri()}{fragment}"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    return done.stdout


def too_wide(page: Path, profile: Path, width: int, part: str = "html") -> int:
    """Pixels by which the page, or its first element `part`, is wider than its room in a window of `width` pixels."""
    # In a frame, because a window of Chromium is never narrower than 500 pixels; low, so that a scroll bar takes room.
    inner = escape(page.read_text(encoding="utf-8"))
    frame = f'<iframe width="{width}" height="300" style="border:0" srcdoc="{inner}"></iframe>'
    measure = f"""addEventListener("load", () => {{
      const inner = document.querySelector("iframe").contentDocument, one = inner.querySelector({json.dumps(part)});
      document.title = [one.scrollWidth, one.clientWidth, inner.documentElement.clientWidth].join(" ");
    }});"""
    outer = profile / "frame.html"
    outer.write_text(f"<!doctype html><title></title><body>{frame}<script>{measure}</script>", encoding="utf-8")
    content, room, window = map(int, _title(seen(outer, profile)).split())
    assert width - 20 <= window <= width  # There may be a scroll bar next to it.
    return content - room


def look(page: Path, profile: Path, dark: bool) -> Look:
    """The colours of the words that can be seen, for a reader who prefers light or dark."""
    background, contrast, worst = json.loads(_title(seen(page, profile, then=_LOOK, dark=dark)))
    return Look(tuple(background), contrast, worst)


def _title(dom: str) -> str:
    return unescape(re.findall("<title>(.*?)</title>", dom, flags=re.DOTALL)[0])


CONTRAST = """() => {
  const parts = (color) => { const p = color.match(/[\\d.]+/g).map(Number); return p.length > 3 ? p : [...p, 1]; };
  const over = (front, back) => back.map((value, k) => front[3] * front[k] + (1 - front[3]) * value);
  const behind = (one) => {
    const above = [];
    for (let each = one; each; each = each.parentElement) above.push(parts(getComputedStyle(each).backgroundColor));
    return above.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let least = Infinity, worst = "";
  for (const one of document.body.querySelectorAll("*")) {
    const words = [...one.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
    if (!/[\\p{L}\\p{N}]/u.test(words) || /^(SCRIPT|STYLE|TITLE)$/i.test(one.tagName)) continue;
    if (!one.getClientRects().length) continue;
    const style = getComputedStyle(one), back = behind(one);
    const front = over(parts(one.ownerSVGElement ? style.fill : style.color), back);
    const [dim, bright] = [light(front), light(back)].sort((a, b) => a - b);
    const contrast = (bright + 0.05) / (dim + 0.05);
    if (contrast < least) { least = contrast; worst = `${one.tagName}.${one.getAttribute("class")}: ${words}`; }
  }
  return [behind(document.body), least, worst.slice(0, 80)];
}"""
"""A script's function → the background of the page, the lowest contrast of its words, and the words that have it."""

_LOOK = f"""addEventListener("load", () => setTimeout(() => {{
  document.title = JSON.stringify(({CONTRAST})());
}}, 500));"""
