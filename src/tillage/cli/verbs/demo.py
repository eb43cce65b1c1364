"""`tillage demo`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tillage.cli.answer import Answer, Writing, dry
from tillage.cli.live import logged
from tillage.cli.views import end_of_loop
from tillage.core.events import Result
from tillage.loop.demo import DemoOptions
from tillage.loop.demo import demo as work
from tillage.report.log import Log
from tillage.report.page import build


def demo(
    *,
    seed: int = 0,
    megabytes: Annotated[float, Parameter(validator=Number(gte=5))] = 40.0,
    common: Writing = Writing(),
) -> Answer:
    """Do the main job from end to end on text that this machine already has.

    The installed Python packages are the corpus, their documentation the target: profile, plan, verify,
    prepare, train, feed back, plan again, report.

    Args:
        seed: another seed draws another sample, another split and other models.
        megabytes: text to draw from the machine, at least 5.
    """
    folder = common.space.run(f"demo-s{seed}")
    page = folder / "report.html"
    if common.dry_run:
        does = f"draw {megabytes:g} MB of text from the installed packages and do the whole job on it"
        return dry(does, [common.space.datasets, common.space.stores, folder, page])
    with logged("demo", folder, seed, common.json) as log:
        done = work(DemoOptions(workspace=common.space, seed=seed, megabytes=megabytes), log)
    results = Log.read(folder).all(Result)
    build(folder, page)
    return end_of_loop(done, results, page, seed)
