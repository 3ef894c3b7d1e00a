#!/usr/bin/env bash
# Guess, written down first: structural_similarity of scikit-image, without data_range, takes floats in [0, 1]
# to have a range of 1, as its other functions do, and says so where it cannot know.
# Found: up to 0.19 it takes 2 for any floats, from the limits of the type, -1 to 1, and says nothing. The
# constants of the measure grow by four, and the similarity of the same two pictures is higher: two blurred
# dots, three pixels apart, have 0.912 and not 0.884. From 0.20 on it asks for data_range.
# Why it matters here: published tables of video prediction (Moving MNIST: OpenSTL's model zoo and those who
# copy its rows) were computed with such a version and without data_range. An SSIM of one's own, by any other
# library or a newer version, is lower for the same frames and must not be set beside them.
# Output seen: scikit-image 0.19.3, numpy 1.23.5, Python 3.10:
#   default 0.9123, data_range=2 0.9123, data_range=1 0.8844
# Needs Python 3.8 to 3.10, for which 0.19.3 has wheels: PYTHON=python3.10 names it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.10}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.19.3 numpy==1.23.5
cat > "$folder/ssim.py" <<'PY'
import warnings

import numpy as np
import skimage
from skimage.metrics import structural_similarity

warnings.simplefilter("error")  # there is none
y, x = np.mgrid[:64, :64]
one, other = (np.exp(-((x - place) ** 2 + (y - 30) ** 2) / 80) for place in (24, 27))
assert one.dtype == np.float64 and 0 <= one.min() and one.max() <= 1
default = structural_similarity(one, other)
by_range = {size: structural_similarity(one, other, data_range=size) for size in (1.0, 2.0)}
print(f"scikit-image {skimage.__version__}, numpy {np.__version__}: default {default:.4f}, "
      f"data_range=2 {by_range[2.0]:.4f}, data_range=1 {by_range[1.0]:.4f}")
assert default == by_range[2.0] and f"{default:.4f}" == "0.9123" and f"{by_range[1.0]:.4f}" == "0.8844"
PY
"$folder/venv/bin/python" "$folder/ssim.py"
