"""What the demo says at its end: a table, what its rows are, and one sentence.

Guarantees: the sentence claims nothing that the numbers beside it do not say.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...units import format_size
from .. import screen
from .contest import Score
from .reference import Reference

MIB = 1 << 20


def show(scores: Sequence[Score], reference: Reference, thread_count: int, notes: Sequence[str]) -> None:
    """Print it all."""
    out = screen.out()
    read = format_size(reference.member_bytes * thread_count)
    title = f"{_threads(thread_count)}, each reading all of {reference.what}: {read} in all"
    screen.say(out, f"{title}\n", style="bold")
    table = screen.table()
    table.add_column("")
    for heading in ("seconds", "requests", "MiB downloaded", "wrong members"):
        table.add_column(heading, justify="right")
    for score in scores:
        table.add_row(*row(score, reference, thread_count))
    out.print(table)
    out.print()
    for score in scores:
        screen.say(out, f"  {score.contender.name}: {score.contender.is_what}", style="dim")
        if score.error is not None:
            screen.say(out, f"  {score.contender.name} failed: {score.error}", style="dim")
    for note in notes:
        screen.say(out, f"  {note}", style="dim")
    screen.say(out, f"\n{sentence(scores, reference, thread_count)}", style="bold")


def row(score: Score, reference: Reference, thread_count: int) -> tuple[str, str, str, str, str]:
    """One contender's line."""
    wrong = f"{score.wrong_members:,}"
    if score.was_stopped or score.error is not None:
        why = "stopped" if score.was_stopped else "failed"
        percent = 100 * score.checked_members // max(1, len(reference.members) * thread_count)
        wrong += f" ({why}, at {percent} %)"
    cost = score.cost
    return (
        score.contender.name,
        f"{score.seconds:.1f}",
        f"{cost.requests:,}",
        f"{cost.downloaded_bytes / MIB:,.1f}",
        wrong,
    )


def sentence(scores: Sequence[Score], reference: Reference, thread_count: int) -> str:
    """What was shown, in one sentence.  The first score is pagein's."""
    wrong = [score for score in scores if score.wrong_members]
    if wrong:
        counts = ", ".join(f"{score.contender.name} {score.wrong_members:,}" for score in wrong)
        return f"WRONG BYTES: members that differ from the original: {counts}."
    ours = scores[0]
    read, fetched = format_size(reference.member_bytes * thread_count), format_size(ours.cost.downloaded_bytes)
    text = f"Every byte was right: through pagein, {_threads(thread_count)} read {read} and fetched {fetched}"
    finished = [score for score in scores[1:] if not (score.was_stopped or score.error)]
    most = max(finished, key=lambda score: score.cost.requests, default=ours)
    if most.cost.requests > ours.cost.requests:
        text += f", in {ours.cost.requests:,} requests instead of the {most.cost.requests:,} of {most.contender.name}"
    return f"{text}."


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
