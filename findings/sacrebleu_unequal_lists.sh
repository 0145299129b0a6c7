#!/usr/bin/env bash
# sacrebleu 2.6.0: corpus_bleu with more translations than references, as when a loader drops the last batch of one side.
# Guess: an error that names both lengths.
# What happens: a score. Translations beyond the end of the references are left out, so a bad second half does not count.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check sacrebleu==2.6.0
"$folder/env/bin/python" - <<'PYTHON'
import sys

import sacrebleu

good, bad = "the cat sat on the mat today", "nothing here is right at all"
score = sacrebleu.corpus_bleu([good, bad], [[good]]).score
print("sacrebleu", sacrebleu.__version__)
print("two translations, one reference:", round(score, 1), "; both, with two references:",
      round(sacrebleu.corpus_bleu([good, bad], [[good, good]]).score, 1))
sys.exit(not score > 99)
PYTHON
