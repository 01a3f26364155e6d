"""The page of the estimators: its code runs, from the first block to the last, on photos like those that it names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import make
from tests.ecosystem.toy import CLASSES, LOOK, forward_passes
from tests.test_docs import ROOT, blocks


@pytest.mark.slow
def test_page__its_code_runs(cache: Path, tmp_path: Path) -> None:
    make.class_folders(tmp_path / "photos", dict.fromkeys(CLASSES, 12))
    make.write(tmp_path / "new.jpg", make.jpeg(kind=1, seed=9_999))
    told = "\n".join(blocks(ROOT / "docs" / "scikit-learn.md", "python"))
    story = re.sub(r"(HeadwayClassifier|HeadwayFeatures)\(", rf"\1(**{LOOK!r}, ", told)  # the same on a tiny network

    done = subprocess.run([sys.executable, "-c", story], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("['circle' 'square' 'triangle']")
    assert lines[1].startswith("['square'] [[")
    assert "{'computed': 0, 'reused': 36}" in lines
    assert lines[-1].startswith("(3, ")
    assert "32 of 32" in lines
    assert forward_passes(cache) == 36 + 1 + 32  # all photos, the new one, and those that torch holds a bundle against
