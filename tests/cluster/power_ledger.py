"""What a log must say after a power cut, by what its writer had begun and had acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

#: Of `examples/power_cut/control.rs`.
KEYS = 64

Words = list[str]


class LostWriteError(AssertionError):
    """Something that was acknowledged is not there, or something is there that never was."""


@dataclass
class Journal:
    """What a writer has printed."""

    found: list[Words] = field(default_factory=list)
    #: Number of each thing that was begun, and what it was, in order.
    begun: list[tuple[int, Words]] = field(default_factory=list)
    #: Numbers that were acknowledged before the cut.
    acknowledged: list[int] = field(default_factory=list)
    #: Numbers that were acknowledged during the cut. They promise nothing: see `power_cuts`.
    late: list[int] = field(default_factory=list)
    is_open: bool = False

    @classmethod
    def read(cls, path: Path, *, before_cut: int | None = None) -> Journal:
        """Reads what was printed; so many bytes of it were there before the cut. None: all."""
        journal = cls()
        whole, _, _ = path.read_text().rpartition("\n")
        at = 0
        for line in whole.splitlines():
            at += len(line) + 1
            match line.split():
                case ["found", *words]:
                    journal.found.append(words)
                case ["open"]:
                    journal.is_open = True
                case ["+", number, *words]:
                    journal.begun.append((int(number), words))
                case ["=", number]:
                    is_late = before_cut is not None and at > before_cut
                    (journal.late if is_late else journal.acknowledged).append(int(number))
                case _:
                    raise AssertionError(f"the writer printed {line!r}")
        return journal


class Ledger:
    """What is promised of one directory, over all its lives."""

    def __init__(self) -> None:
        #: Writes that were acknowledged, all in all.
        self.acknowledged = 0
        #: Writes that were acknowledged while the power went, and how many of these are not there.
        self.late = 0
        self.late_lost = 0
        self.lives = 0

    def next_life(self) -> Words:
        """What the next writer is told, beside what all are."""
        self.lives += 1
        return ["--life", str(self.lives)]

    def note(self, journal: Journal) -> None:
        """Takes down what a life has begun and acknowledged."""
        self.acknowledged += len(journal.acknowledged)
        self.late += len(journal.late)
        answered = [*journal.acknowledged, *journal.late]
        assert len(answered) == len(set(answered)), "acknowledged twice"

    def check(self, found: Sequence[Words]) -> None:
        """Compares with what is there; from now on that is promised.

        Raises:
            LostWriteError: It says what nobody promised.
        """
        raise NotImplementedError


class PlainLedger(Ledger):
    """Of a file to which numbers are appended."""

    def __init__(self) -> None:
        super().__init__()
        self.promised = 0
        self.begun = 0
        self._late: list[int] = []

    def note(self, journal: Journal) -> None:
        super().note(journal)
        self.promised = max([self.promised, *journal.acknowledged])
        self.begun = max([self.begun, *(number for number, _ in journal.begun)])
        self._late = journal.late

    def check(self, found: Sequence[Words]) -> None:
        [[last]] = found
        self._settle(int(last))

    def _settle(self, last: int) -> None:
        if last < self.promised:
            raise LostWriteError(f"{self.promised} acknowledged, {last} there")
        if last > self.begun:
            raise LostWriteError(f"{self.begun} begun, {last} there")
        self.late_lost += sum(number > last for number in self._late)
        self._late = []
        self.promised = self.begun = last


class ControlLedger(PlainLedger):
    """Of a control log: numbers put under a fixed set of keys, in turn."""

    def __init__(self) -> None:
        super().__init__()
        self._term = 0
        #: First number of each life.
        self._firsts: list[tuple[int, int]] = []

    def next_life(self) -> Words:
        words = super().next_life()
        self._firsts.append((self.promised + 1, self.lives))
        return [*words, "--from", str(self.promised + 1)]

    def check(self, found: Sequence[Words]) -> None:
        [[term], *values] = found
        if int(term) <= self._term:
            raise LostWriteError(f"it leads in term {term}, and led in {self._term} before")
        self._term = int(term)
        there = {int(number): int(life) for number, life in values}
        last = max(there, default=0)
        self._settle(last)
        wanted = {at: self._life_of(at) for at in range(max(1, last - KEYS + 1), last + 1)}
        if there != wanted:
            raise LostWriteError(f"up to {last} there is {there}, and should be {wanted}")

    def _life_of(self, number: int) -> int:
        # A life begins behind what the one before has left, so that the newest one counts.
        return max(life for first, life in self._firsts if first <= number)


@dataclass
class RaftLogState:
    """What a Raft log says: term of the vote, last index that was purged, entries by index."""

    term: int = 0
    purged: int = 0
    entries: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Sequence[Words]) -> RaftLogState:
        [[term, purged], *lines] = found
        rows = ([int(word) for word in line] for line in lines)
        return cls(int(term), int(purged), {row[0]: (row[1], row[2], row[3]) for row in rows})

    def take(self, words: Words, life: int) -> None:
        """Takes a step."""
        what, first, *rest = words[0], int(words[1]), *map(int, words[2:])
        match what, rest:
            case "vote", []:
                self.term = first
            case "truncate", []:
                self.entries = {at: one for at, one in self.entries.items() if at <= first}
            case "purge", []:
                self.purged = first
                self.entries = {at: one for at, one in self.entries.items() if at > first}
            case "append", [term, number, count]:
                more = {first + at: (term, number + at, life) for at in range(count)}
                self.entries.update(more)
            case _:
                raise AssertionError(f"the writer took an unknown step: {words}")


class RaftLogLedger(Ledger):
    """Of the log below Raft: it is one stream, so it says what it said after some step.

    That step is the last one that was acknowledged, or one that was begun since.
    """

    def __init__(self) -> None:
        super().__init__()
        self._promised = RaftLogState()
        #: Steps that were begun behind that, and whether they were acknowledged late.
        self._begun: list[tuple[Words, bool]] = []
        self._next_number = 1

    def next_life(self) -> Words:
        return [*super().next_life(), "--from", str(self._next_number)]

    def note(self, journal: Journal) -> None:
        super().note(journal)
        last = max(journal.acknowledged, default=0)
        for step, words in journal.begun:
            if words[0] == "append":
                self._next_number = max(self._next_number, int(words[3]) + int(words[4]))
            if step <= last:
                self._promised.take(words, self.lives)
            else:
                self._begun.append((words, step in journal.late))

    def check(self, found: Sequence[Words]) -> None:
        there = RaftLogState.of(found)
        state = self._promised
        for steps in self._come_true(state):
            if state == there:
                self.late_lost += sum(is_late for _, is_late in self._begun[steps:])
                self._begun.clear()
                return
        # What is left in `state` is what all that was begun would have made.
        raise LostWriteError(
            f"it says {_in_short(there)}; were all there that was begun: {_in_short(state)}; "
            f"not acknowledged: {self._begun}"
        )

    def _come_true(self, state: RaftLogState) -> Iterator[int]:
        """Takes one step after the other; gives how many."""
        yield 0
        for steps, (words, _) in enumerate(self._begun, 1):
            state.take(words, self.lives)
            yield steps


def _in_short(state: RaftLogState) -> str:
    vote = f"term {state.term}, purged {state.purged}"
    if not state.entries:
        return f"{vote}, no entry"
    first, last = min(state.entries), max(state.entries)
    return f"{vote}, entries {first} to {last}, the last one {state.entries[last]}"


#: By what `power_cut` calls them.
LEDGERS: dict[str, type[Ledger]] = {
    "raft-log": RaftLogLedger,
    "single-voter": ControlLedger,
    "replicated": ControlLedger,
    "plain": PlainLedger,
}
