"""NET-POL-018: does this suite read the published sample policy for what it is?"""

from __future__ import annotations

from analysis.policy.sample import SAMPLE, Reading, read_sample
from analysis.verdict import Finding, Verdict, conclude


def judge_sample(reading: Reading | None = None) -> Verdict:
    """NET-POL-018: all of its rules are dead, so that it isolates the pods that it selects, from DNS too."""
    reading = reading or read_sample()
    subject = f"{SAMPLE.name} of the published guide"
    return conclude(
        expected="the published sample policy is read as one that isolates everything: no rule alive, DNS blocked",
        examined=reading.rules,
        what="rules of the sample",
        violations=()
        if reading.isolates_everything
        else [
            Finding(
                subject,
                "all rules dead, everything denied both ways, DNS blocked",
                reading.sentence,
                "what is said of your policies by this version of the suite is not to be relied on",
            )
        ],
        remedy="report this as a defect of the suite",
        warnings=(f"{subject}: {reading.sentence}",) if reading.isolates_everything else (),
    )
