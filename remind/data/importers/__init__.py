"""From the files of a published data set to a cohort of ours: `remind data import …` (docs/importing.md).

Each importer is a frozen record of settings and one function from it to a `Summary`:

=========== ======================= ===========================================================
embed       `embed.import_embed`    mammograms: four views of a breast, breast density
mimic-iv    `mimic_iv.import_mimic` notes, labs and vitals, diagnoses; mortality
fprm        `fprm.import_fprm`      fundus, blood-flow video, oxygen map, table; health grade
=========== ======================= ===========================================================
"""
