"""Draw the comparison of the builders as SVG, readable on light and dark pages."""

from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from builders import BAKE, OURS, PLAIN
from figures import Summaries, Summary
from table import format_seconds

ORDER = (PLAIN, BAKE, OURS)
WIDTH, LEFT, RIGHT, EDGE = 860, 250, 150, 8
"""Widths in pixels: the picture, the names left of the bars, the numbers right of them, the margin."""
BAR, GAP, GROUP, TOP, BOTTOM = 20, 4, 54, 60, 40
STYLE = """\
text { font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.group { font-weight: 600 }
.soft { fill: #57606a }
.other { fill: #afb8c1 }
.ours { fill: #0969da }
.figure { font-variant-numeric: tabular-nums }
.won { font-weight: 600; fill: #0969da }
.rule { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .soft { fill: #9198a1 }
  .other { fill: #545d68 }
  .ours { fill: #4493f8 }
  .won { fill: #4493f8 }
  .rule { stroke: #3d444d }
}"""


def draw_bars(found: Summaries, titles: Mapping[str, str], caption: str) -> str:
    """Return an SVG with three bars for each scenario. The slowest builder of a scenario has the longest bar."""
    shown = {name: contenders for name, contenders in found.items() if set(ORDER) <= contenders.keys()}
    height = TOP + len(shown) * (3 * (BAR + GAP) + GROUP) - GROUP // 2 + BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(_text_alternative(shown, titles), {chr(34): "&quot;"})}">',
        f"<style>\n{STYLE}\n</style>",
        f'<text class="title" x="{EDGE}" y="24">How long it takes: lower is better</text>',
    ]
    top = TOP
    for name, contenders in shown.items():
        lines += _group(titles[name], contenders, top)
        top += 3 * (BAR + GAP) + GROUP
    lines.append(f'<text class="soft" x="{EDGE}" y="{height - 12}">{escape(caption)}</text>')
    return "\n".join([*lines, "</svg>\n"])


def _group(title: str, contenders: Mapping[str, Summary], top: int) -> Iterator[str]:
    slowest = max(contenders[who].median or 0 for who in ORDER)
    yield f'<text class="group" x="{EDGE}" y="{top}">{escape(title.replace("`", ""))}</text>'
    yield f'<line class="rule" x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{top + 8}" y2="{top + 8}"/>'
    ours = contenders[OURS].median or slowest
    for place, who in enumerate(ORDER):
        taken, y = contenders[who].median, top + 18 + place * (BAR + GAP)
        length = max(2.0, (WIDTH - LEFT - RIGHT) * taken / slowest) if taken else 0.0
        mine = who == OURS
        yield f'<text x="{LEFT - 12}" y="{y + 15}" text-anchor="end">{escape(who)}</text>'
        kind = "ours" if mine else "other"
        yield f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="3"/>'
        factor = "" if mine or not taken else f" · {format_seconds(taken / ours)}×"
        figure = f"{format_seconds(taken)} s{factor}" if taken else "breaks"
        yield (f'<text class="figure{" won" if mine else ""}" x="{LEFT + length + 8:.1f}" y="{y + 15}">{figure}</text>')


def _text_alternative(shown: Summaries, titles: Mapping[str, str]) -> str:
    """Return the numbers of the picture as text, for screen readers."""
    return "; ".join(
        f"{titles[name].replace('`', '')}: " + ", ".join(f"{who} {format_seconds(all_[who].median)} s" for who in ORDER)
        for name, all_ in shown.items()
    )
