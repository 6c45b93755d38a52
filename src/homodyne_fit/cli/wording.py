"""Small things that several commands say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from homodyne_fit.errors import InputError

__all__ = ["by_section", "counted", "explanation", "ranges", "reasons", "table"]

PLURALS = {"matrix": "matrices"}


def counted(number: int, noun: str) -> str:
    """The number and the noun, in the plural where there is not one."""
    return f"{number} {noun if number == 1 else PLURALS.get(noun, noun + 's')}"


def by_section(paths: Iterable[str]) -> str:
    """Dotted paths in one line, those of a section together: ``section: key, key; other``."""
    sections: dict[str, list[str]] = {}
    for path in paths:
        section, _, key = path.rpartition(".")
        sections.setdefault(section, []).append(key)
    return "; ".join(
        f"{section}: {', '.join(keys)}" if section else ", ".join(keys)
        for section, keys in sections.items()
    )


def reasons(ignored: Iterable[tuple[str, str]]) -> list[str]:
    """Keys without effect, given as (dotted path, reason): a line for each reason."""
    grouped: dict[str, list[str]] = {}
    for path, reason in ignored:
        grouped.setdefault(reason, []).append(path)
    return [f"{by_section(paths)} ({reason})" for reason, paths in grouped.items()]


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in one line, those that follow each other as a range: ``1, 4–6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines, the columns flush right and two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def explanation(error: BaseException) -> str:
    """What an error says to a user; one that nobody foresaw is called a fault of the program."""
    match error:
        case InputError():
            return str(error)
        case KeyboardInterrupt():
            return ": ".join(filter(None, ["interrupted", str(error)]))
        case MemoryError():
            return f"not enough memory: {error}"
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} (a fault of homodyne_fit; -v shows where)"
