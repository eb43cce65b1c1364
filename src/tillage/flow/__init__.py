"""Recipes: checked, compiled to lazy queries, run in stages, accounted for and committed."""
