"""Files that are replaced whole."""

from __future__ import annotations

from pathlib import Path

from hubel.files import replacing


def test_a_name_may_be_as_long_as_the_system_takes(tmp_path: Path) -> None:
    target = tmp_path / f"{'漢' * 80}.hubel"  # 246 bytes of the 255 that a name may have
    with replacing(target) as file:
        file.write(b"whole")
        (temporary,) = tmp_path.glob(".*.tmp")
        assert temporary.parent == target.parent
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_bytes() == b"whole"
