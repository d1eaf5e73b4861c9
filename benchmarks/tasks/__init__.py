"""Real data as tasks: token graphs, a label for every datum, and where the class lives, for the final figure only.

One file per source. To add a task, write a file with ``load(shared, seed) -> Task`` and name it in `catalogue.py`.
"""
