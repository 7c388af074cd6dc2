"""What was found, and what could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Problems, with the place they are in; what was checked, and what was not."""

    problems: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    # What no tool here could ever check.
    beyond: list[str] = field(default_factory=list)

    def problem(self, place: str, message: str) -> None:
        line = f"{place}: {message}"
        # The same fault of a base shows in every overlay; each place is told once.
        if line not in self.problems:
            self.problems.append(line)

    def require(self, holds: object, place: str, message: str) -> bool:
        if not holds:
            self.problem(place, message)
        return bool(holds)

    def print(self) -> None:
        for line in self.checked:
            print(f"checked: {line}")
        for line in self.unchecked + self.beyond:
            print(f"not checked: {line}")
        for line in self.problems:
            print(f"problem: {line}")
        print(f"{len(self.problems)} problem(s)")
