"""Turns a goal and evidence into recipes that were verified by running them."""
