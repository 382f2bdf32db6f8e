"""What the drift benchmark measured, as Markdown tables and small SVG drawings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drift_stream import COMES, DAYS, FIRST_DAYS, GOES, GROWS, RETURNS

from streamclust.lab.charts import LIGHT, Frame, axes, line, svg

Run = Mapping[str, Any]
BEGIN, END = "<!-- drift -->", "<!-- end of drift -->"
WEEKS = [1 + FIRST_DAYS // 7 + at for at in range((DAYS - FIRST_DAYS) // 7)]


def fragment(runs: Sequence[Run], out: Path | None) -> None:
    """Print the tables, or put them between the marks of a Markdown file, with a drawing for each set beside it."""
    text = "\n\n".join([_summary(runs), *(_of_set(runs, name) for name in _sets(runs))])
    if out is None:
        sys.stdout.write(text + "\n")
        return
    folder = out.parent / "drift"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for name in _sets(runs):
        (folder / f"{name}.svg").write_text(_drawn(runs, name))
        pictures.append(f"![{name}: adjusted Rand index by week](drift/{name}.svg)")
    whole = out.read_text() if out.is_file() else f"{BEGIN}\n{END}\n"
    before, _, rest = whole.partition(BEGIN)
    after = rest.partition(END)[2]
    out.write_text(f"{before}{BEGIN}\n{text}\n\n" + "\n".join(pictures) + f"\n{END}{after}")


def _sets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run["set"] for run in runs))


def _summary(runs: Sequence[Run]) -> str:
    seeds = len({run["seed"] for run in runs})
    return f"Means over {len(_sets(runs))} sets and {seeds} seeds; in brackets the least and the greatest run.\n\n{_table(runs)}"


def _of_set(runs: Sequence[Run], name: str) -> str:
    some = [run for run in runs if run["set"] == name]
    outcomes = [run["retrains"]["outcomes"] for run in some]
    refused, made = (sum(one.get(kind, 0) for one in outcomes) for kind in ("refused", "promoted"))
    windows = ", ".join(str(run["windows"]) for run in some)
    return f"**{name}** ({windows} windows): {made} models, {refused} candidates refused by the gate.\n\n{_table(some)}"


def _table(runs: Sequence[Run]) -> str:
    head = "| | ARI, mean of the weeks | windows with the first id of their class, % | windows that keep their id, % | worst week, % | new classes found | days to find one | old id after the return |"
    rows = [head, "|---|--:|--:|--:|--:|--:|--:|--:|"]
    for name in runs[0]["methods"]:
        of = [run["methods"][name] for run in runs]
        found = [value for one in of for value in one["found"].values()]
        days = [left if after is None else after for after, left in found]  # restricted mean: Royston, Parmar 2013
        cells = [
            _spread([float(np.mean(one["ari"])) for one in of], "{:.2f}".format),
            _spread(
                [100 * float(np.nanmean(one["lasting"])) for one in of if np.isfinite(one["lasting"]).any()],
                "{:.0f}".format,
            ),
            _spread([100 * float(np.nanmean(one["kept"])) for one in of], "{:.0f}".format),
            f"{100 * min(float(np.nanmin(one['kept'])) for one in of):.0f}",
            f"{sum(after is not None for after, _ in found)} of {len(found)}",
            f"{np.mean(days):.0f}" if days else "-",
            f"{sum(one['returned'] for one in of)} of {len(of)}",
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(values: Sequence[float], text: Callable[[float], str]) -> str:
    if not values:
        return "-"
    mean, least, most = text(float(np.mean(values))), text(min(values)), text(max(values))
    return mean if least == most else f"{mean} ({least} to {most})"


def _drawn(runs: Sequence[Run], name: str) -> str:
    """Draw the mean ARI by week, one line a method, and when something happens to the classes."""
    frame = Frame((WEEKS[0], WEEKS[-1]), (0.0, 1.0), 560, 260)
    parts = [_STYLE, axes(frame, "week", "adjusted Rand index, mean of the seeds")]
    events = ((COMES, "comes"), (GOES, "goes"), (GROWS, "grows"), (RETURNS, "returns"))
    for day, text in events:
        x = frame.at_x(1 + day / 7)
        parts.append(f'<path class="event" d="M{x:.1f} 12V{frame.height - frame.bottom}"/>')
        parts.append(f'<text x="{x + 2:.1f}" y="10">{text}</text>')
    names = list(runs[0]["methods"])
    for at, method in enumerate(names):
        curves = [run["methods"][method]["ari"] for run in runs if run["set"] == name]
        mean = np.clip(np.mean(curves, axis=0), 0, 1).tolist()
        colour = LIGHT[at % len(LIGHT)]
        parts.append(line(frame, WEEKS, mean, f"m{at}{' ours' if method == 'streamclust' else ''}"))
        parts.append(f'<text x="572" y="{24 + 17 * at}" style="fill:{colour}">{method}</text>')
    drawn = svg(790, 260, "".join(parts), f"{name}: adjusted Rand index by week, one line a method")
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" ', 1) + "\n"


_STYLE = (
    "<style>"
    + "".join(
        f".m{at}.line{{fill:none;stroke:{colour};stroke-width:1.5}}.m{at}.dot{{fill:{colour}}}"
        for at, colour in enumerate(LIGHT)
    )
    + "text{font:11px sans-serif;fill:#222}.axis{stroke:#222;fill:none}.grid{stroke:#ddd;fill:none}"
    ".event{stroke:#999;stroke-dasharray:3 3;fill:none}.ours.line{stroke-width:3}</style>"
)
