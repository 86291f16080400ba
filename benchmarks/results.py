"""The results as a file: facts, load, samples; and what tables ask of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.bench import Sample
from benchmarks.statistics import Spread, ratio

Value = Callable[[Sample], float | None]


def value_of(name: str) -> Value:
    """Return what reads one value of a sample."""
    return lambda sample: sample.values.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One run."""

    facts: Mapping[str, Any]
    load_before: Mapping[str, float]
    load_after: Mapping[str, float]
    rounds: int
    samples: Sequence[Sample]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `write` wrote."""
        told = json.loads(path.read_text(encoding="utf-8"))
        samples = [Sample(**sample) for sample in told.pop("samples")]
        return cls(samples=samples, **told)

    def write(self, path: Path) -> None:
        """Write the file, with one sample a line, so that a diff can be read."""
        told = asdict(self)
        samples = ",\n".join(f"    {json.dumps(sample)}" for sample in told.pop("samples"))
        head = json.dumps(told, indent=2).removesuffix("\n}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{head},\n  "samples": [\n{samples}\n  ]\n}}\n', encoding="utf-8")

    def of(self, scenario: str) -> "Table":
        """Return the samples of one scenario."""
        return Table([sample for sample in self.samples if sample.scenario == scenario])


class Table:
    """The samples of one scenario, by case and variant."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.cases = list(dict.fromkeys(sample.case for sample in self._by_round()))
        self.variants = list(dict.fromkeys(sample.variant for sample in self._by_round()))

    def _by_round(self) -> list[Sample]:
        # The first round was made in the order in which tables show it.
        return [sample for sample in self.samples if sample.round == 0]

    def cell(self, case: str, variant: str) -> list[Sample]:
        """Return what was measured of one variant in one case, one a round."""
        return [s for s in self.samples if (s.case, s.variant) == (case, variant)]

    def spread(self, case: str, variant: str, value: Value) -> Spread | None:
        """Summarise one value over all rounds."""
        return Spread.of(value(sample) for sample in self.cell(case, variant))

    def ratio(self, case: str, variant: str, base: str, value: Value) -> Spread | None:
        """Summarise the ratio to the base of the same round."""
        bases = {sample.round: value(sample) for sample in self.cell(case, base)}
        cell = self.cell(case, variant)
        return Spread.of(ratio(value(sample), bases.get(sample.round)) for sample in cell)
