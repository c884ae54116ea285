"""Deploy the function through Tencent Cloud's API, from the one description in ``serverless.yml``.

``description`` reads what is wanted, with its ``triggers`` and ``values``, and ``cloud`` what is deployed; ``plan`` compares the
two field by field, and ``deployer`` carries a plan out step by step. ``env_variables`` checks that the variables which the
description refers to and those of ``.env`` agree, and ``contradictions`` that its settings fit the rest of it. Sources: SCF API 2018-04-16 (583/17237 and the models of its SDK).
"""
