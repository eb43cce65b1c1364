"""One module a section of the page: each takes the log and gives markup, or None with nothing to show."""
