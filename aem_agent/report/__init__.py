"""Building blocks of self-contained HTML reports, for evaluation and training."""

from aem_agent.report.charts import Bar, Series, bar_chart, line_chart
from aem_agent.report.episodes import badge, episode_view, outcome
from aem_agent.report.html import Markup, escape, join, page, paragraph, table, tag, tiles

__all__ = [
    "Bar",
    "Markup",
    "Series",
    "badge",
    "bar_chart",
    "episode_view",
    "escape",
    "join",
    "line_chart",
    "outcome",
    "page",
    "paragraph",
    "table",
    "tag",
    "tiles",
]
