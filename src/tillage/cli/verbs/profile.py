"""`tillage profile DATA...`."""

from __future__ import annotations

from pathlib import Path

from tillage.agent.goal import Target, read_target
from tillage.cli.answer import Answer, Writing, dry
from tillage.cli.inputs import sources_of
from tillage.cli.live import watch
from tillage.cli.views import profile_view
from tillage.core.errors import UserError
from tillage.core.workspace import write_atomic
from tillage.data.chat import ChatForm
from tillage.data.profile import profile as measure
from tillage.flow.sample import take_sample


def profile(
    *data: Path,
    sample: int = 8000,
    seed: int = 0,
    text_field: str = "text",
    domain_field: str | None = None,
    chat: ChatForm | None = None,
    target: Path | None = None,
    target_field: str = "text",
    out: Path | None = None,
    common: Writing = Writing(),
) -> Answer:
    """Say what raw data holds: fields, domains, languages, lengths, duplicates, quality.

    Args:
        data: files or folders: JSONL (.gz, .zst), Parquet, CSV, text.
        sample: rows to measure, drawn by a hash of their ids.
        seed: another seed draws another sample.
        text_field: the field that holds the text.
        domain_field: the field that holds the domain.
        chat: the records are chats in this layout.
        target: texts that the model should be good at; the profile tells how the data relates to them.
        target_field: the field of the target that holds its texts.
        out: also write the profile here, as JSON.
    """
    if not data:
        raise UserError("profile what?", expected="files or folders: tillage profile DATA...")
    sources = sources_of(data, text_field, domain_field, chat)
    if common.dry_run:
        files = sum(len(source.files()[1]) for source in sources)
        return dry(
            f"profile a sample of {sample} rows of {files} files",
            [common.space.root, *([out] if out else [])],
        )
    texts = None
    if target is not None:
        texts = [d.text for d in read_target(Target(path=(str(target),), text_field=target_field))]
    with watch(common.json) as log:
        common.space.check_writable()
        found = measure(take_sample(sources, common.space, sample, seed), texts, log)
    if out is not None:
        write_atomic(out, found.model_dump_json(indent=1) + "\n")
    return Answer(found.model_dump(mode="json"), profile_view(found.model_dump(mode="json")))
