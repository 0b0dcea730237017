"""Every fenced `python` and `bash` block of the pages below runs as pasted, in one empty folder a page, top to bottom;
a `python` block with `title="NAME"` is written there as the file NAME.

A block under an HTML comment `<!-- not run: reason -->` is left out; the reasons allowed are listed here, so that none
slips in unseen. Its commands, options and settings must exist, and so must what they name: environments, splits,
arguments, experts, engines, pools, recipes. A block in a language that is not listed here fails.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import pytest

from aem_agent.cli import build_parser
from aem_agent.engines import text_engines, token_engines
from aem_agent.eval_commands import _config
from aem_agent.evaluate import prepare
from aem_agent.policies import make_policy
from aem_agent.pools import pools
from aem_agent.types import AgentError
from aem_envs import AemEnvError, env_ids
from aem_envs.cli_common import CliError
from aem_suite import data_cli, envs_cli
from envs_data.errors import DataError
from envs_data.swebench.fields import InstanceFileError
from trainer import cli as train_cli
from trainer.algorithms import use
from trainer.dry_run import look
from trainer.missing import LACKING
from trainer.overrides import override
from trainer.runs import load_recipe

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *```(?P<opens>.*)$", re.M)
SHOWN = {"text", "json", "toml"}
"""Languages of blocks that show something and are not to be run."""
BLOCK = re.compile(
    r"(<!-- not run: (?P<reason>[^>]*?) -->\n)?"
    r"(?P<head>```(?P<language>python|bash)(?: title=\"(?P<file>[\w.]+)\")?)\n(?P<code>.*?)```",
    re.S,
)
GUIDES = sorted(f"docs/{page.parent.name}/{page.name}" for page in ROOT.glob("docs/*/*.md"))
GUIDES = [page for page in GUIDES if page.startswith(("docs/tutorials", "docs/howto"))]
PAGES = ("README.md", "docs/rollouts.md", "docs/webshop.md", "docs/swebench.md", "docs/index.md", *GUIDES)
REASONS = {
    "installs",
    "needs a server",
    "needs the internet",
    "needs the official files",
    "needs Chromium",
    "minutes of training",
    "minutes of work",
    "needs a docker daemon",
    "needs your own sandbox",
    "needs a GPU",
    "opens a game for a person",
}
PARSERS: dict[str, Callable[[], ArgumentParser]] = {
    "aem-data": data_cli.parser,
    "aem-envs": envs_cli.parser,
    "aem-eval": build_parser,
    "aem-train": train_cli.parser,
}
OTHERS = {"apt-get", "swebench", "export", "sleep", "kill", "git", "cd", "python3", ".", "torchrun", "ray"}
"""Commands that are not ours, which blocks that are not run may use."""
OURS = (AgentError, AemEnvError, DataError, CliError, gymnasium.error.Error)
"""What commands of ours say of a wrong name or setting."""


def blocks(page: str) -> list[tuple[str | None, str, str]]:
    """Reason to leave it out, language or name of the file that it is, and code, of each block."""
    return [(m["reason"], m["file"] or m["language"], m["code"]) for m in BLOCK.finditer((ROOT / page).read_text())]


@pytest.mark.parametrize("page", PAGES)
def test_only_known_reasons_leave_a_block_out(page: str) -> None:
    assert {reason for reason, _, _ in blocks(page) if reason} <= REASONS
    least = 0 if "howto" in page else 1 if page.endswith(("rollouts.md", "index.md")) else 3
    assert sum(reason is None for reason, _, _ in blocks(page)) >= least


def commands(code: str) -> list[list[str]]:
    """The words of each simple command of a bash block, without comments and leading assignments."""
    found: list[list[str]] = [[]]
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();|&")
        lexer.whitespace_split = True
        for word in lexer:
            if set(word) <= set("();|&"):
                found.append([])
            elif found[-1] or not re.match(r"\w+=", word):
                found[-1].append(word)
        found.append([])
    return [words for words in found if words]


def check_command(words: list[str]) -> None:
    """`words` would be understood: its options parse, and what it names by a fixed name exists."""
    name, *rest = words
    if name in PARSERS:
        try:
            options = PARSERS[name]().parse_args(rest)
        except SystemExit:
            pytest.fail(f"wrong use: {shlex.join(words)}")
        if name == "aem-train" and options.command == "run":
            check_training(options)
        if name == "aem-eval" and options.command == "run" and not options.resume:
            check_evaluation(options)
        if name == "aem-envs" and options.command == "play":
            assert options.id in env_ids()
    elif name == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif name == "python":
        assert find_spec(rest[1]) if rest[0] == "-m" else (ROOT / rest[0]).is_file()
    elif name == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert not [word for word in rest if word.startswith(("aem-suite", "aem_suite"))], "aem-suite is on no index"
        for wanted in re.findall(r"\.\[([\w,-]+)\]", " ".join(rest)):
            assert set(wanted.split(",")) <= set(extras)
    else:
        assert name in OTHERS, name


def check_training(options: Namespace) -> None:
    """What the dry run looks at, which raises what would be wrong on any machine, and notes what this one lacks."""
    recipe = load_recipe(options.recipe)
    look(use(recipe, options.algorithm, options.set) if options.algorithm else override(recipe, options.set))


def check_evaluation(options: Namespace) -> None:
    """Environment, its arguments and split, model, engine and pool, as far as this machine has what they need."""
    assert options.env_id in env_ids()
    pools.get(options.pool)
    config = _config(options)
    with suppress(*LACKING, InstanceFileError):  # data that are the reader's
        prepare(config)
    if config.model.startswith(("runs/", "models/")) or config.model == "DIR":  # a folder of the reader's
        assert config.engine is None or config.engine in token_engines.names()
    else:
        assert config.engine is None or config.engine in text_engines.names()
        make_policy(config.model, engine=config.engine, env_id=config.env_id, base_url="http://localhost:8000/v1")


@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_are_not_run_would_be_understood(page: str) -> None:
    for reason, language, code in blocks(page):
        if reason and language == "python":
            compile(code, page, "exec")
        for words in commands(code) if reason and language == "bash" else ():
            check_command(words)


@pytest.mark.parametrize(
    "line",
    [
        "aem-eval run aem/ALFWorld-v0 --no-such-option",
        "aem-eval run aem/NoSuch-v0 -m expert",
        "aem-train run no-such-recipe",
        "aem-train run toy --set no.such=1",
        "A=1 B=2 aem-envs no-such-command; aem-envs ls",
        "make no-such-target",
        "python bench/no_such_file.py && true",
        "pip install -e '.[no-such-extra]'",
        "pip install aem-suite",
        "pip install 'aem-suite[swebench]'",
        "no-such-command",
        "aem-eval run aem/ALFWorld-v0 -m expert --env nosuch=1",
        "aem-eval run aem/ALFWorld-v0 -m expert --split no_such",
        "aem-eval run aem/ALFWorld-v0 -m expert --pool no-such",
        "aem-eval run aem/ALFWorld-v0 -m no-such-expert",
        "aem-eval run aem/ALFWorld-v0 -m runs/a/best --engine no-such",
        "aem-eval run aem/ALFWorld-v0 -m openai:NAME --base-url http://a.example/v1 --engine torch",
        "aem-train run toy --set rollout.engine=no-such",
        "aem-train run toy --set rollout.engine_options.no_such=1",
        "aem-train run toy --set rollout.pool=no-such",
        "aem-train run toy --set env.id=no/Such-v0",
        "aem-train run toy --set env.kwargs.no_such=1",
    ],
)
def test_a_command_that_does_not_exist_is_found_out(line: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception, *OURS)):
        check_command(commands(line)[0])


@pytest.mark.parametrize("page", PAGES)
def test_no_example_goes_unlooked_at(page: str) -> None:
    """Every fence is of a block that `BLOCK` finds, or shows something: none in `sh`, `console` or `bash hl_lines`."""
    assert unknown_fences((ROOT / page).read_text()) == []


def unknown_fences(text: str) -> list[str]:
    """First lines of fenced blocks that are neither run nor only shown."""
    opening = list(FENCE.finditer(text))[::2]
    seen = {block.end("head") for block in BLOCK.finditer(text)}
    return [fence[0] for fence in opening if fence.end() not in seen and fence["opens"].strip() not in SHOWN]


@pytest.mark.parametrize("opens", ["sh", "console", 'bash hl_lines="1"', "bash ", "", "python file=x.py"])
def test_a_block_that_nothing_runs_is_found_out(opens: str) -> None:
    assert unknown_fences("```bash\nls\n```\n\n```text\na\n```\n") == []
    assert unknown_fences(f"```bash\nls\n```\n\n```{opens}\nls\n```\n") == [f"```{opens}"]


@pytest.mark.parametrize("page", [*GUIDES, "docs/adapters.md", "docs/training.md"])
def test_commands_fit_on_a_page(page: str) -> None:
    """A longer line is cut on a site's page, and a reader copies half of what is there."""
    assert not [
        line for _, language, code in blocks(page) if language == "bash" for line in code.splitlines() if len(line) > 85
    ]


def test_the_pictures_are_small_and_need_nothing_from_elsewhere() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    for name in pictures:
        assert (ROOT / name).stat().st_size <= 150_000
        text = (ROOT / name).read_text() if name.endswith(".svg") else ""
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"@font-face|@import|<script|<image|<foreignObject|href=", text)


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_examples_run_as_pasted(page: str, tmp_path: Path, official_alfworld: Path) -> None:
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "ALFWORLD_DATA": str(official_alfworld),
        "OMP_NUM_THREADS": "1",
    }
    for reason, language, code in blocks(page):
        if reason:
            continue
        if language not in ("python", "bash"):
            (tmp_path / language).write_text(code)
            continue
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{code}\n--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-3000:]}"
