"""Prepares the data that language models train on, and trains with it, as one measured loop."""

import os

__version__ = "0.1.0"

# The engine phones home and draws bars unless told not to before it is imported: this is the first import.
for _name, _value in {
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "DAFT_SHOW_QUERY_ID": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)
