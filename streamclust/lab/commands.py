"""The lab's commands: their arguments, and one function each; nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamclust.console import Entry

if TYPE_CHECKING:
    from streamclust.core.specs import ProfileSpec
    from streamclust.lab.data import Reading


def entries() -> tuple[Entry, ...]:
    """Return the commands of the lab."""
    data = "DATA: recordings (miniSEED, SAC, WAV, ...), globs, directories, an SDS archive root; or windows.npz."
    return (
        Entry(
            "fit", "cluster recordings or windows and write a model", "streamclust fit day.mseed --out model",
            f"{data} Numbers and choices that are not given are made, and told.", _fit_arguments, _fit,
        ),
        Entry(
            "assign", "give each window its cluster by a model", "streamclust assign new/*.mseed --model model --out events.csv",
            f"{data} Windows in arrays have no times: their start and end only number them, from 1971 on.", _assign_arguments, _assign,
        ),
        Entry(
            "evaluate", "say how good a model's clusters are", "streamclust evaluate windows.npz --model model --json",
            "With labels (y in windows.npz): ACC, balanced ACC, NMI, ARI. Without: silhouette, Davies-Bouldin, stability.",
            _evaluate_arguments, _evaluate,
        ),
        Entry(
            "pretrain", "train an encoder by a recipe", "streamclust pretrain recipes/seismic.yaml --data recordings --out encoder",
            "Recipes are in the repository. After Ctrl-C the same command with --resume goes on and ends with the same weights.", _pretrain_arguments, _pretrain,
        ),
        Entry(
            "bench", "compare the clustering methods on labelled data", "streamclust bench labelled --out quality.md",
            "Without DATA_DIR only scikit-learn's digits are used. Results are kept as they come: Ctrl-C loses little.", _bench_arguments, _bench,
        ),
    )  # fmt: skip


def _data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", nargs="+", metavar="DATA", help="what to read")
    sub.add_argument(
        "--group-by", choices=("channel", "station"), default="channel", help="what is one window (channel)"
    )
    sub.add_argument(
        "--max-gap", type=_not_negative, default=0.0, metavar="S", help="gaps up to this are interpolated (0)"
    )


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print one JSON value, for programs")


def _model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", type=Path, required=True, metavar="DIR", help="a model that fit has written")


def _fit_arguments(sub: argparse.ArgumentParser) -> None:
    _data(sub)
    sub.add_argument("--profile", default="auto", metavar="P", help="a built-in profile, or auto (auto)")
    sub.add_argument("--clusters", type=_clusters, default="auto", metavar="K", help="their number, or auto (auto)")
    sub.add_argument("--method", default="auto", metavar="NAME", help="a method's name, or auto (auto)")
    sub.add_argument("--seed", type=_seed, default=0, metavar="S", help="of every random choice (0)")
    sub.add_argument("--time-budget", type=_positive, metavar="S", help="seconds after which training stops (none)")
    sub.add_argument("--no-report", action="store_true", help="write no report.html")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the model goes")
    _json(sub)


def _assign_arguments(sub: argparse.ArgumentParser) -> None:
    _data(sub)
    _model(sub)
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .csv, .jsonl or .parquet file")
    _json(sub)


def _evaluate_arguments(sub: argparse.ArgumentParser) -> None:
    _data(sub)
    _model(sub)
    sub.add_argument("--seed", type=_seed, default=0, metavar="S", help="of the halves of stability (0)")
    _json(sub)


def _pretrain_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("recipe", type=Path, metavar="RECIPE", help="what to train, and on what (YAML)")
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="what the recipe's globs are relative to")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="encoder, card and checkpoint")
    sub.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    _json(sub)


def _bench_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("data", nargs="?", type=Path, metavar="DATA_DIR", help="a directory of labelled windows (*.npz)")
    sub.add_argument("--sets", type=_names, metavar="A,B", help="only sets with such names, or parts of names")
    sub.add_argument("--methods", type=_names, metavar="A,B", help="only these methods; baselines always run")
    sub.add_argument("--seeds", type=_count, default=5, metavar="N", help="runs of each (5)")
    sub.add_argument("--quick", action="store_true", help="one seed, and a few hundred windows of each set")
    sub.add_argument("--jobs", type=_count, metavar="N", help="processes (one a core)")
    sub.add_argument("--out", type=Path, metavar="FILE.md", help="where the tables go; done runs are not repeated")
    _json(sub)


def _number(text: str, least: float, *, above: bool) -> float:
    value = float(text)
    if not (least < value if above else least <= value) or value == float("inf"):
        raise argparse.ArgumentTypeError(f"must be {'greater than' if above else 'at least'} {least:g} (got {text})")
    return value


def _positive(text: str) -> float:
    """Argument type: a number > 0."""
    return _number(text, 0, above=True)


def _not_negative(text: str) -> float:
    """Argument type: a number >= 0."""
    return _number(text, 0, above=False)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most} (got {text})")
    return int(text)


def _seed(text: str) -> int:
    """Argument type: a whole number >= 0."""
    return _whole(text, 0, 2**32 - 1)


def _count(text: str) -> int:
    """Argument type: a whole number > 0."""
    return _whole(text, 1, 1000)


def _names(text: str) -> list[str]:
    """Argument type: names with commas between."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _clusters(text: str) -> int | str:
    """Argument type: ``auto``, or a number of clusters."""
    return text if text == "auto" else _whole(text, 2, 1000)


def _reading(args: argparse.Namespace) -> Reading:
    from streamclust.core.errors import UsageError
    from streamclust.core.specs import WindowsSpec
    from streamclust.lab.data import Reading

    if args.max_gap > 60:
        raise UsageError(f"--max-gap: must be at most 60 seconds (got {args.max_gap:g})")
    return Reading(WindowsSpec(group_by=args.group_by, max_gap=args.max_gap))


def _profile(name: str) -> ProfileSpec | None:
    from streamclust.core.auto_profile import named
    from streamclust.core.errors import UsageError
    from streamclust.core.profiles import PROFILES

    if name == "auto":
        return None
    found = named(name)
    if found is None:
        raise UsageError(f"--profile: must be auto or one of {', '.join(sorted(PROFILES))} (got {name})")
    return found


def _fit(args: argparse.Namespace) -> int:
    from streamclust.console import say, say_json
    from streamclust.lab import fitting

    asked = fitting.Asked(
        data=tuple(args.data), profile=_profile(args.profile), reading=_reading(args), clusters=args.clusters,
        method=args.method, seed=args.seed, time_budget_s=args.time_budget, out=args.out, page=not args.no_report,
    )  # fmt: skip
    summary = fitting.run(asked)
    if args.json:
        say_json(summary)
    else:
        say(fitting.text(summary))
    return 0


def _assign(args: argparse.Namespace) -> int:
    from streamclust.console import say, say_json
    from streamclust.core.clock import SystemClock
    from streamclust.lab import models, tables
    from streamclust.lab.data import open_data
    from streamclust.lab.progress import bars
    from streamclust.model.score import Scorer
    from streamclust.stream.events import scored

    bundle = models.read(args.model)
    write = tables.writer(args.out, bundle.clusters)
    opened = open_data(args.data, bundle.profile, _reading(args))
    scorer, clock = Scorer(bundle, bundle.profile, models.NOVEL_ABOVE), SystemClock()
    with bars() as report:
        count = write(scored(batch, scorer, None, clock.now_ns()) for batch in opened.batches(report))
    if args.json:
        say_json({"windows": count, "out": str(args.out), "rejects": list(opened.rejects)})
    else:
        say("\n".join([*opened.rejects, f"{count:,} windows in {args.out}"]))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from streamclust.console import say, say_json
    from streamclust.lab import models
    from streamclust.lab.data import load
    from streamclust.lab.fitting import scores_of
    from streamclust.lab.progress import bars

    bundle = models.read(args.model)
    with bars() as report:
        data = load(args.data, bundle.profile, _reading(args), report=report)
    scores = scores_of(bundle, data, args.seed)
    if args.json:
        say_json(scores)
    else:
        lines = [f"{name:<16} {_shown(value)}" for name, value in scores.items()]
        say("\n".join([*data.rejects, *data.notes, *lines]))
    return 0


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _pretrain(args: argparse.Namespace) -> int:
    from streamclust.console import say, say_json
    from streamclust.core.errors import UsageError
    from streamclust.lab.progress import bars
    from streamclust.train.pretrain import pretrain

    for name, path in (("RECIPE", args.recipe), ("--data", args.data)):
        if not path.exists():
            raise UsageError(f"{name}: must exist (got {path})")
    try:
        with bars() as report:
            card = pretrain(args.recipe, args.data, args.out, resume=args.resume, report=report)
    except KeyboardInterrupt:
        if any(args.out.glob("checkpoint.*")):
            raise KeyboardInterrupt("the same command with --resume goes on after the last whole epoch") from None
        raise
    if args.json:
        say_json(card)
        return 0
    numbers = card["numbers"]
    say(
        f"{numbers['epochs']} epochs, stopped by: {numbers['stop']}\n"
        f"unexplained variance of held-back windows {numbers['validation_unexplained_variance']:.3f}\n"
        f"encoder {args.out / card['name']}.safetensors, card {args.out / card['name']}.md"
    )
    return 0


def _bench(args: argparse.Namespace) -> int:
    from streamclust.console import say, say_json
    from streamclust.lab import bench
    from streamclust.lab.progress import bars

    asked = bench.Asked(args.seeds, args.sets, args.methods, args.quick, args.jobs, args.out)
    with bars() as report:
        found = bench.run(args.data, asked, report)
    if args.json:
        say_json(bench.as_json(found))
    else:
        say(bench.table(found))
    return 130 if found.interrupted else 0
