"""The frame of a self-contained HTML page: its style in light and dark, tables, sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, isfinite, log10
from typing import Any

from streamclust.lab import charts

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What the page may load: nothing."""

LISTED = 40
"""Items of a list that are shown."""

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f8;--text:#1b1f23;--dim:#57606a;--rule:#d0d7de;--warn:#8a3b00;
--warnbg:#fff4e8;--link:#0550ae;LIGHT}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1d2125;--text:#e6e9ec;--dim:#a0a8b0;--rule:#3a4148;
--warn:#ffb77a;--warnbg:#33230f;--link:#79b8ff;DARK}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:24px 20px 60px;background:var(--bg);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:40px 0 8px;padding-bottom:4px;border-bottom:1px solid var(--rule)}
h3{font-size:16px;margin:0;overflow-wrap:anywhere}
p{max-width:78ch;margin:6px 0}
a{color:var(--link)}
nav{margin:10px 0 0;font-size:14px;display:flex;flex-wrap:wrap;gap:2px 14px}nav a{white-space:nowrap}
.dim{color:var(--dim)}
.warn{background:var(--warnbg);color:var(--warn);border-left:4px solid;padding:8px 14px;margin:14px 0}
.warn ul{margin:4px 0;padding-left:20px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;margin:8px 0}
th,td{text-align:left;padding:4px 16px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:anywhere}
th{font-weight:600;color:var(--dim)}
th[scope=row]{overflow-wrap:normal;max-width:22ch}
.scroll th,.scroll td{overflow-wrap:normal}
.scroll .words{min-width:17ch}
.scroll td>svg:not(.swatch){min-width:110px}
td.num,th.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.best td{font-weight:600}
.row{display:flex;flex-wrap:wrap;gap:20px;align-items:flex-start}
.cluster{background:var(--card);border-radius:8px;padding:14px 16px;margin:14px 0}
.cluster .facts{margin:2px 0 10px;color:var(--dim);font-size:14px;max-width:none;overflow-wrap:anywhere}
.cluster>.row{gap:14px;flex-wrap:nowrap}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,132px);gap:10px 12px;flex:1;min-width:0}
@media (max-width:620px){.cluster>.row{flex-wrap:wrap}.thumbs{flex-basis:100%}}
figure{margin:0}
figcaption{font-size:12px;line-height:1.35;color:var(--dim);overflow-wrap:anywhere}
.thumbs img{display:block;width:132px;height:82px;image-rendering:pixelated}
.thumbs figcaption{width:132px}
svg{display:block;max-width:100%;height:auto}
svg text{fill:var(--dim);font-size:12px;font-family:inherit}
svg.swatch{display:inline-block;vertical-align:-1px;margin-right:6px}
.axis{fill:none;stroke:var(--dim)}.grid{fill:none;stroke:var(--rule);stroke-width:.6}
.line{fill:none;stroke-width:2}.cloud{opacity:.8}
.chosen{fill:none;stroke:var(--text);stroke-width:1.5;stroke-dasharray:5 4}
.none.fill{fill:var(--dim);opacity:.5}.wave{fill:var(--dim)}
.accent.line{stroke:var(--link)}.accent.dot,.bar{fill:var(--link)}
.pale.line{stroke:var(--dim);stroke-dasharray:2 3}.pale.dot{fill:var(--dim)}
.gap{fill:var(--rule);shape-rendering:crispEdges}
image{image-rendering:pixelated}
.legend{list-style:none;margin:0;padding:0;font-size:14px;columns:240px;}
.legend li{break-inside:avoid;overflow-wrap:anywhere}
KINDS
@media print{body{max-width:none}.cluster{break-inside:avoid}}
"""


def style() -> str:
    """Style sheet; class `kN` is colour N, in light and dark."""
    light = "".join(f"--k{at}:{colour};" for at, colour in enumerate(charts.LIGHT))
    dark = "".join(f"--k{at}:{colour};" for at, colour in enumerate(charts.DARK))
    kinds = "".join(
        f".k{at}.fill{{fill:var(--k{at})}}.k{at}.line{{stroke:var(--k{at})}}.k{at}.dot{{fill:var(--k{at})}}"
        for at in range(charts.COLOURS)
    )
    return _STYLE.replace("LIGHT", light).replace("DARK", dark).replace("KINDS", kinds)


def page(title: str, head: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Return the whole page.

    Parameters
    ----------
    title
        Plain text.
    head
        HTML before the sections.
    sections
        Id, title (plain text) and HTML of each; those without HTML are left out.
    """
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text, _ in shown)
    body = "".join(f'<section id="{name}"><h2>{escape(text)}</h2>{inner}</section>' for name, text, inner in shown)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style()}</style></head>"
        f"<body><header><h1>{escape(title)}</h1>{head}<nav>{links}</nav></header><main>{body}</main></body></html>\n"
    )


def table(rows: Sequence[Mapping[str, Any]], best: int | None = None) -> str:
    """Rows of the same columns; row `best` is stressed, and says so."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name: all(_is_number(row.get(name)) for row in rows) for name in names}
    kind = {name: ' class="num"' if numeric[name] else "" for name in names}
    head = "".join(f'<th scope="col"{kind[name]}>{escape(str(name))}</th>' for name in names)
    lines = []
    for at, row in enumerate(rows):
        cells = "".join(f"<td{kind[name]}>{text(row.get(name))}</td>" for name in names)
        note = "" if best is None else f"<td>{'chosen' if at == best else ''}</td>"
        lines.append(f'<tr class="best">{cells}{note}</tr>' if at == best else f"<tr>{cells}{note}</tr>")
    last = '<th scope="col"></th>' if best is not None else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}{last}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def pairs(values: Sequence[tuple[str, Any]]) -> str:
    """Names and values, one pair a row."""
    rows = "".join(f'<tr><th scope="row">{escape(str(name))}</th><td>{text(value)}</td></tr>' for name, value in values)
    return f"<table>{rows}</table>" if rows else ""


def text(value: Any) -> str:
    """Return a value as escaped text; mappings and lists become nested tables and lines."""
    if value is None or value == "":
        return '<span class="dim">none</span>'
    if isinstance(value, Mapping):
        return pairs(list(value.items()))
    if isinstance(value, (list, tuple)):
        more = [f"and {len(value) - LISTED:,} more"] if len(value) > LISTED else []
        return "<br>".join([*map(text, value[:LISTED]), *more]) if value else text(None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, 4)
    return escape(str(value))


def number(value: float, digits: int = 3) -> str:
    """Return a number as people write it: so many digits, commas between thousands, no exponent unless it is tiny or huge.

    >>> number(1783.4), number(0.01234), number(999.7), number(2.5e-14)
    ('1,780', '0.0123', '1,000', '2.5e-14')
    """
    if not isfinite(value) or value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    after = digits - 1 - floor(log10(abs(value)))
    written = f"{round(value, after):,.{max(0, after)}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
