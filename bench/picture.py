"""The figures as bars, in SVG: one panel for each workload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

from bench.figures import Report

_WIDTH = 860
_LEFT = 170
_BAR = 14
_STEP = 20
_HEAD = 44
_LONGEST = _WIDTH - _LEFT - 90

_OURS, _OTHERS, _LIMIT = "#1f6feb", "#8b949e", "#d0d7de"


def draw(reports: Mapping[str, Report]) -> str:
    """One picture of all reports that have bars."""
    parts: list[str] = []
    top = 0
    for report in reports.values():
        if report.bars:
            parts += _panel(report, top)
            top += _HEAD + _STEP * len(report.bars)
    height = top + 16
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
            f' viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _panel(report: Report, top: int) -> Iterable[str]:
    title = f"{report.title}; {report.unit}"
    yield f'<text x="8" y="{top + 28}" font-weight="bold">{escape(title)}</text>'
    most = max(bar.value for bar in report.bars)
    for number, bar in enumerate(report.bars):
        at = top + _HEAD - 6 + number * _STEP
        colour = _OURS if bar.ours else _LIMIT if bar.name.startswith("limit") else _OTHERS
        length = max(1.0, _LONGEST * bar.value / most)
        text = at + _BAR - 3
        yield f'<text x="{_LEFT - 8}" y="{text}" text-anchor="end">{escape(bar.name)}</text>'
        yield (f'<rect x="{_LEFT}" y="{at}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>')
        yield f'<text x="{_LEFT + length + 6:.1f}" y="{text}">{bar.value:,.0f}</text>'
