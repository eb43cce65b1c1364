"""One module a verb, imported only when the verb is used, so that `tillage --help` stays quick."""
