"""Raw rows from files, and datasets of prepared ones."""
