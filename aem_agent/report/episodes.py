"""Episodes as collapsible HTML: what was seen, said, done, and what came back."""

from aem_agent.report.html import Markup, escape, join, tag
from aem_agent.types import Episode, Turn
from aem_envs.sanitize import cut

MAX_TEXT, MAX_LINE = 20_000, 500
"""Characters of one text, and of one that stands in a line, shown at most; the record keeps the rest."""


def outcome(episode: Episode) -> tuple[str, str]:
    """(word, style class) for how an episode ended: won, lost, cut off or error, kept apart."""
    if episode.error is not None:
        return "error", "warn"
    if episode.won:
        return "won", "good"
    return ("cut off", "soft") if episode.truncated else ("lost", "bad")


def badge(word: str, style: str) -> Markup:
    """A small coloured label; `style` is one of good, bad, warn, soft."""
    return tag("span", word, class_=f"badge {style}")


def _block(label: str, text: str) -> Markup:
    return join(tag("div", label, class_="label"), tag("pre", cut(text, MAX_TEXT)))


def turn_view(turn: Turn, index: int) -> Markup:
    """One turn, folded to its action and reward."""
    flags = [
        badge("no action found", "bad") if not turn.format_valid else "",
        badge("not accepted", "warn") if turn.format_valid and not turn.action_valid else "",
        badge(f"{turn.dropped_turns} turns left out", "soft") if turn.dropped_turns else "",
        badge(f"reward {turn.reward:g}", "good" if turn.reward > 0 else "bad") if turn.reward else "",
    ]
    summary = tag(
        "summary", tag("span", index, class_="index"), tag("code", cut(turn.action, MAX_LINE) or "(empty)"), " ", *flags
    )
    facts = [] if turn.response.finish_reason == "stop" else [f"response cut: {turn.response.finish_reason}"]
    if turn.response.token_ids:
        facts.append(f"{len(turn.prompt_token_ids)} prompt tokens, {len(turn.response.token_ids)} response tokens")
    if turn.format_error:
        facts.append(f"parser: {cut(turn.format_error, MAX_LINE)}")
    if turn.info.get("action_error"):
        facts.append(f"environment: {cut(str(turn.info['action_error']), MAX_LINE)}")
    body = [_block("observation", turn.observation), _block("response", turn.response.text)]
    if turn.action != turn.response.text:
        body.append(_block("action", turn.action))
    if facts:
        body.append(tag("div", " · ".join(facts), class_="label"))
    return tag("details", summary, *body, class_="turn")


def episode_view(episode: Episode, *, number: int | None = None, open_: bool = False) -> Markup:
    """One episode, folded to a line that begins with its `number`; `open_` unfolds it (its turns stay folded)."""
    word, style = outcome(episode)
    line = [
        f"{len(episode.turns)} steps",
        f"return {episode.return_:g}",
        *([f"truncated: {cut(str(episode.truncation_reason), MAX_LINE)}"] if episode.truncated else []),
        *([cut(episode.task_type, MAX_LINE)] if episode.task_type else []),
        *([f"attempt {episode.repeat + 1}"] if episode.repeat else []),
    ]
    note = tag("span", " · ".join(line), class_="soft")
    index = tag("span", number, class_="index") if number is not None else ""
    summary = tag("summary", index, badge(word, style), tag("code", cut(episode.task_id, MAX_LINE)), " ", note)
    turns = [turn_view(turn, i) for i, turn in enumerate(episode.turns, 1)]
    end = [_block("final observation", episode.final_observation)] if episode.final_observation else []
    error = [_block("error", episode.error)] if episode.error else []
    return Markup(
        f'<details class="episode"{" open" if open_ else ""}>{escape(join(summary, *error, *turns, *end))}</details>'
    )
