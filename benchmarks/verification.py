"""Faults that `joma scan --verify` finds in series of saved steps, and false alarms in honest series.

The series are real training runs of small models on the text that ships with Python. Faults are planted in one step of
each, at a random place. A fault counts as caught if its step is a suspect; a false alarm is an error in a series
without a fault. Aims: 9 of 10 of every kind, no error in an honest series.

    python benchmarks/verification.py --folder FOLDER [--series 10] [--read whole] [--only WORDS] [--json]

FOLDER keeps the training runs (about 20 minutes on two cores) for the next time.
"""

import argparse
import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "measure")]

from planted_faults import FAULTS, MISSING, TOKENIZER, Base, write, write_tokenizers  # noqa: E402
from small_trainings import HONEST, Training, kept  # noqa: E402

from joma.measure.scan import samples  # noqa: E402
from joma.measure.scan.verification import Verification, verify  # noqa: E402
from joma.saved.series import open_series  # noqa: E402
from table import machine, print_json, show  # noqa: E402

DEPTHS = (6, 12)
FAMILIES = ("gpt_neox", "gpt2", "llama")
READ = {"whole": (samples.WHOLE, samples.SHARE), "tenth": (0, samples.SHARE), "hundredth": (0, samples.SHARE / 10)}
"""Largest series that is read whole, and the share that is read of larger ones; a hundredth is read on a hub."""

AIM = 0.9


def base(depth: int, number: int, folder: Path) -> Base:
    """Return one of the honest series that faults are planted in."""
    gap, rate = (2, 5, 10, 20)[number % 4], (1e-3, 3e-4, 3e-3)[number // 2 % 3]
    settings = {"num_layers": depth, "steps": tuple(range(0, 20 * gap, gap)), "rate": rate}
    family = FAMILIES[number % len(FAMILIES)]
    one, other = (Training(family, seed=seed, **settings) for seed in (number, number + 1000))
    return Base(one, kept(one, folder), kept(other, folder))


def verified(series: dict, tokenizer_of: int | None = None) -> Verification:
    """Write a series and verify it."""
    with tempfile.TemporaryDirectory() as folder:
        write(series, Path(folder))
        if tokenizer_of is not None:
            write_tokenizers(Path(folder), series, tokenizer_of)
        return verify(open_series(folder))


def planted(kind: str, base: Base, chance: random.Random) -> tuple[int, Verification]:
    """Plant a fault in a series, and return its step and what was found."""
    series, step = dict(base.series), chance.choice(sorted(base.series))
    if kind == MISSING:
        step = chance.choice(sorted(series)[1:-1])
        del series[step]
    elif kind != TOKENIZER:
        FAULTS[kind](base, series, step, chance)
    return step, verified(series, step if kind == TOKENIZER else None)


def caught(arguments: argparse.Namespace) -> Iterator[dict]:
    """Yield for each kind of fault how often it was caught, and what was found instead."""
    kinds = [kind for kind in (*FAULTS, MISSING, TOKENIZER) if arguments.only in kind]
    for kind, depth in itertools.product(kinds, DEPTHS):
        row = {"kind": kind, "depth": depth, "caught": 0, "errors": 0, "of": arguments.series, "missed": []}
        for number in range(arguments.series):
            step, found = planted(kind, base(depth, number, arguments.folder), random.Random(f"{kind} {number}"))
            here = [suspect for suspect in found.rows if suspect.step == step]
            row["caught"] += bool(here)
            row["errors"] += any(suspect.severity == "error" for suspect in here)
            if not here:
                row["missed"].append([number, step, [[other.step, other.kind] for other in found.rows]])
        print(f"{kind}, {depth} layers: {row['caught']} of {row['of']}", file=sys.stderr, flush=True)
        yield row


def honest(arguments: argparse.Namespace) -> Iterator[dict]:
    """Yield what was found in each honest series."""
    bases = {f"{depth} layers, {number}": (depth, number) for depth in DEPTHS for number in range(arguments.series)}
    runs = HONEST | {name: base(*where, arguments.folder).training for name, where in bases.items()}
    for name, training in runs.items():
        found = verified(kept(training, arguments.folder))
        rows = [[row.step, row.kind, row.severity, row.evidence] for row in found.rows]
        yield {"name": name, "rows": rows, "read": found.bytes_read / found.bytes_stored}


def main() -> None:
    """Print the table of faults and false alarms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="keeps the training runs")
    parser.add_argument("--series", type=int, default=10, help="series of each kind and depth")
    parser.add_argument("--read", choices=list(READ), default="whole", help="how much of a series may be read")
    parser.add_argument("--only", default="", help="only kinds of faults with these words; 'honest' for none")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    samples.WHOLE, samples.SHARE = READ[arguments.read]
    place = machine()
    alarms = list(honest(arguments)) if arguments.only in ("", "honest") else []
    faults = list(caught(arguments))
    if arguments.json:
        print_json({"faults": faults, "honest": alarms, "aim": AIM, "machine": place})
        return
    rows: list[tuple[str, ...] | None] = []
    for kind, pair in itertools.groupby(faults, key=lambda row: row["kind"]):
        rows.append((kind, *(f"{row['caught']} of {row['of']} ({row['errors']} errors)" for row in pair)))
    for severity in ("error", "warning") if alarms else ():
        num = sum(any(row[2] == severity for row in alarm["rows"]) for alarm in alarms)
        rows.append((f"honest series with a false {severity}", f"{num} of {len(alarms)}", ""))
    show(f"Faults caught, read: {arguments.read}", ("fault in one step", *(f"{n} layers" for n in DEPTHS)), rows, place)


if __name__ == "__main__":
    main()
