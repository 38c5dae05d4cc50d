"""Converts the files of a published data set to a cohort: `remind data import …` (docs/importing.md).

Each importer is a frozen settings class and one function that returns a `Summary`:

=========== ======================= ===========================================================
embed       `embed.import_embed`    mammograms: four views of a breast, breast density
mimic-iv    `mimic_iv.import_mimic` notes, labs and vitals, diagnoses; mortality
fprm        `fprm.import_fprm`      fundus, blood-flow video, oxygen map, table; health grade
=========== ======================= ===========================================================
"""
