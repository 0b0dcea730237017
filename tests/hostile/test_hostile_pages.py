"""The two reports, full of hostile texts, in a real browser: nothing runs, is fetched, or leaves its place."""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_hostile_text import HOSTILE, hostile_episode

from aem_agent.report.evaluation import evaluation_page
from aem_agent.summary import summarize
from aem_agent.types import Response, Turn
from aem_envs.sanitize import has_controls, plain
from aem_envs.webshop.browser.process import Browser, BrowserMissingError, find_browser

pytestmark = pytest.mark.slow

BREAKOUTS = (
    "</title><script>window.pwned=1</script>",
    "</style><script>window.pwned=2</script>",
    "</pre></details></svg></table><img src=x onerror=window.pwned=3>",
    "\" onmouseover=window.pwned=4 x=\"' onfocus=window.pwned=5 autofocus tabindex=0 '",
    "<iframe srcdoc='<script>parent.pwned=6</script>'></iframe><svg onload=window.pwned=7>",
    "<a href=javascript:window.pwned=8>x</a><form action=http://evil.example><input autofocus></form>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'><base href=http://evil.example>",
    "<link rel=stylesheet href=http://evil.example/x.css><style>body{display:none}</style>",
    "&lt;script&gt;window.pwned=9&lt;/script&gt;&#60;script&#62;",
    "--><!--<script>-->]]>",
)
WILD = HOSTILE + "".join(BREAKOUTS)
ENDLESS = "endless" * 30_000
WATCH = """
window.alert = () => { window.pwned = 'alert'; };
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
"""
LOOK = """return {
  pwned: window.pwned ?? null,
  violations: window.violations,
  fetched: performance.getEntriesByType('resource').map((entry) => entry.name),
  address: location.href,
  odd: [...document.querySelectorAll('script,img,iframe,a,form,input,link,base,object,embed,foreignObject')].length,
  handlers: [...document.querySelectorAll('*')].flatMap((e) => [...e.attributes]).map((a) => a.name)
    .filter((name) => name.startsWith('on') || ['style', 'href', 'src', 'autofocus'].includes(name)),
  styles: document.querySelectorAll('style').length,
  refreshes: document.querySelectorAll('meta[http-equiv=refresh]').length,
  title: document.title,
  text: document.body.textContent,
  tooWide: document.documentElement.scrollWidth - innerWidth,
  shown: document.body.getBoundingClientRect().height,
}"""


def evaluation() -> str:
    turn = Turn(
        observation=WILD, response=Response(WILD + "r", token_ids=(1,), finish_reason="length"), action=WILD,
        format_valid=False, format_error=WILD, info={"action_error": WILD, "details": {"verdict": WILD}},
    )  # fmt: skip
    other = Turn(observation=ENDLESS, response=Response(ENDLESS + "r"), action=ENDLESS, format_error=ENDLESS)
    names: dict[str, Any] = dict.fromkeys(("task_id", "task_type", "split", "truncation_reason"), WILD)
    episodes = [
        hostile_episode(turns=(turn, other), final_observation=WILD, **names),
        hostile_episode(task_id="won", turns=(turn,), won=True, truncated=False, terminated=True),
        hostile_episode(task_type=ENDLESS, task_id=ENDLESS, turns=(other,), truncation_reason=ENDLESS),
        hostile_episode(task_id="e", truncated=False, error=f"{WILD}: {ENDLESS}"),
    ]
    summary = replace(summarize(episodes, env_id=WILD, split=WILD), data_hash=WILD, engine=WILD)
    summary = replace(summary, details={WILD: 1.0}, phases={WILD: 2.0}, verdicts={WILD: 1}, error_types={WILD: 1})
    config = {"config": {"model": WILD, WILD: WILD, "long": ENDLESS}, "versions": {WILD: WILD}}
    return evaluation_page(summary, config, episodes)


def training() -> str:
    pytest.importorskip("torch")
    from trainer.report import training_page

    rate = {"success": 0.5, "low": 0.1, "high": 0.9, "n": 4}
    records = [
        {"kind": "alarm", "stage": 2, "step": 1, "cause": WILD, "words": WILD, "advice": ENDLESS},
        {"kind": "evaluation", "stage": 2, "step": 0, "when": "before", "temperature": 0.0, "split": WILD,
         "data_hash": WILD, "engine": WILD, f"success/{WILD}": 0.5, **rate},
        *({"kind": "rl", "stage": 2, "step": step, "success": 0.5, f"success/{WILD}": 0.1 * step,
           f"success/{ENDLESS}": 0.5, f"seconds_{WILD}": 1.0, "token_entropy": 1.0} for step in (1, 2)),
    ]  # fmt: skip
    config = {"env": {"id": WILD}, "description": WILD, "metrics": {"wandb": WILD}, WILD: {WILD: ENDLESS}}
    return training_page(WILD, records, {WILD: [hostile_episode()]}, config)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="aem-t-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        try:
            made = Browser(find_browser(None, None, True, (1280, 800), 60.0))
        except BrowserMissingError as error:
            pytest.skip(f"no browser on this machine: {error}")
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("page", [evaluation, training], ids=["evaluation", "training"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_report_of_hostile_texts_is_inert(page: Any, width: int, browser: Browser, tmp_path: Path) -> None:
    html = page()
    assert not has_controls(html)
    assert len(html) < 300_000, "a text of megabytes is cut"
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    driver = browser.driver
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    for command, params in (
        ("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH}),
        ("Emulation.setDeviceMetricsOverride", size),
    ):
        driver.execute("executeCdpCommand", {"cmd": command, "params": params})
    driver.get(file.as_uri())
    driver.execute_script("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    found = driver.execute_script(LOOK)
    assert (found["pwned"], found["violations"], found["fetched"]) == (None, [], [])
    assert (found["odd"], found["handlers"], found["styles"], found["refreshes"]) == (0, [], 1, 0)
    assert found["address"] == file.as_uri()
    assert "<script>window.pwned=1</script>" in found["title"], "one text, whole"
    for text in BREAKOUTS:
        assert plain(text) in found["text"], "shown, not dropped"
    assert found["tooWide"] <= 0 and found["shown"] > 500
