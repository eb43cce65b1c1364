"""What verification found wrong with a candidate, typed so that `repair` knows what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tillage.core.events import EventLog, Json, Verified
from tillage.flow.check import Code as ContractCode
from tillage.flow.check import Finding as ContractFinding

Rung = Literal["contract", "sample", "distribution", "effect"]
AgentCode = Literal[
    "forbidden_operator",
    "unknown_operator",
    "repeated_step",
    "invalid_step",
    "run_failed",
    "accounts_unbalanced",
    "retention_low",
    "drops_everything",
    "changes_nothing",
    "contaminated",
    "away_from_target",
    "harmful",
    "budget_spent",
]
FindingCode = AgentCode | ContractCode
RUNGS: tuple[Rung, ...] = ("contract", "sample", "distribution", "effect")
"""From cheap to dear; a candidate that fails one climbs no further."""


@dataclass(frozen=True)
class Finding:
    """One fault. `code` selects the repair (`tillage.agent.repair.REPAIRS`); `step` is the id of the step at
    fault, if one is."""

    rung: Rung
    code: FindingCode
    step: str
    message: str
    hint: str = ""

    @classmethod
    def of_contract(cls, finding: ContractFinding) -> Finding:
        return cls("contract", finding.code, finding.step, finding.message, finding.hint)

    def __str__(self) -> str:
        return f"{self.code}: {self.step}: {self.message}" if self.step else f"{self.code}: {self.message}"


@dataclass(frozen=True)
class RungResult:
    """The verdict of one rung. `evidence` are the measured figures, JSON values."""

    rung: Rung
    findings: list[Finding]
    evidence: Json = field(default_factory=dict[str, object])
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.findings

    def emit(self, candidate: str, log: EventLog | None) -> None:
        if log is not None:
            first = self.findings[0] if self.findings else None
            log.emit(
                Verified(
                    candidate,
                    self.rung,
                    self.passed,
                    self.evidence,
                    "; ".join(map(str, self.findings)),
                    first.hint if first else "",
                    round(self.seconds, 3),
                )
            )
