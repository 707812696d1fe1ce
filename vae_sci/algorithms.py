"""Version of each room's algorithm: raise it when the same input would give another output.

The workflow passes it to every rule as a parameter, because Snakemake does not see changes inside
an imported package. Kept apart from the rooms, so that reading it loads nothing heavy.
"""

SIMULATE = 1
INDEX = 4
FLAT_FIELD = 2
TILES = 7
SELECT = 2
TRAIN = 8
EMBED = 3
GENERATE = 3
PHENOTYPES = 5
SCORES = 1
MORPH = 2
DIAGNOSTICS = 3
FIGURES = 8
EXPLORER = 1
