"""What the site's pages get at build time, so that it cannot go stale: command lines, source files, the change log.

- `<!-- command line: module:function -->` becomes usage and options of that argparse parser, all subcommands included.
- A link out of `docs/`, as it works in a checkout, leads to a page made of that file.
- ```` ```python file=NAME ```` of pages that tests write out shows NAME as a title.
- A picture on a line of its own leads to its file: on a phone it is too small to read.
"""

import argparse
import os
import posixpath
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
COMMAND = re.compile(r"<!-- command line: (\S+):(\S+) -->")
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")
PICTURE = re.compile(r"^(!\[[^\]]+\]\(([^)\s]+)\))$", re.M)
SHOWN_AS_CODE = {".py": "python", ".toml": "toml", ".sh": "bash"}


def on_config(config: MkDocsConfig) -> None:
    """No 404.html for a site whose address is not known: it would ask for `/assets/…`, wherever the site lies."""
    if not config.site_url:
        config.theme.static_templates.discard("404.html")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page, or for a picture the file itself, for all that pages link to outside of `docs/`."""
    wanted = {name for name in ALWAYS if (ROOT / name).is_file()}
    for file in files.documentation_pages():
        wanted |= set(_outside(file.src_uri, Path(str(file.abs_src_path)).read_text(encoding="utf-8")))
    for name in sorted(wanted):
        source, place = ROOT / name, _place(name)
        if source.suffix == ".md":
            made = File.generated(config, place, content=source.read_text(encoding="utf-8"))
        elif language := SHOWN_AS_CODE.get(source.suffix):
            text = f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n````{language}\n{source.read_text('utf-8')}````\n"
            made = File.generated(config, place, content=text)
        else:
            made = File.generated(config, place, abs_src_path=str(source))
        files.append(made)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with command lines written out, links turned, and names of files as titles."""
    here = page.file.src_uri
    home = posixpath.relpath(here, "project") if here.startswith("project/") else posixpath.join("docs", here)

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), link[1]))
        if "://" in link[1] or not (ROOT / target).is_file():
            return link[1]  # mkdocs says what is wrong with it
        place = posixpath.relpath(target, "docs") if target.startswith("docs/") else _place(target)
        return posixpath.relpath(place, posixpath.dirname(here) or ".")

    markdown = COMMAND.sub(lambda found: command_line(getattr(import_module(found[1]), found[2])()), markdown)
    markdown = re.sub(r"^(```python) file=(\S+)$", r'\1 title="\2"', markdown, flags=re.M)
    return PICTURE.sub(r"[\1](\2)", LINK.sub(turned, markdown))


def command_line(parser: argparse.ArgumentParser, level: int = 2) -> str:
    """Usage and options of a parser and of its subcommands, as Markdown."""
    os.environ["COLUMNS"] = "90"  # argparse folds lines to the terminal, and a site has none
    parts = ["" if level == 2 else f"{'#' * level} {parser.prog}\n", f"```text\n{parser.format_usage().strip()}\n```\n"]
    rows, below = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                below.append(f"{command_line(child, level + 1)}".replace("\n", f"\n\n{helps.get(name, '')}.\n", 1))
        elif not isinstance(action, argparse._HelpAction):
            rows.append(f"| {_spelling(action)} | {_help(action, parser.prog)} |")
    if rows:
        parts.append("| argument | |\n|---|---|\n" + "\n".join(rows) + "\n")
    if parser.epilog:
        parts.append(f"```text\n{parser.epilog}\n```\n")
    return "\n".join(parts + below)


def _spelling(action: argparse.Action) -> str:
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else None)
    value = str(value or (action.dest.upper() if action.option_strings else action.dest))
    takes = "" if action.nargs == 0 else value
    return f"`{' '.join([', '.join(action.option_strings), takes]).strip()}`".replace("|", r"\|")


def _help(action: argparse.Action, prog: str) -> str:
    text = (action.help or "") % {**vars(action), "prog": prog} if action.help else ""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("*", r"\*")


def _outside(here: str, markdown: str) -> Iterator[str]:
    for link in LINK.findall(markdown):
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(here), link))
        if "://" not in link and not target.startswith(("docs/", "..")) and (ROOT / target).is_file():
            yield target


def _place(name: str) -> str:
    """Where on the site a file of the repository lies."""
    if "/" not in name and name.endswith(".md"):
        return f"project/{name.lower()}"
    return f"source/{name}.md" if Path(name).suffix in SHOWN_AS_CODE else f"source/{name}"
