"""The report in a real browser: the slider, the theme, no error, nothing asked of a network, a phone's width."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfface.report import page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]

# Runs after the page's own script; what it finds goes into the document, where --dump-dom shows it.
PROBE = """
<script>
const errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
document.addEventListener("securitypolicyviolation", (event) => errors.push(event.blockedURI));
</script>
%s
<script>
window.addEventListener("load", () => {
  const found = {};
  found.decoded = [...document.images].filter((image) => image.complete && image.naturalWidth === 32).length;
  found.images = document.images.length;
  const visible = () => [...document.querySelectorAll("[data-step]")].filter((part) => !part.hidden);
  const slider = document.querySelector("input[type=range]");
  found.steps = [];
  for (const value of ["0", "2"]) {
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    found.steps.push({
      words: visible().filter((part) => part.tagName !== "IMG").map((part) => part.textContent),
      adversarial: visible().find((part) => part.alt === "adversarial").src,
    });
  }
  const background = () => getComputedStyle(document.body).backgroundColor;
  found.before = background();
  document.getElementById("theme").click();
  found.after = background();
  found.width = [document.documentElement.scrollWidth, innerWidth];
  found.requests = performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 40));
  found.errors = errors;
  const note = document.createElement("pre");
  note.id = "found";
  note.textContent = JSON.stringify(found);
  document.body.append(note);
});
</script>
"""


def picture(path: Path, colour: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((32, 32, 3), colour, np.uint8))
    return path.name


@pytest.fixture
def report(tmp_path) -> Path:
    """The page of one attack with a Figure 1, and of a mining with a long name and a wide gallery."""
    head = {
        "versions": {"tfface": "0"},
        "started": "now",
        "seconds": 1,
        "dataset": "folder:" + "long" * 30,
        "weights_sha256": "0" * 64,
    }
    attack, mine = tmp_path / "runs" / "attack", tmp_path / "runs" / "mine"
    figure = attack / "figure1"
    row = {
        "clean": picture(figure / "c.png", 0),
        "reference": picture(figure / "r.png", 255),
        "adversarial": [picture(figure / f"a{step}.png", 40 + step) for step in range(3)],
        "noise": [picture(figure / f"n{step}.png", 120 + step) for step in range(3)],
        "distances": [0.1, 0.5, 0.9],
        "verdicts": [True, True, False],
        "threshold": 0.6,
    }
    (figure / "figure1.json").write_text(json.dumps({"epsilons": [0, 0.01, 0.02], "rows": [row]}))
    results = [{"epsilon": 0.01, "attacked": 9, "already_wrong": 0, "error_rate": 0.5, "ci95": [0.2, 0.8]}]
    entry = {"attack": "fgsm", "norm": "linf", "goal": "classify", "results": results}
    (attack / "metrics.json").write_text(json.dumps({**head, "command": "attack", **entry}))
    counts = {"count": 1, "pairs": 9, "rate": 1 / 9}
    entry = {
        "protocol": "all-pairs",
        "metric": "cosine",
        "threshold": 0.4,
        "threshold_source": "chosen by hand",
        "false_positives": counts,
        "false_negatives": counts,
        "people": [{"person": "W" * 90, "images": 1, "false_positives": 1, "false_negatives": 0}],
    }
    picture(mine / "false_positives.png", 99)
    (mine / "metrics.json").write_text(json.dumps({**head, "command": "mine", **entry}))
    target = tmp_path / "report.html"
    page.write_report([tmp_path / "runs"], target)
    return target


def browse(folder: Path, text: str, width: int, *options: str) -> str:
    """The document that Chromium makes of a page."""
    file = folder / "probe.html"
    file.write_text(text)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},900", "--virtual-time-budget=8000", *options, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def probe(report: Path, width: int) -> dict:
    before, after = PROBE.split("%s")
    text = report.read_text().replace("<head>", f"<head>{before}", 1).replace("</body>", f"{after}</body>", 1)
    shown = browse(report.parent, text, width)
    found = re.search(r'<pre id="found">(.*?)</pre>', shown, re.S)
    assert found, shown[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_works(report, width):
    """Headless Chromium is never narrower than 500 pixels; the frame in the next test is."""
    found = probe(report, width)
    assert found["errors"] == []
    assert all(name.startswith("data:") for name in found["requests"])
    assert found["images"] == found["decoded"] == 2 + 3 + 3 + 1
    first, last = found["steps"]
    assert first["words"] == ["0", "distance 0.100 (threshold 0.600): match"]
    assert last["words"] == ["0.02", "distance 0.900 (threshold 0.600): no match"]
    assert first["adversarial"].startswith("data:image/webp;base64,")
    assert first["adversarial"] != last["adversarial"]
    assert found["before"] != found["after"], "the button switches between light and dark"
    assert found["width"][0] <= found["width"][1], "the page scrolls sideways"


def test_a_phone_needs_no_scrolling_sideways(report):
    frame = '<!doctype html><iframe id="phone" src="report.html" width="390" height="800"></iframe>'
    script = """<script>
    document.getElementById("phone").addEventListener("load", (event) => {
      const root = event.target.contentDocument.documentElement;
      document.body.dataset.widths = `${root.scrollWidth} ${root.clientWidth}`;
    });
    </script>"""
    shown = browse(report.parent, frame + script, 900, "--allow-file-access-from-files")
    widths = re.search(r'data-widths="(\d+) (\d+)"', shown)
    assert widths, shown[-2000:]
    assert int(widths[1]) <= int(widths[2]) <= 390


def test_the_policy_refuses_what_comes_from_elsewhere(report):
    """What the browser would do with an address if one slipped into the page: refuse, and say so."""
    marked = '<p id="seen"></p><img src="https://example.com/x.png" alt="">'
    listener = """<script>document.addEventListener("securitypolicyviolation",
      (event) => { document.getElementById("seen").textContent += event.violatedDirective; });</script>"""
    shown = browse(report.parent, report.read_text().replace("<main>", f"<main>{listener}{marked}"), 800)
    assert re.search(r'<p id="seen">(img-src)+</p>', shown)
