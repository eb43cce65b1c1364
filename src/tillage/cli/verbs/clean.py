"""`tillage clean`."""

from __future__ import annotations

from tillage.cli.answer import Answer, Writing
from tillage.core.text import size
from tillage.flow.clean import clean as remove
from tillage.flow.clean import find_waste


def clean(*, common: Writing = Writing()) -> Answer:
    """Free the disk of what no dataset version needs: stages of old runs and trials, samples.

    What versions of datasets were made from stays: the rows that `why` tells of, and the finished stages with
    which the next run over more files begins. Runs over what is removed start from the beginning.
    """
    waste = find_waste(common.space) if common.dry_run else remove(common.space)
    folders = [str(folder) for folder in waste.folders]
    would = "would free" if common.dry_run else "freed"
    said = f"{would} {size(waste.bytes)} in {len(folders)} folders of {common.space.root}"
    shown = [f"  {folder}" for folder in folders] if common.dry_run else []
    data = {"dry_run": common.dry_run, "bytes": waste.bytes, "folders": folders}
    return Answer(data, [said, *shown])
