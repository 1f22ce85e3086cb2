import asyncio
import sys
from pathlib import Path

import pytest

from tests.unit.asr.audio_files import KINDS

ROOT = Path(__file__).parents[3]
VARIANTS = 60


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wav u8", "wav s24", "wav s32", "wav f64")])
async def test_damaged_files_are_decoded_or_refused(kind):
    """Neither a crash nor a hang, whatever is in the file; the last seed on stderr is the culprit."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.asr.audio_fuzzing",
        kind,
        "0",
        str(VARIANTS),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode(errors="replace")[-2_000:]
    assert output.endswith(b"accepted\n")
