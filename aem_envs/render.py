"""Episodes as terminal text and as a self-contained HTML page. Every text is hostile: see `sanitize`."""

from collections.abc import Iterable

from aem_envs.sanitize import for_html, plain

Exchange = tuple[str | None, str]
"""An action (None for `reset`) and the observation it brought."""

_STYLE = """
body{max-width:46rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:#1d2733}
h1{font-size:1.2rem} li{margin:.8rem 0} p{margin:.2rem 0;white-space:pre-wrap;overflow-wrap:anywhere}
.action{font-family:ui-monospace,monospace;color:#0b5cad} .action::before{content:"> "}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}.action{color:#7db7f0}}
"""


def ansi(action: str | None, observation: str) -> str:
    """One exchange for a terminal."""
    head = "" if action is None else f"> {plain(action)}\n"
    return f"{head}{plain(observation)}\n"


def page(title: str, exchanges: Iterable[Exchange]) -> str:
    """A whole episode as one HTML document without scripts or outside references."""
    items = "\n".join(
        f"<li>{'' if action is None else f'<p class=action>{for_html(action)}</p>'}<p>{for_html(observation)}</p></li>"
        for action, observation in exchanges
    )
    name = for_html(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f"<style>{_STYLE}</style></head>\n"
        f'<body><h1>{name}</h1>\n<ol start="0">\n{items}\n</ol></body></html>\n'
    )
