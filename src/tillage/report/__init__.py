"""From the event log to pages and tables: `page.build` writes one HTML file, `table` ends a terminal run."""
